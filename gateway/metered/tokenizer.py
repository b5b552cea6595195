"""Measures a prompt's text: the count of OpenAI's tokenizer, and the features that other tokenizers count differently.

Rule: the GIL is held for some milliseconds at a time, never for a whole prompt.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple, Protocol

from gateway.metered.weight import Texts, growth, prompt_texts

# The tokenizer holds the GIL: a piece takes half a millisecond, the worst one (a line of `=`) nine.
_PIECE_CHARS = 16_384

_OTHER = re.compile(r"[^\x00-\x7f]+")
_DIGITS = re.compile(r"[0-9]{2,}")
# Capitals within words, for which one tokenizer has few tokens.
_CAPITALS = re.compile(r"(?<=[A-Za-z_])[A-Z]+")
_REPEATS = re.compile(r"([^\s0-9])\1{3,}")
_SPACES = re.compile(r" {16,}")
_FEEDS = re.compile(r"\t{2,}|\n{2,}|\r{2,}")
_CHANGES = re.compile(r" (?=[\t\r\n])|\t(?=[ \r\n])|\n(?=[ \t\r])|\r(?=[ \t\n])")


class Measure(NamedTuple):
    """The measure of a text, independent of the model. `tokens`: o200k's count; `ascii_tokens`: of its ASCII part.

    Other tokenizers may need more tokens for: `digits` (one each); `capitals` within words; `repeats` of one character;
    `blanks` in runs; `other_bytes`, those of non-ASCII characters after expansion. Templates add marks around `values`
    and `objects`.
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
    """Return o200k, None if its package is not installed. The first call takes half a second."""
    try:
        # The package's Python class keeps a second copy of the vocabulary, and counts by building a list.
        # The package opens its files in a deprecated way, which would fail the request if warnings are errors.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            from bpe_openai import _bindings  # type: ignore[import-untyped]
    except ImportError:
        return None
    tokenizer: _Tokenizer = _bindings.tokenizer_for_encoding("o200k_base")
    return tokenizer


def measured(document: Mapping[str, object]) -> Measure | None:
    """Return the measure of a body's prompt; None without a tokenizer. Slow: call it in a thread."""
    return measured_text(prompt_texts(document))


def measured_text(found: Texts) -> Measure | None:
    """Return the common measure of texts; None without a tokenizer."""
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
    """Return the most tokens of repeated characters: one for each letter, one for five signs of a line."""
    length = run.end() - run.start()
    return length if run[1].isalpha() else -(-length // 4)


def _blanks(piece: str) -> int:
    """Return the most tokens of runs of blanks, each one token in o200k: 16 spaces, 4 others, or a change of blank."""
    spaces = sum(len(run) // 16 for run in _SPACES.findall(piece))
    return spaces + sum(-(-len(run) // 4) for run in _FEEDS.findall(piece)) + len(_CHANGES.findall(piece))


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + _PIECE_CHARS] for at in range(0, len(text), _PIECE_CHARS))
