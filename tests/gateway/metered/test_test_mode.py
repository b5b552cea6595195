"""Test mode: the simulator inside the gateway, without OpenRouter, cost or key."""

import asyncio
import json

import pytest

from tests.fakes import FakeOpenRouter
from tests.gateway.sandbox_outcomes import REFUSED
from tests.gateway.stack import PATIENCE_SECONDS, Stack, question


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", ["sandbox/echo", "openai/gpt-4o-mini", "someone/unheard-of"])
async def test_a_test_answer_never_leaves_and_costs_nothing(
    stack: Stack, openrouter: FakeOpenRouter, model: str, *, stream: bool
) -> None:
    """Any model answers like echo; the ledger has it settled at 0; upstream got no request."""
    await stack.connect_test()
    answer = await stack.chat(question(model, stream=stream), headers=stack.as_user(secret=stack.test_secret))
    assert answer.status == 200
    assert answer.headers["X-Generation-Id"].startswith("gen-")
    assert "x-wattfare-remaining-usd" not in answer.headers
    if stream:
        assert answer.body.endswith(b"data: [DONE]\n\n")
    else:
        assert json.loads(answer.body)["choices"][0]["message"]["content"] == "Say hello."
    [entry] = await stack.booked(mode="test")
    assert (entry["status"], entry["cost_nano"]) == ("settled", "0")
    assert openrouter.received == []
    assert openrouter.lookups == []
    assert await stack.entries() == []


async def test_a_test_user_must_be_connected_too(stack: Stack) -> None:
    """A live connection is no test connection."""
    answer = await stack.chat(headers=stack.as_user(secret=stack.test_secret))
    assert answer.refusal == (402, "not_connected")


async def test_a_priced_model_spends_a_test_cap(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Models that state a price let an app see budget_exceeded without a cent."""
    await stack.connect_test("0.3")
    as_user = stack.as_user(secret=stack.test_secret)
    first = await stack.chat(question("sandbox/price-0.25"), headers=as_user)
    assert (first.status, first.headers["x-wattfare-remaining-usd"]) == (200, "0.3")
    [entry] = await stack.booked(mode="test")
    assert int(entry["cost_nano"]) == 250_000_000
    second = await stack.chat(question("sandbox/price-0.25"), headers=as_user)
    assert second.refusal == (402, "budget_exceeded")
    assert (await stack.standing(mode="test")).held_nano == 0
    assert openrouter.received == []


@pytest.mark.parametrize("model", [each for each in REFUSED if each != "sandbox/unknown"])
async def test_a_fault_on_demand_is_mapped_like_a_real_one(stack: Stack, model: str) -> None:
    """An app can rehearse each refusal."""
    await stack.connect_test("1")
    answer = await stack.chat(question(model), headers=stack.as_user(secret=stack.test_secret))
    assert answer.refusal == REFUSED[model]
    assert b"user_" not in answer.body
    [entry] = await stack.booked(mode="test")
    assert (entry["status"], entry["cost_nano"]) == ("void", "0")
    assert (await stack.standing(mode="test")).held_nano == 0


@pytest.mark.parametrize(
    "model", ["sandbox/usage-missing", "sandbox/cost-missing", "sandbox/stream-error", "sandbox/stream-error-billed"]
)
async def test_no_fault_costs_in_test_mode(stack: Stack, openrouter: FakeOpenRouter, model: str) -> None:
    """A fault that a live request would look up is settled at 0 in test mode."""
    await stack.connect_test("1")
    answer = await stack.chat(question(model, stream=True), headers=stack.as_user(secret=stack.test_secret))
    assert answer.status == 200
    [entry] = await stack.booked(mode="test")
    assert entry["cost_nano"] == "0"
    assert (await stack.standing(mode="test")).held_nano == 0
    assert openrouter.lookups == []


async def test_a_rehearsed_cut_is_no_clean_end(stack: Stack) -> None:
    """The connection ends inside the body, as it would live."""
    await stack.connect_test()
    body = json.dumps(question("sandbox/cut", stream=True)).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in stack.as_user(secret=stack.test_secret).items())
    request = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(body)}\r\n\r\n"
    status, _, rest = await stack.raw(request.encode() + body)
    assert status == 200
    assert b"data: " in rest
    assert not rest.endswith(b"0\r\n\r\n")
    assert (await stack.standing(mode="test")).held_nano == 0


async def test_a_rehearsal_that_hangs_after_done_ends_for_the_caller(stack: Stack) -> None:
    """As with OpenRouter, nothing after the terminal event is waited for."""
    await stack.connect_test()
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await stack.chat(
            question("sandbox/hang-after-done", stream=True), headers=stack.as_user(secret=stack.test_secret)
        )
    assert answer.body.endswith(b"data: [DONE]\n\n")
