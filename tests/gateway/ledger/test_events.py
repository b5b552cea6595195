"""Events: written atomically with their cause, leased by one sender, sent in order, replayed from a given entry."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.ledger.events import Event, Events
from gateway.ledger.outcomes import Settlement
from gateway.ledger.sweeper import Sweeper
from gateway.ledger.worst_case import WorstCase
from gateway.openrouter.client import Client
from gateway.payers.connections import Approval, By
from gateway.services import Services
from tests.gateway.stack import PATIENCE_SECONDS
from tests.scripts.books import BUDGET, KEY, connect, opened, spend

pytestmark = pytest.mark.each_store

LEASE_MS = 60_000


@pytest.fixture
async def services(redis_url: str, tmp_path: Path) -> AsyncIterator[Services]:
    """A connection that was made, paused and revoked."""
    async with opened(redis_url, tmp_path) as running:
        await connect(running)
        await running.connections.pause(BUDGET)
        await running.connections.pause(BUDGET)
        await running.connections.revoke(BUDGET, by=By.APP)
        yield running


async def take(events: Events, since_ms: int = 0) -> Event:
    found = await events.take(BUDGET, since_ms=since_ms, lease_ms=LEASE_MS)
    assert isinstance(found, Event)
    return found


async def rest_of(events: Events) -> list[Event]:
    """Take what is left, each once."""
    found = []
    while isinstance(event := await events.take(BUDGET, since_ms=0, lease_ms=LEASE_MS), Event):
        found.append(event)
        await events.finish(BUDGET, event)
    assert event is None
    return found


async def test_each_change_is_one_event_in_its_order(services: Services) -> None:
    """What changes nothing is none."""
    told = [event.fields for event in await rest_of(services.ledger.events)]
    cap = {"cap_nano": "10000000000"}
    paused = {"event": "connection.updated", "change": "paused", "state": "paused", **cap, "by": "payer"}
    assert told == [
        {"event": "connection.created", **cap, "by": "operator"},
        paused,
        {"event": "connection.revoked", "by": "app"},
    ]


async def test_one_sender_has_an_event_and_what_failed_waits(services: Services) -> None:
    """During the lease no other sender gets the event; after its backoff it is retried, and later events follow it."""
    events = services.ledger.events
    first = await take(events)
    wait_ms = await events.take(BUDGET, since_ms=0, lease_ms=LEASE_MS)
    assert isinstance(wait_ms, int)
    assert 0 < wait_ms <= LEASE_MS
    following = await events.peek(BUDGET, since_ms=0)
    assert following is not None
    assert following[0] == first
    assert 0 < following[1] <= wait_ms
    await events.retry_later(BUDGET, first, after_ms=0, is_attempt=True)
    again = await take(events)
    assert (again.entry_id, again.tries) == (first.entry_id, 1)
    await events.retry_later(BUDGET, again, after_ms=0, is_attempt=False)
    assert (await take(events)).tries == 1
    await events.finish(BUDGET, again)
    second = await take(events)
    assert (second.fields["event"], second.tries) == ("connection.updated", 0)


async def test_what_happened_before_the_endpoint_is_told_only_when_it_is_told_again(services: Services) -> None:
    """A replay sends from a given entry to the newest, delivered or not; afterwards only new events are sent."""
    events = services.ledger.events
    every = await rest_of(events)
    assert await events.take(BUDGET, since_ms=0, lease_ms=LEASE_MS) is None
    assert await events.replay(BUDGET, every[1].entry_id)
    assert [event.entry_id for event in await rest_of(events)] == [event.entry_id for event in every[1:]]
    assert await rest_of(events) == []
    assert not await events.replay(BUDGET, f"{every[-1].at_ms + 1}-0")
    await services.store.call("DEL", BUDGET.delivery)
    assert await events.take(BUDGET, since_ms=every[-1].at_ms + 1, lease_ms=LEASE_MS) is None
    assert (await take(events, every[-1].at_ms)).entry_id in [event.entry_id for event in every]


async def test_a_replay_that_is_asked_for_during_another_one_counts(services: Services) -> None:
    """The acknowledgement of an event that was in flight does not end the new replay."""
    events = services.ledger.events
    every = await rest_of(events)
    await events.replay(BUDGET, every[2].entry_id)
    running = await take(events)
    await events.replay(BUDGET, every[0].entry_id)
    await events.finish(BUDGET, running)
    assert len(await rest_of(events)) == len(every)


async def test_a_budget_is_listed_before_its_event_is_written(services: Services) -> None:
    """A budget stays listed until two passes, one lease apart, have found no event."""
    events, shard = services.ledger.events, BUDGET.event_shard
    number = int(shard.rpartition(":")[2])
    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(2):
            assert await services.store.call("ZSCORE", shard, BUDGET.name) is not None
            while BUDGET not in await events.take_due(number, most=10, lease_ms=0):
                await asyncio.sleep(0.01)
            await events.rest(BUDGET, lease_ms=0)
    assert await services.store.call("ZSCORE", shard, BUDGET.name) is None
    events.list_now(BUDGET)
    await services.store.drained(5)
    listed = await services.store.call("ZSCORE", shard, BUDGET.name)
    assert await events.count_late(int(listed)) == 1


async def test_thresholds_are_told_once_however_many_settle_at_once(redis_url: str, tmp_path: Path) -> None:
    """Two processes, each settlement repeated by the other one: three thresholds, three events."""
    async with opened(redis_url, tmp_path) as one, opened(redis_url, tmp_path) as other:
        await one.connections.approve(BUDGET, Approval(100_000, KEY))
        for number in range(100):
            await one.ledger.admit(BUDGET, f"r{number}", WorstCase(1000, 0, 1), model="m", estimate_nano=1)
        settled = Settlement("settled", 1000)
        await asyncio.gather(
            *(each.ledger.settle(BUDGET, f"r{number}", settled) for number in range(100) for each in (one, other))
        )
        await one.store.drained(5)
        told = [event.fields.get("percent") for event in await rest_of(other.ledger.events)]
        assert told == [None, "50", "80", "100"]
        assert await one.store.call("ZSCORE", BUDGET.event_shard, BUDGET.name) is not None


async def test_an_event_whose_settler_died_is_found_by_whoever_sweeps(redis_url: str, tmp_path: Path) -> None:
    """The settlement's answer was read by nobody: the next look at the budget's holds lists it, once."""
    async with opened(redis_url, tmp_path) as services:
        await connect(services)
        await spend(services, "a", Settlement("settled", 10**10))
        await services.store.drained(5)
        await services.store.call("DEL", BUDGET.event_shard)
        sweeper = Sweeper(services.ledger, Client.of(services.settings), services.sealer, reconcile_seconds=1)
        await sweeper.sweep(BUDGET)
        assert await services.store.call("ZSCORE", BUDGET.event_shard, BUDGET.name) is not None
        await services.store.call("DEL", BUDGET.event_shard)
        await sweeper.sweep(BUDGET)
        assert await services.store.call("ZSCORE", BUDGET.event_shard, BUDGET.name) is None
