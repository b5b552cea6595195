"""How a request gets its hold: at its bound, on its terms, after a wait; and the errors when it gets none."""

import asyncio
import re
import time

import pytest

from tests.fakes import COST_NANO, MODEL, FakeOpenRouter
from tests.gateway.metered.occupied import occupied
from tests.gateway.stack import PATIENCE_SECONDS, Stack, open_stack, question, settings_for

pytestmark = pytest.mark.each_store
CALLERS = 8


async def test_eight_at_once_are_all_answered(patient: Stack) -> None:
    """On a cap that carries two of their bounds: in turns, none refused, the cap never exceeded; for eight payers."""
    for number in range(8):
        user = f"user-{number}"
        await patient.connect("0.08", user=user)
        calls = [patient.chat(question(max_tokens=16_000), headers=patient.as_user(user)) for _ in range(CALLERS)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            answers = await asyncio.gather(*calls)
        assert [answer.status for answer in answers] == [200] * CALLERS
        assert all("x-wattfare-max-tokens" not in answer.headers for answer in answers)
        standing = await patient.standing(user)
        assert (standing.held_nano, standing.spent_nano) == (0, CALLERS * COST_NANO)


async def test_after_its_wait_a_request_is_told_who_holds_the_rest(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """The error has every amount, when spend leaves the window, where to raise the cap, and when to retry."""
    async with occupied(stack, openrouter):
        refused = await stack.chat(question(max_tokens=100))
    error = refused.document["error"]
    assert refused.refusal == (402, "budget_exceeded")
    assert (error["limit"], error["leftUsd"], error["spentUsd"], error["heldUsd"]) == ("in_flight", 0, 0, 1)
    assert 0 < error["neededUsd"] < 0.001
    assert error["resetsAt"] is None
    assert error["manageUrl"] == "http://127.0.0.1:8081/"
    assert error["retryAfter"] == int(refused.headers["Retry-After"]) > 0
    assert refused.headers["x-should-retry"] == "true"


@pytest.mark.parametrize("path", ["chat/completions", "responses", "messages"])
async def test_a_spent_cap_says_when_spend_falls_out_of_the_month(stack: Stack, path: str) -> None:
    """In each dialect's own shape: thirty days after the day of the oldest spend, in unix seconds."""
    await stack.connect("0.001", user="poor")
    assert (await stack.chat(headers=stack.as_user("poor"))).status == 200
    await stack.booked("poor")
    body = {"model": MODEL, "max_tokens": 10, "messages": [{"role": "user", "content": "Hello?"}], "input": "Hello?"}
    refused = await stack.ask("POST", f"/v1/{path}", document=body, headers=stack.as_user("poor"))
    error = refused.document["error"]
    assert (refused.status, error["code"], error["limit"]) == (402, "budget_exceeded", "cap")
    assert (float(error["spentUsd"]), error["leftUsd"]) == (COST_NANO / 1e9, 0)
    today = int(time.time()) // 86_400
    assert error["resetsAt"] in [(day + 30) * 86_400 for day in (today - 1, today)]
    assert "retryAfter" not in error
    assert "x-should-retry" not in refused.headers


async def test_who_would_rather_be_refused_is_never_shortened(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """It is refused instead, and the error names the ceiling that would fit, by its dialect's field name."""
    await stack.connect("0.01", user="poor")
    never = stack.as_user("poor", **{"x-wattfare-shorten": "never"})
    refused = await stack.chat(question(max_tokens=9000), headers=never)
    assert refused.refusal == (402, "budget_exceeded")
    assert (refused.document["error"]["limit"], openrouter.received) == ("cap", [])
    found = re.search(r"Name a max_tokens of at most (\d+)\.", refused.document["error"]["message"])
    assert found is not None
    assert (await stack.chat(question(max_tokens=int(found[1])), headers=never)).status == 200
    body = {"model": MODEL, "input": "Hello?", "max_output_tokens": 9000}
    said = await stack.ask("POST", "/v1/responses", document=body, headers=never)
    assert "Name a max_output_tokens of at most" in said.document["error"]["message"]


async def test_another_word_in_the_header_is_no_wish(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Unknown values of the header are refused, since a caller who sends one expects an effect."""
    refused = await stack.chat(headers=stack.as_user(**{"x-wattfare-shorten": "always"}))
    assert refused.refusal == (400, "invalid_request")
    assert openrouter.received == []
    assert await stack.nothing_is_lost()


@pytest.mark.parametrize(("tools", "least"), [(None, 16), ([{"type": "function", "function": {"name": "f"}}], 1024)])
async def test_half_of_a_tool_call_is_not_sent(stack: Stack, tools: list[object] | None, least: int) -> None:
    """The rest affords about a hundred tokens: enough for text, not for a tool call."""
    await stack.connect("0.0015", user="poor")
    answer = await stack.chat(question(max_tokens=9000, tools=tools), headers=stack.as_user("poor"))
    if least == 16:
        assert answer.status == 200
        assert 16 <= int(answer.headers["x-wattfare-max-tokens"]) < 1024
    else:
        assert answer.refusal == (402, "budget_exceeded")


@pytest.mark.parametrize(("holds", "hold_nano"), [("expected", 20_000_000), ("bound", 0)])
async def test_what_is_expected_decides_where_the_bound_does_not_fit(
    redis_url: str, openrouter: FakeOpenRouter, holds: str, hold_nano: int
) -> None:
    """All that is left is held for it; under `bound` it is shortened to its bound."""
    settings = settings_for(redis_url, openrouter.url, WATTFARE_HOLDS=holds)
    async with open_stack(settings) as stack:
        await stack.connect("0.02")
        # About 5,000 tokens, which the bound counts as 25,000.
        answer = await stack.chat(question(text="hello " * 4_000, max_tokens=2_000))
        assert answer.status == (200 if hold_nano else 402)
        if hold_nano:
            assert "x-wattfare-max-tokens" not in answer.headers
            [entry] = await stack.booked()
            assert int(entry["hold_nano"]) == hold_nano


async def test_a_budget_for_reasoning_above_the_ceiling_lets_nothing_go_beyond_the_cap(
    stack: Stack, openrouter: FakeOpenRouter
) -> None:
    """Providers that add the reasoning budget to the ceiling bill both, so the request must not hold just the rest."""
    await stack.connect("0.01")
    for words in ({"reasoning": {"max_tokens": 10_000}}, {"thinking": {"type": "enabled", "budget_tokens": 10_000}}):
        answer = await stack.chat(question(max_tokens=16, **words))
        assert answer.refusal == (402, "budget_exceeded")
    assert openrouter.received == []
