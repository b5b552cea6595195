"""What the text of a prompt measures: what OpenAI's tokenizer makes of it, and what others would count differently.

Rule: Python's lock is held for some milliseconds at a time, never for a whole prompt.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple, Protocol

from gateway.metered.weight import Texts, growth, prompt_texts

# The tokenizer holds Python's lock: a piece takes half a millisecond, the worst one (a rule of `=`) nine.
_PIECE_CHARS = 16_384

_OTHER = re.compile(r"[^\x00-\x7f]+")
_DIGITS = re.compile(r"[0-9]{2,}")
# Capitals that begin no word: one tokenizer has few pieces for them.
_CAPITALS = re.compile(r"(?<=[A-Za-z_])[A-Z]+")
_REPEATS = re.compile(r"([^\s0-9])\1{3,}")
_SPACES = re.compile(r" {16,}")
_FEEDS = re.compile(r"\t{2,}|\n{2,}|\r{2,}")
_CHANGES = re.compile(r" (?=[\t\r\n])|\t(?=[ \r\n])|\n(?=[ \t\r])|\r(?=[ \t\n])")


class Measure(NamedTuple):
    """A text, whatever its model. `tokens`: o200k's count of all of it, `ascii_tokens`: of its ASCII part.

    What other tokenizers may take beyond that: `digits`, where each is a token; `capitals` within words; `repeats` of
    one character; `blanks`, in runs; `other_bytes`, those outside ASCII, written out. `values` and `objects` are what
    a template puts marks round.
    """

    tokens: int = 0
    ascii_tokens: int = 0
    digits: int = 0
    capitals: int = 0
    repeats: int = 0
    blanks: int = 0
    other_bytes: int = 0
    values: int = 0
    objects: int = 0


class _Tokenizer(Protocol):
    def count(self, text: str) -> int: ...


@cache
def _tokenizer() -> _Tokenizer | None:
    """Return o200k, None where its package is not installed. The first time takes half a second."""
    try:
        # Its Python side keeps a second copy of the vocabulary, and counts by making a list.
        # It opens its files in a way that Python 3.11 warns of, which would fail the request where warnings are errors.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            from bpe_openai import _bindings  # type: ignore[import-untyped]
    except ImportError:
        return None
    tokenizer: _Tokenizer = _bindings.tokenizer_for_encoding("o200k_base")
    return tokenizer


def measured(document: Mapping[str, object]) -> Measure | None:
    """Return what the prompt of a body measures; None where there is no tokenizer. For a thread: it takes its time."""
    return measured_text(prompt_texts(document))


def measured_text(found: Texts) -> Measure | None:
    """Return what texts measure together; None where there is no tokenizer."""
    tokenizer = _tokenizer()
    if tokenizer is None:
        return None
    sums = [0] * 7
    for piece in _pieces("\n".join(found.texts)):
        for at, amount in enumerate(_measured(tokenizer, piece)):
            sums[at] += amount
    return Measure(*sums)._replace(values=found.values, objects=found.objects)


def _measured(tokenizer: _Tokenizer, piece: str) -> tuple[int, ...]:
    tokens = ascii_tokens = tokenizer.count(piece)
    other_bytes = 0
    if not piece.isascii():
        others = "".join(_OTHER.findall(piece))
        other_bytes = len(others.encode()) + growth(others)
        piece = _OTHER.sub("\n", piece)
        ascii_tokens = tokenizer.count(piece)
    return (
        tokens,
        ascii_tokens,
        sum(len(run) - -(-len(run) // 3) for run in _DIGITS.findall(piece)),
        sum(map(len, _CAPITALS.findall(piece))),
        sum(_repeated(run) for run in _REPEATS.finditer(piece)),
        _blanks(piece),
        other_bytes,
    )


def _repeated(run: re.Match[str]) -> int:
    """Return the tokens of one character in a row: a letter may be one each, of a rule five make one."""
    length = run.end() - run.start()
    return length if run[1].isalpha() else -(-length // 4)


def _blanks(piece: str) -> int:
    """Return the tokens of blanks where o200k makes one of a run: sixteen spaces, four others, and each change."""
    spaces = sum(len(run) // 16 for run in _SPACES.findall(piece))
    return spaces + sum(-(-len(run) // 4) for run in _FEEDS.findall(piece)) + len(_CHANGES.findall(piece))


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + _PIECE_CHARS] for at in range(0, len(text), _PIECE_CHARS))
