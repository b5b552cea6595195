"""Unusual endings with the sandbox: the ledger equals the bill whatever an answer omits, even after a revocation."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from decimal import Decimal

import aiohttp
import pytest

from tests.fakes import Exchange, FakeOpenRouter
from tests.faults.openrouter import ask_raw
from tests.faults.world import PATIENCE_SECONDS, Sandbox, open_sandbox, until
from tests.gateway.stack import Stack, open_stack, question, settings_for

pytestmark = pytest.mark.each_store

LISTED = ("sandbox/slow-30", "sandbox/slow-600000")
# Stated costs are booked; omitted ones are requested.
ENDINGS = [
    "sandbox/echo",
    "sandbox/usage-missing",
    "sandbox/cost-missing",
    "sandbox/cost-null",
    "sandbox/usage-doubled",
    "sandbox/stream-error",
    "sandbox/stream-error-billed",
    "sandbox/stream-error-usage",
    "sandbox/stream-error-last",
    "sandbox/no-id-header",
    "sandbox/split",
    "sandbox/cut",
    "sandbox/hang-after-done",
    "sandbox/byok",
    "sandbox/byok-missing",
    "sandbox/overrun",
    "sandbox/exponent",
    "sandbox/float-noise",
    "sandbox/error-502",
    "sandbox/error-429",
    "sandbox/error-402",
]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox whose /generation is slightly delayed."""
    async with open_sandbox(*LISTED) as running:
        yield running


@pytest.fixture
async def stack(redis_url: str, sandbox: Sandbox) -> AsyncIterator[Stack]:
    """A gateway before the sandbox."""
    async with open_stack(settings_for(redis_url, sandbox.url)) as running:
        yield running


async def _clear(stack: Stack, user: str) -> None:
    async def nothing_held() -> bool:
        return (await stack.standing(user)).held_nano == 0

    await until(nothing_held)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_every_odd_ending_is_booked_as_billed(stack: Stack, sandbox: Sandbox, stream: bool) -> None:
    """Usage or cost missing, doubled, after an error, with BYOK, refused: the ledger is the bill."""

    async def one(model: str) -> str:
        user = model.replace("/", "-")
        await stack.connect(user=user, key=f"sk-or-v1-{user}")
        body = question(model, stream=stream, text="Say this back, please.")
        try:
            await stack.chat(body, headers=stack.as_user(user))
        except aiohttp.ClientPayloadError:
            assert model == "sandbox/cut"
        await _clear(stack, user)
        billed = await sandbox.billed_nano(f"sk-or-v1-{user}")
        spent = (await stack.standing(user)).spent_nano
        statuses = {entry["status"] for entry in await stack.entries(user)}
        return "" if spent == billed and "estimated" not in statuses else f"{model}: {billed} {spent} {statuses}"

    # An answer that is not streamed has no terminal event, so one left open after its JSON is waited for.
    endings = ENDINGS if stream else [model for model in ENDINGS if model != "sandbox/hang-after-done"]
    assert [told for told in await asyncio.gather(*map(one, endings)) if told] == []


async def test_a_revoked_stream_ends_within_a_second_and_is_still_paid(stack: Stack, sandbox: Sandbox) -> None:
    """Its caller reads an error event, upstream is closed, and the cost is settled with the key the hold kept."""
    await stack.connect()
    body = json.dumps(question("sandbox/slow-30", stream=True, text="word " * 400))
    async with stack.session.post(
        f"{stack.url}/v1/chat/completions", data=body, headers=stack.as_user(**{"Content-Type": "application/json"})
    ) as answer:
        await answer.content.readuntil(b'"content"')
        asked = time.monotonic()
        await stack.gateway.services.connections.revoke(stack.budget())
        rest = await answer.read()
    assert time.monotonic() - asked < 1
    assert b'data: {"error":{"code":"not_connected"' in rest.split(b"\n\n")[-2]
    await _clear(stack, "ada")
    billed = await sandbox.billed_nano("sk-or-v1-ada")
    [entry] = await stack.entries()
    assert (entry["status"], int(entry["cost_nano"]), entry["ended_by"]) == ("settled", billed, "revoked")
    assert billed > 0
    assert "funding" not in (await stack.gateway.services.ledger.standing(stack.budget())).fields


async def test_usage_goes_from_open_to_settled_after_the_caller_hung_up(stack: Stack, sandbox: Sandbox) -> None:
    """`GET /v1/usage/{requestId}` works for a request whose caller has hung up."""
    await stack.connect()

    async def usage() -> dict[str, object]:
        found = await stack.ask("GET", f"/v1/usage/{request_id}", headers={"Authorization": f"Bearer {stack.secret}"})
        return found.document

    async def is_settled() -> bool:
        return (await usage())["status"] == "settled"

    body = json.dumps(question("sandbox/slow-30", stream=True, text="word " * 400))
    async with stack.session.post(
        f"{stack.url}/v1/chat/completions", data=body, headers=stack.as_user(**{"Content-Type": "application/json"})
    ) as answer:
        request_id = answer.headers["x-wattfare-request-id"]
        await answer.content.readuntil(b'"content"')
        assert (await usage())["status"] == "open"
        answer.close()
    await until(is_settled)
    assert (await usage())["costUsd"] == Decimal(await sandbox.billed_nano("sk-or-v1-ada")) / 10**9


async def test_a_hold_that_waits_for_its_cost_does_not_wait_for_the_next_one(stack: Stack, sandbox: Sandbox) -> None:
    """One payer's long stream keeps no other request of theirs from being settled at once."""
    await stack.connect()
    headers = stack.as_user(**{"Content-Type": "application/json"})
    url = f"{stack.url}/v1/chat/completions"
    long = json.dumps(question("sandbox/slow-30", stream=True, text="word " * 2000, max_tokens=3000))
    async with stack.session.post(url, data=long, headers=headers) as answer:
        await answer.content.readuntil(b'"content"')
        for _ in range(2):
            # Each ends without a cost, while the sweep of this payer sleeps until the long stream's hold is due.
            await stack.chat(question("sandbox/usage-missing", stream=True))

        async def both_settled() -> bool:
            return len(await stack.gateway.services.ledger.entries(stack.budget())) == 2

        await until(both_settled, seconds=8)
        answer.close()
    await _clear(stack, "ada")


@pytest.mark.parametrize("stream", [False, True])
async def test_who_hangs_up_before_the_headers_still_pays_what_it_cost(redis_url: str, stream: bool) -> None:
    """Without an id no cost can be requested: the answer is read until its headers have it, then upstream is closed."""
    asked, may_answer, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def play(turn: Exchange) -> None:
        asked.set()
        await may_answer.wait()
        await turn.head(200, {"Content-Type": "application/json", "X-Generation-Id": "gen-1-fake"})
        await turn.until_closed()
        closed.set()

    told = {"id": "gen-1-fake", "model": "acme/large", "total_cost": 0.0042, "is_byok": False}
    async with (
        FakeOpenRouter(play=play, generations={"gen-1-fake": told}).running() as openrouter,
        open_stack(settings_for(redis_url, openrouter.url)) as stack,
    ):
        await stack.connect()
        call = asyncio.ensure_future(stack.chat(question(stream=stream)))
        await asked.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        may_answer.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await closed.wait()
        [entry] = await stack.booked()

    assert (entry["status"], entry["ended_by"], int(entry["cost_nano"])) == ("settled", "client", 4_200_000)


async def test_who_hangs_up_between_two_costs_pays_the_last(redis_url: str) -> None:
    """An answer with a stated cost is read to its end without its caller, and the last cost counts."""
    is_alone = asyncio.Event()
    event = b'data: {"id":"gen-1-fake","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"cost":%s}}\n\n'

    async def play(turn: Exchange) -> None:
        await turn.head(200, {"Content-Type": "text/event-stream", "X-Generation-Id": "gen-1-fake"})
        await turn.send(event % b"0.001")
        await is_alone.wait()
        await turn.send(event % b"0.002" + b"data: [DONE]\n\n")
        await turn.end()

    async with (
        FakeOpenRouter(play=play).running() as openrouter,
        open_stack(settings_for(redis_url, openrouter.url)) as stack,
    ):
        await stack.connect()
        answer = await ask_raw(stack.port, stack.as_user(), question(stream=True))
        await answer.read_head()
        await answer.read(1)
        await answer.hang_up()

        async def nobody_listens() -> bool:
            return any(request.gone for request in stack.gateway.inflight)

        await until(nobody_listens)
        is_alone.set()
        [entry] = await stack.booked()

    assert (entry["status"], entry["ended_by"], int(entry["cost_nano"])) == ("settled", "client", 2_000_000)
    assert openrouter.lookups == []
