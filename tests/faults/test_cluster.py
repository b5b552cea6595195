"""The money path on a real Cluster and under Sentinels: slots move, masters die, nothing is lost."""

import asyncio
import contextlib
import gc
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from gateway.errors import BudgetExceeded, Unavailable
from gateway.keys import RANDOM_BYTES, request_id
from gateway.ledger.outcomes import Settlement
from gateway.ledger.worst_case import Terms, WorstCase
from tests.clusters import MASTERS, SentinelGroup, ValkeyCluster
from tests.faults.openrouter import ask_raw
from tests.faults.process_forker import ForkedGateway, ProcessForker
from tests.faults.world import FaultWorld, Sandbox, open_sandbox, open_world, until, variables

SHORT = {"model": "sandbox/echo", "stream": True, "messages": [{"role": "user", "content": "Say this back, please."}]}
LONG = {"model": "sandbox/slow-20", "stream": True, "messages": [{"role": "user", "content": "word " * 100}]}
USERS = [f"user-{number}" for number in range(8)]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Collect garbage, so that an unclosed connection warns in this test and not in a later one."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    """Three masters, each with a replica."""
    with ValkeyCluster() as running:
        yield running


@dataclass
class ClusterScenario:
    """A gateway that sweeps, on some Redis, before the sandbox; and users spread over the slots."""

    world: FaultWorld
    sandbox: Sandbox
    gateway: ForkedGateway
    forker: ProcessForker
    environment: dict[str, str]

    async def ask(self, user: str) -> int:
        """One short call; its status, 0 when the connection broke."""
        with contextlib.suppress(aiohttp.ClientError):
            async with self.world.ask(self.gateway.url, user, SHORT) as answer:
                await answer.read()
                status: int = answer.status
                return status
        return 0

    async def is_paid(self, user: str) -> bool:
        """Whether the ledger has become the bill, and nothing is held."""
        billed = await self.sandbox.billed_nano(self.world.key(user))
        books = await self.world.books(user)
        return books.agree and books.spent_nano == billed > 0

    async def under_load(self, act: "asyncio.Future[object]") -> list[int]:
        """Call for all users until `act` is done; return the statuses."""
        statuses: list[int] = []

        async def caller(user: str) -> None:
            while not act.done():
                statuses.append(await self.ask(user))

        await asyncio.gather(act, *map(caller, USERS))
        return statuses


@contextlib.asynccontextmanager
async def _open_house(url: str, folder: Path, **gateway: str) -> AsyncIterator[ClusterScenario]:
    async with open_sandbox("sandbox/slow-20") as sandbox, ProcessForker(folder) as forker:
        environment = variables(url, sandbox.url, WATTFARE_SWEEPER="on", WATTFARE_HOLD_SECONDS="3")
        async with open_world(environment) as world:
            for user in USERS:
                await world.connect(user)
            yield ClusterScenario(world, sandbox, await forker.start({**environment, **gateway}), forker, environment)


def _move_round(cluster: ValkeyCluster, key: str, times: int) -> None:
    for _ in range(times):
        cluster.move(key, (cluster.owner(key) + 1) % MASTERS)


@pytest.fixture
async def house(cluster: ValkeyCluster, tmp_path: Path) -> AsyncIterator[ClusterScenario]:
    """A house on the Cluster."""
    async with _open_house(cluster.url, tmp_path) as running:
        yield running


async def test_a_chat_on_a_cluster_is_settled_and_its_users_lie_on_all_masters(
    house: ClusterScenario, cluster: ValkeyCluster
) -> None:
    """The whole path, for users of every master."""
    assert {cluster.owner(house.world.budget(user).budget) for user in USERS} == {0, 1, 2}
    assert await asyncio.gather(*map(house.ask, USERS)) == [200] * len(USERS)
    for user in USERS:
        await until(lambda user=user: house.is_paid(user))  # type: ignore[misc]


async def test_contenders_never_overspend_while_their_slot_moves(
    house: ClusterScenario, cluster: ValkeyCluster
) -> None:
    """Holds race for a cap that carries forty, from master to master, until hundreds have come to nothing."""
    world, budget, ledger = house.world, house.world.budget("racer"), house.world.services.ledger
    await world.connect("racer", "0.04")
    worst = WorstCase(fixed_nano=1_000_000, per_token_zepto=0, max_tokens=100)
    strict = Terms(worst, goes_beyond=False)
    moving = asyncio.ensure_future(asyncio.to_thread(_move_round, cluster, budget.budget, 3))

    async def close(request: str, settlement: Settlement) -> None:
        while True:
            with contextlib.suppress(Unavailable):
                await ledger.settle(budget, request, settlement)
                return

    async def contend() -> int:
        refused = admitted = 0
        while refused < 20 or not moving.done():
            request = request_id("a" * 13, secrets.token_bytes(RANDOM_BYTES))
            try:
                await ledger.admit(budget, request, worst, model="m", estimate_nano=0, terms=strict)
            except BudgetExceeded:
                refused += 1
            except Unavailable:
                await close(request, Settlement("void"))
            else:
                await close(request, Settlement("settled", 1_000_000))
                admitted += 1
        return admitted

    admitted = sum(await asyncio.gather(*(contend() for _ in range(20))))
    await moving
    books = await world.books("racer")
    assert books.agree
    assert (admitted, books.spent_nano) == (40, 40_000_000)


async def test_a_killed_gateway_on_a_cluster_is_swept_by_another(house: ClusterScenario) -> None:
    """The list of due holds is spread over slots of its own, and found."""
    dying = await house.forker.start(house.environment, point="relayed", nth=6)
    with contextlib.suppress(aiohttp.ClientError):
        async with house.world.ask(dying.url, USERS[0], LONG) as answer:
            await answer.read()
    assert await dying.ended() == -9
    await until(lambda: house.is_paid(USERS[0]))
    assert "estimated" not in (await house.world.books(USERS[0])).statuses


async def test_a_revoke_on_a_cluster_ends_open_streams(house: ClusterScenario) -> None:
    """Cuts are received regardless of the node they are published on."""
    answer = await ask_raw(house.gateway.port, house.world.headers(USERS[1]), LONG)
    await answer.read_head()
    await answer.read(100)
    asked = time.monotonic()
    # Answered later than the stream ends: a gateway killed moments ago is still waited for.
    revoking = asyncio.create_task(house.world.services.connections.revoke(house.world.budget(USERS[1])))
    await answer.read()
    assert time.monotonic() - asked < 1
    await revoking
    assert b'"code":"not_connected"' in answer.body
    await answer.hang_up()
    assert await house.ask(USERS[1]) == 402
    await until(lambda: house.is_paid(USERS[1]))


async def test_slots_that_move_under_load_lose_nothing(house: ClusterScenario, cluster: ValkeyCluster) -> None:
    """Budgets go to another master, key by key, while their users call."""
    loop = asyncio.get_running_loop()

    def move_all() -> None:
        for user in USERS[:4]:
            _move_round(cluster, house.world.budget(user).budget, 1)

    statuses = await house.under_load(loop.run_in_executor(None, move_all))
    assert set(statuses) <= {200, 503}
    assert 200 in statuses
    for user in USERS:
        await until(lambda user=user: house.is_paid(user))  # type: ignore[misc]


async def test_a_master_that_dies_is_replaced_and_nothing_is_lost(
    house: ClusterScenario, cluster: ValkeyCluster
) -> None:
    """Calls are refused while it is away and answered afterwards; each cent is in the ledger."""
    loop = asyncio.get_running_loop()
    statuses = await house.under_load(loop.run_in_executor(None, cluster.fail_over, 1))
    assert set(statuses) <= {200, 503}

    async def all_answer() -> bool:
        return set(await asyncio.gather(*map(house.ask, USERS))) == {200}

    await until(all_answer)
    # This process follows by itself, perhaps a moment later than the gateway.
    await house.world.services.store.opened()
    for user in USERS:
        await until(lambda user=user: house.is_paid(user))  # type: ignore[misc]


async def test_under_sentinels_a_frozen_master_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    """A stream open during the failover completes and is settled on the new master, where a revocation works.

    The first Sentinel is silent meanwhile.
    """
    loop = asyncio.get_running_loop()
    with SentinelGroup() as group:
        # A deadline longer than the failover would lead to no refusals.
        async with _open_house(group.url, tmp_path, WATTFARE_REDIS_DEADLINE_MS="500") as house:
            first = await ask_raw(house.gateway.port, house.world.headers(USERS[0]), LONG)
            await first.read_head()
            await first.read(100)
            group.silence_one()
            group.master.freeze()
            assert await house.ask(USERS[0]) == 503
            await loop.run_in_executor(None, group.wait_for_failover)
            await first.read()
            assert first.is_whole
            await first.hang_up()

            async def is_answered() -> bool:
                return await house.ask(USERS[0]) == 200

            await until(is_answered)
            # This process follows by itself, perhaps a moment later than the gateway.
            await house.world.services.store.opened()
            await until(lambda: house.is_paid(USERS[0]))
            second = await ask_raw(house.gateway.port, house.world.headers(USERS[1]), LONG)
            await second.read_head()
            await second.read(100)
            asked = time.monotonic()
            await house.world.services.connections.revoke(house.world.budget(USERS[1]))
            await second.read()
            assert b'"code":"not_connected"' in second.body
            assert time.monotonic() - asked < 1
            await second.hang_up()
            await until(lambda: house.is_paid(USERS[1]))
