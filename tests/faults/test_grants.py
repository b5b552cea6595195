"""N requests of a grant are N requests upstream: over two processes, and when one of them is killed in the midst."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.fakes import MODEL, FakeOpenRouter
from tests.faults.process_forker import ForkedGateway, ProcessForker
from tests.faults.world import FaultWorld, open_world, variables

pytestmark = pytest.mark.each_store

REDEMPTIONS = 1000
REQUESTS = 7
BODY = {"model": MODEL, "max_tokens": 16, "messages": [{"role": "user", "content": "Say hello."}]}


@dataclass
class GrantScenario:
    """Two gateway processes on one Redis, before an OpenRouter that counts what reaches it."""

    world: FaultWorld
    forker: ProcessForker
    environment: dict[str, str]
    openrouter: FakeOpenRouter

    async def redeem(self, gateway: ForkedGateway, name: str) -> int:
        """Use a grant once; the status, 0 when the connection broke."""
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            async with self.world.ask(gateway.url, name, BODY) as answer:
                await answer.read()
                status: int = answer.status
                return status
        return 0


@pytest.fixture
async def hall(redis_url: str, tmp_path: Path) -> AsyncIterator[GrantScenario]:
    """Nothing sweeps but the test."""
    async with FakeOpenRouter().running() as openrouter:
        environment = variables(redis_url, openrouter.url, WATTFARE_HOLD_SECONDS="60")
        async with ProcessForker(tmp_path) as forker, open_world(environment) as world:
            yield GrantScenario(world, forker, environment, openrouter)


@pytest.mark.timeout(90)
async def test_a_thousand_redemptions_at_once_are_seven_requests(hall: GrantScenario) -> None:
    """Of a grant of seven, over two processes: the others are refused, and nothing is left of its key."""
    await hall.world.grant("many", REQUESTS)
    gateways = [await hall.forker.start(hall.environment) for _ in range(2)]
    asked = (hall.redeem(gateways[number % 2], "many") for number in range(REDEMPTIONS))
    statuses = await asyncio.gather(*asked)
    assert sorted(statuses) == [200] * REQUESTS + [402] * (REDEMPTIONS - REQUESTS)
    assert len(hall.openrouter.received) == REQUESTS
    await hall.world.swept("many")
    books = await hall.world.books("many")
    assert (books.agree, books.used) == (True, REQUESTS)
    standing = await hall.world.services.ledger.standing(hall.world.budget("many"))
    assert "funding" not in standing.fields


@pytest.mark.parametrize(("point", "lost"), [("held", 1), ("connected", 1), ("opened", 0), ("answered", 0)])
async def test_a_killed_process_neither_adds_nor_loses_a_request(hall: GrantScenario, point: str, lost: int) -> None:
    """What had not left when it was killed is given back by the sweep, once, and can be used; what had left is used."""
    await hall.world.grant("killed", REQUESTS)
    dying = await hall.forker.start(hall.environment, point=point, nth=3)
    living = await hall.forker.start(hall.environment)
    for _ in range(3):
        await hall.redeem(dying, "killed")
    assert await dying.ended() == -9
    budget, store = hall.world.budget("killed"), hall.world.services.store
    left = await store.call("ZRANGE", budget.due, 0, -1)
    first = await asyncio.gather(*(hall.redeem(living, "killed") for _ in range(50)))
    # Uses of the dead process that are not swept yet count as taken.
    assert first.count(402) >= 50 - REQUESTS + lost
    for request_id in left:
        # As when its lease has run out: half a millisecond more is the mark of what was sent.
        mark = float(await store.call("ZSCORE", budget.due, request_id)) % 1
        await store.call("ZADD", budget.due, "XX", str(1 + mark), request_id)
    await hall.world.swept("killed")
    rest = [await hall.redeem(living, "killed") for _ in range(REQUESTS)]
    assert rest[-1] == 402
    assert len(hall.openrouter.received) == REQUESTS
    await hall.world.swept("killed")
    books = await hall.world.books("killed")
    assert (books.agree, books.used) == (True, REQUESTS)
