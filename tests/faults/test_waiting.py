"""Requests that wait for money over two gateways: in one queue, past a killed process, and not beyond a stop."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.fakes import MODEL, STREAMED, Exchange, FakeOpenRouter, whole_answer
from tests.faults.process_forker import ForkedGateway, ProcessForker
from tests.faults.world import FaultWorld, open_world, until, variables

UNPRICED = "acme/router"
USER = "ada"
# A lease of 1.5 seconds, the next retry of a live process, and a margin for a busy machine.
PASSED_OVER_SECONDS = 3.0


class HoldingOpenRouter(FakeOpenRouter):
    """Answers at once, except the unpriced model, which it holds until released; records the order of arrival."""

    def __init__(self) -> None:
        super().__init__(play=self._play)
        self.free = asyncio.Event()
        self.begun = asyncio.Event()
        self.ceilings: list[int] = []

    async def _play(self, turn: Exchange) -> None:
        body = json.loads(turn.request.body)
        if body["model"] != UNPRICED:
            self.ceilings.append(body["max_tokens"])
            await whole_answer(turn)
            return
        self.begun.set()
        await self.free.wait()
        await turn.head()
        await turn.send(STREAMED)
        await turn.end()


class WaitingScenario:
    """Two gateways, one of which carries a request that holds all of the payer's cap."""

    def __init__(self, world: FaultWorld, openrouter: HoldingOpenRouter, environment: dict[str, str]) -> None:
        self.world = world
        self.openrouter = openrouter
        self.environment = environment
        self.asked: list[asyncio.Task[int]] = []

    async def ask(self, gateway: ForkedGateway, model: str = MODEL, max_tokens: int = 100) -> int:
        """Ask; return the status."""
        body = {"model": model, "max_tokens": max_tokens, "messages": [{"role": "user", "content": "Hello?"}]}
        async with self.world.ask(gateway.url, USER, body) as answer:
            await answer.read()
            status: int = answer.status
            return status

    def start(self, gateway: ForkedGateway, model: str = MODEL, max_tokens: int = 100) -> "asyncio.Task[int]":
        """Ask beside the test."""
        self.asked.append(asyncio.create_task(self.ask(gateway, model, max_tokens)))
        return self.asked[-1]

    async def waiters(self) -> int:
        """How many wait, over all processes."""
        found: int = await self.world.services.store.call("ZCARD", self.world.budget(USER).queue)
        return found

    async def wait_for(self, waiters: int) -> None:
        """Return when so many wait."""

        async def is_so() -> bool:
            return await self.waiters() == waiters

        await until(is_so)


@pytest.fixture
async def bench(redis_url: str, tmp_path: Path) -> AsyncIterator[tuple[WaitingScenario, ProcessForker, ForkedGateway]]:
    """A bench, where its gateways come from, and the one that carries the holder."""
    openrouter = HoldingOpenRouter()
    async with openrouter.running():
        environment = variables(
            redis_url, openrouter.url, WATTFARE_HOLD_SECONDS="60", WATTFARE_ADMISSION_WAIT_SECONDS="60"
        )
        async with ProcessForker(tmp_path) as forker, open_world(environment) as world:
            bench = WaitingScenario(world, openrouter, environment)
            await world.connect(USER, "1")
            first = await forker.start(environment)
            bench.start(first, UNPRICED)
            await openrouter.begun.wait()
            yield bench, forker, first
            openrouter.free.set()
            await asyncio.gather(*bench.asked, return_exceptions=True)


async def test_a_killed_process_leaves_nothing_held_and_nobody_waiting(
    bench: tuple[WaitingScenario, ProcessForker, ForkedGateway],
) -> None:
    """Its waiter, which came first, is skipped within two seconds in favour of a live process's."""
    stand, forker, first = bench
    doomed = await forker.start(stand.environment, point="waiting")
    with pytest.raises(aiohttp.ClientError):
        await stand.ask(doomed)
    assert await doomed.ended() == -signal.SIGKILL
    died = time.monotonic()
    assert await stand.waiters() == 1
    behind = stand.start(first)
    await stand.wait_for(2)
    stand.openrouter.free.set()
    assert await behind == 200
    assert time.monotonic() - died < PASSED_OVER_SECONDS
    assert await stand.waiters() == 0
    await stand.world.swept(USER)
    books = await stand.world.books(USER)
    assert books.agree
    assert books.statuses == ["settled", "settled"]


async def test_one_queue_serves_both_processes(bench: tuple[WaitingScenario, ProcessForker, ForkedGateway]) -> None:
    """In order of arrival, regardless of the process."""
    stand, forker, first = bench
    second = await forker.start(stand.environment)
    ceilings = [101, 102, 103, 104, 105, 106]
    calls = []
    for number, ceiling in enumerate(ceilings, 1):
        calls.append(stand.start((first, second)[number % 2], max_tokens=ceiling * 1000))
        await stand.wait_for(number)
    # Each bound is more than half of the cap, so that requests run one after the other.
    await stand.world.services.connections.set_cap(stand.world.budget(USER), 350_000_000)
    stand.openrouter.free.set()
    assert await asyncio.gather(*calls) == [200] * len(calls)
    assert stand.openrouter.ceilings == [ceiling * 1000 for ceiling in ceilings]


async def test_a_process_that_stops_answers_whoever_waits_and_lets_the_rest_end(
    bench: tuple[WaitingScenario, ProcessForker, ForkedGateway],
) -> None:
    """503 at once; what runs is drained; the exit code is 0."""
    stand, _, first = bench
    waiting = stand.start(first)
    await stand.wait_for(1)
    os.kill(first.pid, signal.SIGTERM)
    assert await waiting == 503
    assert not stand.asked[0].done()
    await stand.wait_for(0)
    stand.openrouter.free.set()
    assert await stand.asked[0] == 200
    assert await first.ended() == 0
