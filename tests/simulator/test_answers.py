"""The simulator bills its output, within the given limits, and in test mode nothing."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.money import nano_from_usd
from simulator.answers import generation_body, simulate
from simulator.variants import MODELS, Abort, Fault, find_variant, listed_variants
from simulator.wire import COMMENT, usd_literal
from tests.simulator.asking import GENERATION_ID, ask, document, events, raw, said, usages


def _names(*faults: Fault) -> Iterator[str]:
    for model in MODELS:
        if model.fault in faults:
            yield from model.examples or (model.name,)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_output_never_exceeds_its_limit(field: str) -> None:
    """Both names of the limit cut the answer there, with finish_reason length."""
    limit: dict[str, Any] = {field: 7}
    answer = ask("sandbox/long-100", **limit)
    assert sum(chunk.tokens for chunk in answer.chunks) == answer.completion_tokens == 7
    assert events(answer)[-1]["choices"][0]["finish_reason"] == "length"
    assert document(ask("sandbox/long-100", stream=False, **limit))["usage"]["completion_tokens"] == 7


@pytest.mark.parametrize("limit", [0, -1, "5", 1.5, True])
def test_an_impossible_limit_is_a_400(limit: object) -> None:
    """A limit that is no positive whole number is refused before any output."""
    assert ask("sandbox/echo", max_tokens=limit).status == 400


def test_a_token_is_four_characters() -> None:
    """Prompt and completion are counted by the same simple rule, whatever the script."""
    answer = ask("sandbox/echo", text="žluťoučký")
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 3)
    assert said(answer) == "žluťoučký"


def test_a_long_answer_is_made_while_it_is_read() -> None:
    """A million tokens take no time until they are read."""
    first = next(iter(ask("sandbox/long-1000000", text="x").chunks))
    assert first.data == COMMENT


@pytest.mark.parametrize("name", list(_names(Fault.REFUSED)))
def test_an_error_before_output_carries_its_own_status(name: str) -> None:
    """The status is the one in the name; there is no generation and no charge."""
    answer = ask(name)
    assert str(answer.status) == name.removeprefix("sandbox/error-").split("-")[0]
    assert (answer.generation_id, answer.cost_nano) == (None, 0)
    error = document(answer)["error"]
    assert isinstance(error, dict)
    assert error.get("code", error.get("http_status")) == answer.status
    assert "X-Generation-Id" not in dict(answer.headers)


@pytest.mark.parametrize(("name", "seconds"), [("sandbox/error-429", "7"), ("sandbox/error-503", "3")])
def test_some_errors_say_when_to_come_back(name: str, seconds: str) -> None:
    """The 429 and the 503 have Retry-After."""
    assert dict(ask(name).headers)["Retry-After"] == seconds


@pytest.mark.parametrize("literal", ["0.0123", "0.0001", "0", "12.000000001"])
def test_a_given_price_is_stated_exactly_and_listed_no_lower(literal: str) -> None:
    """The cost literal is the one in the name, in test mode too, and no worst case lies under it."""
    answer = ask(f"sandbox/price-{literal}")
    assert f'"cost":{literal},'.encode() in raw(answer)
    assert raw(ask(f"sandbox/price-{literal}", free=True)) == raw(answer)
    assert answer.cost_nano == nano_from_usd(literal)
    variant = find_variant(f"sandbox/price-{literal}")
    assert variant is not None
    assert nano_from_usd(variant.listed.start_usd(1)) == answer.cost_nano


def test_test_mode_costs_nothing() -> None:
    """Ordinary and unlisted models state 0; a misspelt sandbox name is refused."""
    for name in ("sandbox/echo", "sandbox/byok", "openai/gpt-4o-mini", "somebody/something:free"):
        answer = ask(name, free=True)
        assert (answer.status, answer.cost_nano, answer.model) == (200, 0, name)
        assert usages(answer)[0]["cost"] == 0
    assert ask("sandbox/ecko", free=True).status == 400


@pytest.mark.parametrize(
    "body", [{}, {"model": 5}, {"model": "sandbox/echo"}, {"model": "sandbox/echo", "messages": [1]}]
)
def test_a_body_without_a_question_is_a_400(body: dict[str, object]) -> None:
    """Neither a missing model nor missing messages raise."""
    assert simulate(body, generation_id=GENERATION_ID, created_seconds=1).status == 400


def test_the_dearer_price_of_long_prompts_is_billed() -> None:
    """Above 200,000 prompt tokens claude-sonnet-4 costs twice as much a prompt token."""
    answer = ask("anthropic/claude-sonnet-4", text="x" * 800_004, max_tokens=10)
    assert answer.prompt_tokens == 200_001
    assert answer.cost_usd == usd_literal(200_001 * Decimal("0.000006") + 10 * Decimal("0.0000225"))
    assert answer.model == "anthropic/claude-4-sonnet-20250522"


def test_a_hung_up_stream_is_billed_for_what_was_produced() -> None:
    """Nothing before the first token, then prompt and tokens at their price, in full at the end."""
    answer = ask("sandbox/long-20", text="four")
    assert [answer.billed_nano(tokens) for tokens in (0, 1, 10, 20)] == [0, 3_000, 21_000, 41_000]
    assert ask("sandbox/price-1", text="x" * 40).billed_nano(3) == 300_000_000


def test_what_cannot_be_stopped_is_billed_in_full() -> None:
    """An answer that is not streamed, and a provider that does not cancel; another bills nothing."""
    assert ask("sandbox/echo", stream=False).billed_nano(0) == ask("sandbox/echo").cost_nano
    assert ask("sandbox/abort-full").billed_nano(0) == ask("sandbox/abort-full").cost_nano
    assert ask("sandbox/abort-free").billed_nano(3) == 0
    assert ask("sandbox/abort-free").abort is Abort.NOTHING


def test_generation_states_the_true_cost() -> None:
    """The record's total_cost is the billed literal; after an abort it is what was billed, and cancelled."""
    answer = ask("sandbox/float-noise")
    assert b'"total_cost":0.0076509169000000005,' in generation_body(answer)
    stopped = json.loads(generation_body(ask("sandbox/long-20", text="four"), produced_tokens=10), parse_float=Decimal)
    assert stopped["data"]["total_cost"] == Decimal("0.000021")
    assert (stopped["data"]["cancelled"], stopped["data"]["native_tokens_completion"]) == (True, 10)
    byok = json.loads(generation_body(ask("sandbox/byok")), parse_float=Decimal)["data"]
    assert (byok["total_cost"], byok["is_byok"]) == (0, True)
    assert byok["upstream_inference_cost"] > 0


_ANY_MODEL = st.sampled_from([variant.name for variant in listed_variants()])


@given(name=_ANY_MODEL, text=st.text(min_size=1, max_size=60), limit=st.integers(1, 40), free=st.booleans())
def test_a_bill_grows_with_the_tokens_to_the_full_cost(name: str, text: str, limit: int, free: bool) -> None:
    """Never below zero, never falling, never above what the whole answer costs."""
    answer = ask(name, text=text, max_tokens=limit, free=free)
    bills = [answer.billed_nano(tokens) for tokens in range(answer.completion_tokens + 2)]
    assert bills == sorted(bills)
    assert 0 <= bills[0] <= bills[-1] <= answer.cost_nano
    assert answer.completion_tokens <= limit
