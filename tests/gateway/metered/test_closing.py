"""Each fault of an answer is booked at the sandbox's bill, exact to the nano-USD, and no hold stays open."""

import asyncio
import contextlib
from dataclasses import replace

import aiohttp
import pytest

from gateway import metrics
from gateway.ledger.outcomes import Settlement
from gateway.metered.inflight import OpenRequest
from tests.fakes import COST_NANO, EVENT_STREAM, STREAMED, Exchange, FakeOpenRouter
from tests.gateway.conftest import BilledNano
from tests.gateway.sandbox_outcomes import REFUSED, WHOLE
from tests.gateway.stack import PATIENCE_SECONDS, Stack, question
from tests.servers import on_each_server, open_client

pytestmark = pytest.mark.each_store

_FUNDING_ERRORS = {"sandbox/stream-error-402", "sandbox/stream-error-403-key"}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("model", WHOLE)
async def test_an_answer_is_booked_at_its_bill(
    sandboxed: Stack, billed_nano: BilledNano, model: str, *, stream: bool
) -> None:
    """Any 200 is relayed to the caller and booked once at the billed cost."""
    answer = await sandboxed.chat(question(model, stream=stream))
    assert answer.status == 200
    [entry] = await sandboxed.booked()
    assert int(entry["cost_nano"]) == await billed_nano()
    assert entry["status"] == WHOLE[model]
    standing = await sandboxed.standing()
    assert (standing.held_nano, standing.spent_nano) == (0, int(entry["cost_nano"]))
    assert int(entry["overrun_nano"]) == (50_000_000 - int(entry["hold_nano"]) if model == "sandbox/overrun" else 0)
    if model in _FUNDING_ERRORS:
        assert (await sandboxed.chat()).refusal == (402, "funding_invalid")


@pytest.mark.parametrize(
    ("model", "stream"),
    [("sandbox/cut", True), ("sandbox/cut", False), ("sandbox/stream-error-last", True)],
)
async def test_a_broken_answer_is_booked_at_its_bill(
    sandboxed: Stack, billed_nano: BilledNano, model: str, *, stream: bool
) -> None:
    """A truncated answer is booked at the cost that /generation states."""
    async with sandboxed.session.post(
        f"{sandboxed.url}/v1/chat/completions", json=question(model, stream=stream), headers=sandboxed.as_user()
    ) as answer:
        assert answer.status == 200
        try:
            await answer.read()
            broke = False
        except OSError:
            broke = True
        except Exception as error:  # aiohttp's payload errors are no OSError
            broke = "payload" in type(error).__name__.lower()
    assert broke == (model == "sandbox/cut")
    [entry] = await sandboxed.booked()
    assert int(entry["cost_nano"]) == await billed_nano()
    assert (await sandboxed.standing()).held_nano == 0


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("model", REFUSED)
async def test_a_refusal_is_mapped_and_void(
    sandboxed: Stack, billed_nano: BilledNano, model: str, *, stream: bool
) -> None:
    """The upstream status is mapped by the contract's table; the hold is voided."""
    answer = await sandboxed.chat(question(model, stream=stream))
    assert answer.refusal == REFUSED[model]
    assert b"user_" not in answer.body
    assert answer.headers.get("Retry-After") == {"sandbox/error-429": "7", "sandbox/error-503": "3"}.get(model)
    [entry] = await sandboxed.booked()
    assert (entry["status"], entry["cost_nano"], entry["ended_by"]) == ("void", "0", "refused")
    assert await billed_nano() == 0
    assert (await sandboxed.standing()).held_nano == 0
    follow_up = await sandboxed.chat(question("sandbox/echo"))
    assert follow_up.status == (402 if answer.refusal[1] == "funding_invalid" else 200)


@pytest.mark.parametrize("model", ["sandbox/slow-20", "sandbox/abort-full", "sandbox/abort-free", "sandbox/silent"])
async def test_a_client_that_hangs_up_is_booked_at_the_bill(
    sandboxed: Stack, billed_nano: BilledNano, model: str
) -> None:
    """The ledger's cost of an aborted answer equals what upstream billed."""
    document = question(model, stream=True, text="One two three four five six seven eight nine ten")
    async with sandboxed.session.post(
        f"{sandboxed.url}/v1/chat/completions", json=document, headers=sandboxed.as_user()
    ) as answer:
        while b'"content":"' not in await answer.content.readline():
            pass
        answer.close()
    [entry] = await sandboxed.booked()
    assert (int(entry["cost_nano"]), entry["status"]) == (await billed_nano(), "settled")
    assert entry["ended_by"] == "client"
    assert (await sandboxed.standing()).held_nano == 0


async def test_what_cannot_be_asked_for_is_estimated(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """A broken answer without an id is settled at an estimate that is marked as one."""

    async def cut(turn: Exchange) -> None:
        """Return: the connection is closed without an answer."""

    openrouter.play = cut
    await stack.chat()
    [entry] = await stack.booked()
    assert entry["status"] == "estimated"
    assert 0 < int(entry["cost_nano"]) <= int(entry["hold_nano"])


async def test_a_refusal_with_a_billed_usage_is_owed(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """A stated cost is booked, whatever the status."""

    async def refused(turn: Exchange) -> None:
        usage = b'"usage":{"prompt_tokens":9,"completion_tokens":2,"cost":0.0002}'
        await turn.refuse(502, b'{"id":"gen-1-fake","error":{"code":502,"message":"late"},%s}' % usage)

    openrouter.play = refused
    assert (await stack.chat()).refusal == (502, "upstream")
    [entry] = await stack.booked()
    assert (entry["status"], entry["cost_nano"], entry["ended_by"]) == ("settled", "200000", "refused")


async def test_a_settlement_that_was_lost_on_its_way_is_repeated(
    stack: Stack, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway's connections to Redis are killed just then: the answer is whole, and is booked once."""

    def cut(_: OpenRequest, point: str) -> None:
        if point == "closing":
            with open_client(redis_url) as redis:
                on_each_server(redis, "CLIENT", "KILL", "TYPE", "normal")

    monkeypatch.setattr(OpenRequest, "reach", cut)
    for _ in range(5):
        assert (await stack.chat()).status == 200
        await stack.quiet()
    entries = await stack.entries()
    assert [int(entry["cost_nano"]) for entry in entries] == [COST_NANO] * 5
    assert (await stack.standing()).spent_nano == 5 * COST_NANO


async def test_settling_again_changes_nothing(stack: Stack) -> None:
    """A second settlement of one request returns the first answer, also at another cost."""
    request_id = (await stack.chat()).headers["x-wattfare-request-id"]
    [entry] = await stack.booked()
    settlement = Settlement("settled", COST_NANO, "gen-1-fake", entry["model"])
    ledger = stack.gateway.services.ledger
    for again in (settlement, replace(settlement, cost_nano=9), Settlement("void")):
        booked = await ledger.settle(stack.budget(), request_id, again)
        assert (booked.is_first, booked.cost_nano) == (False, COST_NANO)
    assert await stack.entries() == [entry]
    assert (await stack.standing()).spent_nano == COST_NANO


async def test_many_at_once_add_up_to_the_bill(sandboxed: Stack, billed_nano: BilledNano) -> None:
    """Spend is the sum of what was billed, and the cap holds under a crowd."""
    await sandboxed.connect("0.01")
    models = ("sandbox/echo", "sandbox/exponent", "sandbox/usage-doubled", "sandbox/float-noise")
    async with asyncio.timeout(PATIENCE_SECONDS * 2):
        answers = await asyncio.gather(
            *(sandboxed.chat(question(models[number % 4], max_tokens=50)) for number in range(60))
        )
    assert {answer.status for answer in answers} <= {200, 402}
    standing = await sandboxed.standing()
    assert standing.held_nano == 0
    assert standing.spent_nano == await billed_nano() == sum(int(e["cost_nano"]) for e in await sandboxed.entries())


@pytest.mark.parametrize("loss", ["estimated", "void", "lost"])
async def test_a_cost_is_asked_for_though_the_hold_was_closed_meanwhile(
    stack: Stack, openrouter: FakeOpenRouter, loss: str
) -> None:
    """A sweeper took the request for an orphan, or a failover lost its hold: what it cost is booked all the same."""
    openrouter.generations["gen-1-fake"] = {"id": "gen-1-fake", "total_cost": 0.0004}
    ledger, call, budget = stack.gateway.services.ledger, stack.gateway.services.store.call, stack.budget()

    async def play(turn: Exchange) -> None:
        await turn.head(200, {**EVENT_STREAM, "X-Generation-Id": "gen-1-fake"})
        [request_id] = [name.decode() for name in await call("ZRANGE", budget.due, 0, -1)]
        if loss == "lost":
            held = await ledger.hold(budget, request_id)
            assert held is not None
            await call("HINCRBY", budget.budget, "held_nano", -held.nano)
            await call("DEL", budget.hold(request_id))
            await call("ZREM", budget.due, request_id)
        else:
            await ledger.settle(budget, request_id, Settlement(loss, 777, ended_by="crash"))
        await turn.send(b'data: {"id":"gen-1-fake","choices":[{"delta":{"content":"Hello"}}]}\n\n')
        await turn.end()

    openrouter.play = play
    await stack.chat(question(stream=True))
    entries = await stack.booked(count=2)
    assert (entries[-1]["status"], entries[-1]["cost_nano"]) == ("settled", "400000")
    assert sum(int(entry["delta_nano"]) for entry in entries) == 400_000
    standing = await stack.standing()
    assert (standing.held_nano, standing.spent_nano) == (0, 400_000)


async def test_a_settlement_that_redis_refuses_for_a_while_is_repeated_and_stops_nobody(
    stack: Stack, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis that misses its replicas refuses every write: the answer is whole all the same, and booked later."""

    def refuse(_: OpenRequest, point: str) -> None:
        if point == "closing":
            with open_client(redis_url) as redis:
                on_each_server(redis, "CONFIG", "SET", "min-replicas-to-write", "1")

    monkeypatch.setattr(OpenRequest, "reach", refuse)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await stack.chat()).status == 200
            assert (await stack.ask("GET", "/healthz")).status == 200
    finally:
        with open_client(redis_url) as redis:
            on_each_server(redis, "CONFIG", "SET", "min-replicas-to-write", "0")
    [entry] = await stack.booked()
    assert int(entry["cost_nano"]) == COST_NANO
    assert (await stack.standing()).held_nano == 0


async def test_the_time_to_the_first_byte_is_counted(sandboxed: Stack) -> None:
    """Once for each answer that began."""
    read = metrics.REGISTRY.get_sample_value
    before = read("wattfare_first_byte_seconds_count") or 0
    await sandboxed.chat(question("sandbox/echo"))
    assert read("wattfare_first_byte_seconds_count") == before + 1


async def test_a_settlement_is_counted_with_the_end_that_its_entry_states(
    stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that breaks off after its end and cost is complete in the ledger, and in the metrics too."""

    def break_off(request: OpenRequest, point: str) -> None:
        """Break off between the settlement and Redis's reply to it."""
        if point == "closed":
            request.break_off()

    async def cut_after_its_end(turn: Exchange) -> None:
        await turn.head(200, {**EVENT_STREAM, "Content-Length": str(len(STREAMED) + 1)})
        turn.writer.write(STREAMED)

    def counted() -> float:
        labels = {"ledger": "settled", "ended_by": "complete"}
        return metrics.REGISTRY.get_sample_value("wattfare_settlements_total", labels) or 0

    monkeypatch.setattr(OpenRequest, "reach", break_off)
    openrouter.play, before = cut_after_its_end, counted()
    with contextlib.suppress(aiohttp.ClientPayloadError):
        await stack.chat(question(stream=True))
    [entry] = await stack.booked()
    assert (entry["status"], entry["ended_by"], counted()) == ("settled", "complete", before + 1)
