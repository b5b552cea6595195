"""How short an answer may be cut."""

import pytest

from gateway.metered.floor import fewest_tokens

SCHEMA = {"type": "json_schema", "json_schema": {}}


@pytest.mark.parametrize(
    "field",
    [
        {"tools": [{"type": "function"}]},
        {"functions": [{"name": "f"}]},
        {"response_format": SCHEMA},
        {"response_format": {"type": "json_object"}},
        {"output_config": {"format": SCHEMA}},
        {"output_format": SCHEMA},
        {"text": {"format": SCHEMA}},
        {"structured_outputs": True},
        {"reasoning": {"enabled": True}},
        {"reasoning": {"effort": "low"}},
        {"reasoning_effort": "high"},
        {"thinking": {"type": "adaptive"}},
    ],
    ids=lambda field: "-".join(map(str, field)),
)
def test_half_of_what_must_be_whole_is_not_sent(field: dict[str, object]) -> None:
    """Tools, a schema, reasoning: 1,024 tokens at least."""
    assert fewest_tokens(field, 0) == 1024


@pytest.mark.parametrize(
    "field",
    [
        {"tools": []},
        {"tools": None},
        {"response_format": {"type": "text"}},
        {"response_format": "json"},
        {"text": {"format": {"type": "text"}}},
        {"text": "hello"},
        {"output_config": None},
        {"reasoning": {"enabled": False}},
        {"reasoning": {"effort": "none"}},
        {"reasoning_effort": "none"},
        {"thinking": {"type": "disabled"}},
        {},
    ],
    ids=str,
)
def test_plain_text_may_be_cut_short(field: dict[str, object]) -> None:
    """Plain text is shortened to as few as 16 tokens."""
    assert fewest_tokens(field, 0) == 16


def test_a_budget_for_reasoning_comes_before_the_answer() -> None:
    """What is left of the ceiling beyond it is the answer."""
    assert fewest_tokens({"thinking": {"type": "enabled", "budget_tokens": 2000}}, 2000) == 3024
