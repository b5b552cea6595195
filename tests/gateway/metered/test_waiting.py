"""Requests that wait for money of their budget: in their turn, and no longer than anything is worth waiting for."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway import keys
from gateway.errors import Unavailable
from gateway.ledger.outcomes import Admission, Queued, QueuePlace
from gateway.ledger.worst_case import Terms, WorstCase
from gateway.metered import waiting
from gateway.money import nano_from_usd
from tests.fakes import COST_NANO, FakeOpenRouter
from tests.gateway.metered.occupied import occupied
from tests.gateway.stack import Stack, close_app, open_stack, pause, question, revoke, settings_for

pytestmark = pytest.mark.each_store


async def test_who_waits_goes_on_when_money_comes_back(patient: Stack, openrouter: FakeOpenRouter) -> None:
    """The settlement wakes waiting requests in the order of arrival; the log has the time waited."""
    async with occupied(patient, openrouter) as budget:
        first, second = await budget.ask(max_tokens=100), await budget.ask(max_tokens=100)
        assert len(await budget.queue()) == 2
        budget.free.set()
        assert [(await asking).status for asking in (first, second)] == [200, 200]
        assert await budget.queue() == []
    assert (await patient.standing()).spent_nano == 3 * COST_NANO
    assert not await patient.redis.exists(patient.budget().queue, patient.budget().alive)
    assert not await patient.redis.hexists(patient.budget().budget, "waiting_ms")


async def test_newcomers_queue_behind_those_that_wait(patient: Stack, openrouter: FakeOpenRouter) -> None:
    """Also one that would fit at once: else many small requests would keep a large one waiting for ever."""
    async with occupied(patient, openrouter) as budget:
        large = await budget.ask(max_tokens=16_000)
        [name] = await budget.queue()
        # Room for the small one, not for the large one.
        await patient.redis.hincrby(patient.budget().budget, "held_nano", -1_000_000)
        small = await budget.ask(max_tokens=16)
        assert (await budget.queue())[0] == name
        await patient.redis.hincrby(patient.budget().budget, "held_nano", 1_000_000)
        budget.free.set()
        assert [(await asking).status for asking in (large, small)] == [200, 200]
    sizes = [b'"max_tokens": 16000' in turn.body for turn in openrouter.received if b"acme/large" in turn.body]
    assert sizes == [True, False]


async def test_who_hangs_up_waits_no_more(patient: Stack, openrouter: FakeOpenRouter) -> None:
    """Its place is released at once, no hold is placed, and no key of it remains."""
    async with occupied(patient, openrouter) as budget:
        asking, behind = await budget.ask(max_tokens=100), await budget.ask(max_tokens=100)
        asking.cancel()
        while len(await budget.queue()) != 1:
            await asyncio.sleep(0)
        [name] = await budget.queue()
        budget.free.set()
        answer = await behind
        assert (answer.status, answer.headers["x-wattfare-request-id"]) == (200, name)
    assert (await patient.standing()).held_nano == 0
    kept = [key async for key in patient.redis.scan_iter(match=patient.budget().hold("*"))]
    assert len(kept) == 2


@pytest.mark.parametrize("act", [revoke, pause, close_app])
async def test_who_is_cut_off_waits_no_more(
    patient: Stack, openrouter: FakeOpenRouter, act: Callable[[Stack], Awaitable[None]]
) -> None:
    """A revocation, a pause or a closed app refuses a waiting request at once, and nothing is sent upstream."""
    async with occupied(patient, openrouter) as budget:
        asking = await budget.ask(max_tokens=100)
        await act(patient)
        assert (await asking).refusal == (402, "not_connected")
        while await budget.queue():
            await asyncio.sleep(0)
    assert len([turn for turn in openrouter.received if turn.method == "POST"]) == 1


async def test_a_raised_cap_ends_a_wait(patient: Stack, openrouter: FakeOpenRouter) -> None:
    """There is room at once, while the other request still runs."""
    async with occupied(patient, openrouter) as budget:
        asking = await budget.ask(max_tokens=100)
        await patient.gateway.services.connections.set_cap(patient.budget(), nano_from_usd("2"))
        assert (await asking).status == 200
        assert not budget.free.is_set()


async def test_a_lowered_cap_ends_every_wait_that_is_for_nothing(patient: Stack, openrouter: FakeOpenRouter) -> None:
    """Refused by the cap, wherever in the queue."""
    async with occupied(patient, openrouter) as budget:
        small, large = await budget.ask(max_tokens=16), await budget.ask(max_tokens=16, text="word " * 3000)
        await patient.gateway.services.connections.lower(patient.budget(), nano_from_usd("0.002"))
        refused = await large
        assert refused.refusal == (402, "budget_exceeded")
        assert refused.document["error"]["limit"] == "cap"
        assert not small.done()


async def test_a_process_that_stops_lets_nobody_wait(patient: Stack, openrouter: FakeOpenRouter) -> None:
    """503, to be sent again elsewhere at once; the queue is left."""
    async with occupied(patient, openrouter) as budget:
        asking = await budget.ask(max_tokens=100)
        patient.gateway.waiting.stop()
        answer = await asking
        assert answer.refusal == (503, "unavailable")
        assert answer.headers["x-should-retry"] == "true"
        late = await patient.chat(headers=patient.as_user())
        assert late.refusal == (503, "unavailable")
        while await budget.queue():
            await asyncio.sleep(0)


async def test_a_dead_processs_waiter_is_passed_over(patient: Stack, openrouter: FakeOpenRouter) -> None:
    """A dead process's first place is skipped within two seconds, and deleted."""
    async with occupied(patient, openrouter) as budget:
        worst = WorstCase(1_000_000, 0, 1)
        await patient.gateway.services.ledger.admit(
            patient.budget(),
            "req_dead",
            worst,
            model="m",
            estimate_nano=0,
            terms=Terms(worst),
            turn=QueuePlace(keys.wakes("dead")),
        )
        died = asyncio.get_running_loop().time()
        asking = await budget.ask(max_tokens=100)
        assert (await budget.queue())[0] == "req_dead"
        budget.free.set()
        assert (await asking).status == 200
        assert asyncio.get_running_loop().time() - died < 2.5
        assert await budget.queue() == []


async def test_who_may_call_is_asked_again_after_a_wait(patient: Stack, openrouter: FakeOpenRouter) -> None:
    """A secret key that was rotated during the wait is refused, and no hold stays open."""
    async with occupied(patient, openrouter) as budget:
        asking = await budget.ask(max_tokens=100)
        await patient.gateway.services.apps.rotate(patient.app["appId"], "live", grace_seconds=0)
        budget.free.set()
        assert (await asking).refusal == (401, "auth")
    assert (await patient.standing()).held_nano == 0


async def test_waiting_asks_redis_no_more_than_a_few_times_a_second(
    patient: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first waiting request of a process polls for all that wait for the same budget: 50 cost as much as one."""
    async with occupied(patient, openrouter) as budget:
        for _ in range(50):
            await budget.ask(max_tokens=100)
        ledger, asked = patient.gateway.services.ledger, 0
        admit = ledger.admit

        async def counted(*given: object, **more: object) -> object:
            nonlocal asked
            asked += 1
            return await admit(*given, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(ledger, "admit", counted)
        began = asyncio.get_running_loop().time()
        while asked < 3:
            await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - began > 0.7
        assert len(await budget.queue()) == 50


async def test_a_place_that_nobody_waits_in_is_given_back(patient: Stack, openrouter: FakeOpenRouter) -> None:
    """If the leave message of a live process was lost, the first waiting request of that process removes the place."""
    async with occupied(patient, openrouter) as budget:
        channel = keys.wakes(patient.gateway.services.broadcast.process)
        await patient.redis.zadd(patient.budget().queue, {f"{channel} req_lost": 0.5})
        asking = await budget.ask(max_tokens=100)
        assert (await budget.queue())[0] == "req_lost"
        while (await budget.queue())[0] == "req_lost":
            await asyncio.sleep(0.01)
        budget.free.set()
        assert (await asking).status == 200


async def test_while_redis_is_away_nobody_waits(
    patient: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first poll that fails ends the wait of all requests for that budget: 503 for each, at once."""
    async with occupied(patient, openrouter) as budget:
        waiting = [await budget.ask(max_tokens=100) for _ in range(5)]

        async def away(*_: object, **__: object) -> None:
            raise Unavailable

        monkeypatch.setattr(patient.gateway.services.ledger, "admit", away)
        began = asyncio.get_running_loop().time()
        assert {(await asking).refusal for asking in waiting} == {(503, "unavailable")}
        assert asyncio.get_running_loop().time() - began < 2
        while await budget.queue():
            await asyncio.sleep(0)
    assert (await patient.standing()).held_nano == 0


async def test_who_has_its_hold_waits_no_more(patient: Stack, openrouter: FakeOpenRouter) -> None:
    """Also if the reply with its place was lost: otherwise its place would block the queue while the request runs."""
    async with occupied(patient, openrouter) as budget:
        worst = WorstCase(1_000_000, 0, 1)
        channel = keys.wakes(patient.gateway.services.broadcast.process)
        held = []
        for _ in range(2):
            held.append(
                await patient.gateway.services.ledger.admit(
                    patient.budget(),
                    "req_again",
                    worst,
                    model="m",
                    estimate_nano=0,
                    terms=Terms(worst),
                    turn=QueuePlace(channel),
                )
            )
            await patient.redis.hincrby(patient.budget().budget, "cap_nano", 1_000_000)
        assert isinstance(held[0], Queued)
        assert isinstance(held[1], Admission)
        assert await budget.queue() == []


async def test_whoever_has_waited_for_its_time_gets_no_other(
    redis_url: str, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request whose terms are required only after a wait gets no new place and no second rate-limit count."""
    settings = settings_for(redis_url, openrouter.url, WATTFARE_ADMISSION_WAIT_SECONDS="0.3")
    async with open_stack(settings) as stack, occupied(stack, openrouter) as budget:
        names, far_ms = stack.budget(), 10**14
        await stack.redis.zadd(names.queue, {"wf:wakes:other req_other": 0.5})
        await stack.redis.hset(names.alive, "wf:wakes:other", far_ms)
        await stack.redis.hset(names.budget, "waiting_ms", far_ms)
        turns: list[QueuePlace] = []
        admit = stack.gateway.services.ledger.admit

        async def noted(*given: object, turn: QueuePlace, **more: object) -> object:
            turns.append(turn)
            return await admit(*given, turn=turn, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(stack.gateway.services.ledger, "admit", noted)
        asking = await budget.ask(max_tokens=100)
        assert (await asking).refusal == (402, "budget_exceeded")
        assert [turn.is_over for turn in turns] == [False, True, True]


async def test_no_more_wait_than_memory_carries(
    patient: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parsed size of bodies is limited: a value of three bytes takes about a hundred."""
    monkeypatch.setattr(waiting, "MOST_BODY_BYTES", 1_000_000)
    async with occupied(patient, openrouter) as budget:
        first = await budget.ask(max_tokens=100, metadata=[[]] * 4000)
        refused = await patient.chat(question(max_tokens=100, metadata=[[]] * 4000))
        assert refused.refusal == (402, "budget_exceeded")
        assert refused.document["error"]["limit"] == "in_flight"
        budget.free.set()
        assert (await first).status == 200
