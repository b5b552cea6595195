"""What the text of a prompt measures: what OpenAI's tokenizer makes of it, and what others would count differently.

Rule: Python's lock is held for some milliseconds at a time, never for a whole prompt.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple, Protocol

from gateway.metered.weight import Texts, prompt_texts

# The tokenizer holds Python's lock: a piece takes half a millisecond, the worst one (a rule of `=`) nine.
_PIECE_CHARS = 16_384

_OTHER = re.compile(r"[^\x00-\x7f]+")
_DIGITS = re.compile(r"[0-9]{2,}")
_BLANKS = re.compile(r"[ \t\r\n]{8,}")


class Measure(NamedTuple):
    """A prompt's text, whatever its model. `tokens`: o200k's count of all of it, `ascii_tokens`: of its ASCII part.

    `digits`: how many more tokens there are where each digit is one; `blanks`: the same for runs of blanks;
    `other_bytes`: bytes outside ASCII; `values`, `objects`: what templates put marks round.
    """

    tokens: int
    ascii_tokens: int
    digits: int
    blanks: int
    other_bytes: int
    values: int
    objects: int


class _Tokenizer(Protocol):
    def count(self, text: str) -> int: ...


@cache
def _tokenizer() -> _Tokenizer | None:
    """Return o200k, None where its package is not installed. The first time takes half a second."""
    try:
        # Its Python side keeps a second copy of the vocabulary, and counts by making a list.
        from bpe_openai import _bindings  # type: ignore[import-untyped]
    except ImportError:
        return None
    tokenizer: _Tokenizer = _bindings.tokenizer_for_encoding("o200k_base")
    return tokenizer


def measured(document: Mapping[str, object]) -> Measure | None:
    """Return what the prompt of a body measures; None where there is no tokenizer. For a thread: it takes its time."""
    tokenizer = _tokenizer()
    if tokenizer is None:
        return None
    return _measured(tokenizer, prompt_texts(document))


def _measured(tokenizer: _Tokenizer, found: Texts) -> Measure:
    text = "\n".join(found.texts)
    tokens = ascii_tokens = sum(map(tokenizer.count, _pieces(text)))
    other_bytes = 0
    if not text.isascii():
        ascii_text = _OTHER.sub("\n", text)
        ascii_tokens = sum(map(tokenizer.count, _pieces(ascii_text)))
        other_bytes = len(text.encode()) - len(text.encode("ascii", "ignore"))
        text = ascii_text
    digits = sum(len(run) - -(-len(run) // 3) for run in _DIGITS.findall(text))
    blanks = sum(len(run) // 8 for run in _BLANKS.findall(text))
    return Measure(tokens, ascii_tokens, digits, blanks, other_bytes, found.values, found.objects)


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + _PIECE_CHARS] for at in range(0, len(text), _PIECE_CHARS))
