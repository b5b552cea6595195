"""The bound behind every hold: no tokenizer in use makes more tokens of a text than it has UTF-8 bytes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("bpe_openai", reason="its wheel carries the vocabularies; there is none for this machine")

from benchmarks.prompt_bound import ENCODINGS, HARD, PASSAGES, counts, token_count
from gateway.metered.body import ChatRequest


@pytest.mark.parametrize("name", [*PASSAGES, *HARD])
def test_no_script_has_more_tokens_than_bytes(name: str) -> None:
    """Five scripts, and texts chosen to fall back to single bytes."""
    texts = {**PASSAGES, **HARD}

    assert [count for count in counts({name: texts[name]}) if count.share > 1] == []


@pytest.mark.parametrize("name", PASSAGES)
def test_real_text_stays_well_below_the_bound(name: str) -> None:
    """The bound is meant to be loose: shortening near the cap starts early, never late."""
    assert max(count.share for count in counts({name: PASSAGES[name]})) < 0.8


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_no_text_at_all_has_more_tokens_than_bytes(text: str) -> None:
    """Every token of a byte-level vocabulary has at least one byte."""
    for name in ENCODINGS:
        assert token_count(name, text) <= len(text.encode())


@pytest.mark.parametrize("count", [1, 200])
def test_a_chat_template_stays_within_its_allowance(count: int) -> None:
    """ChatML, written out, has fewer tokens than the bound even when the messages are nearly empty."""
    messages = [{"role": "user", "content": "7"} for _ in range(count)]
    written = "".join(f"<|im_start|>{each['role']}\n{each['content']}<|im_end|>\n" for each in messages)
    request = ChatRequest.parse(json.dumps({"model": "m", "messages": messages}).encode())

    # Here the markers are counted as plain text: some seven tokens each instead of one.
    assert token_count("cl100k_base", written) <= request.weight.bytes
