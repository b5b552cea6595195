"""Redis away under whole gateways: refused at once, streams go on, and money is settled when it is back."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.openrouter import RawAnswer, ask_raw
from tests.faults.process_forker import ROOT, ForkedGateway, ProcessForker
from tests.faults.world import PATIENCE_SECONDS, FaultWorld, Sandbox, open_sandbox, open_world, until, variables
from tests.servers import ValkeyServer, open_client

MODEL = "sandbox/slow-20"
TEXT = "word " * 80
STREAM = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": TEXT}]}
SHORT = {"model": "sandbox/echo", "stream": False, "messages": [{"role": "user", "content": "Hi"}]}
# P6.
REFUSED_SECONDS = 0.1
ASKED = 9


@dataclass
class OutageScenario:
    """One Redis of its own, one gateway process with its sweeper, and the sandbox."""

    redis: ValkeyServer
    gateway: ForkedGateway
    world: FaultWorld
    sandbox: Sandbox
    environment: dict[str, str]
    forker: ProcessForker
    streams: list[RawAnswer] = field(default_factory=list)
    is_refused: asyncio.Event = field(default_factory=asyncio.Event)

    async def open_stream(self, user: str) -> RawAnswer:
        """Return a stream whose first tokens have arrived."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                answer = await ask_raw(self.gateway.port, self.world.headers(user), STREAM)
                self.streams.append(answer)
                await answer.read_head()
                if answer.status == 200:
                    await answer.read(200)
                    return answer
                # On a busy machine Redis may count as away once more: repeat the call after a 503.
                assert answer.status == 503
                await answer.hang_up()

    async def refusals(self, user: str) -> list[float]:
        """Ask again and again; return the seconds each refusal took longer than an answer that needs no Redis may."""
        return [await self._refusal(user) for _ in range(ASKED)]

    async def _refusal(self, user: str) -> float:
        probing = asyncio.ensure_future(self._slowest_probe())
        starved = self._starved_seconds()
        asked = time.monotonic()
        async with self.world.ask(self.gateway.url, user, SHORT) as answer:
            document = json.loads(await answer.read())
        took = time.monotonic() - asked
        assert (answer.status, document["error"]["code"]) == (503, "unavailable"), document
        assert "Retry-After" in answer.headers
        self.is_refused.set()
        # Of a wait with several steps a probe shows one.
        return took - max(await probing, self._starved_seconds() - starved)

    def _starved_seconds(self) -> float:
        """How long gateway and test were ready to run while others had the cores, by Linux's count; else 0."""
        counts = [Path(f"/proc/{pid}/schedstat") for pid in (self.gateway.pid, os.getpid())]
        return sum(int(count.read_text().split()[1]) for count in counts if count.exists()) / 1e9

    async def _slowest_probe(self) -> float:
        """Ask the same gateway, by the same client, for what needs no Redis, again and again until the refusal is here.

        The longest of these answers is what this machine, busy with other work, makes any answer take.
        """
        self.is_refused.clear()
        slowest = 0.0
        while not self.is_refused.is_set():
            asked = time.monotonic()
            async with self.world.client.get(f"{self.gateway.url}/healthz") as answer:
                await answer.read()
            slowest = max(slowest, time.monotonic() - asked)
        return slowest

    async def answers(self, user: str) -> bool:
        """Whether a request is answered."""
        async with self.world.ask(self.gateway.url, user, SHORT) as answer:
            await answer.read()
            status: int = answer.status
        return status == 200

    async def paid(self, user: str) -> bool:
        """Whether the ledger has become the bill."""
        billed = await self.sandbox.billed_nano(self.world.key(user))
        books = await self.world.books(user)
        return books.agree and books.spent_nano == billed > 0


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[OutageScenario]:
    """A gateway with a payer, whose Redis keeps its data over a restart."""
    with ValkeyServer(tcp=True, durable=True) as redis:
        async with open_sandbox(MODEL) as sandbox, ProcessForker(tmp_path) as forker:
            environment = variables(
                redis.tcp_url,
                sandbox.url,
                WATTFARE_SWEEPER="on",
                WATTFARE_HOLD_SECONDS="5",
                WATTFARE_REDIS_DEADLINE_MS="75",
            )
            async with open_world({**environment, "WATTFARE_REDIS_DEADLINE_MS": "1000"}) as world:
                await world.connect("ada")
                gateway = await forker.start(environment)
                house = OutageScenario(redis, gateway, world, sandbox, environment, forker)
                yield house
                for stream in house.streams:
                    await stream.hang_up()


def _freeze(redis: ValkeyServer) -> Callable[[], object]:
    redis.freeze()
    return redis.thaw


def _stop(redis: ValkeyServer) -> Callable[[], object]:
    redis.stop()
    return redis.start


def _kill(redis: ValkeyServer) -> Callable[[], object]:
    redis.kill()
    return redis.start


@pytest.mark.parametrize("away", [_freeze, _stop, _kill])
async def test_while_redis_is_away_requests_are_refused_at_once_and_streams_go_on(
    house: OutageScenario, away: Callable[[ValkeyServer], Callable[[], object]]
) -> None:
    """503 quickly; the open stream completes and is settled; one log line for the outage, one for its end."""
    stream = await house.open_stream("ada")
    come_back = away(house.redis)
    took = await house.refusals("ada")
    assert max(took) < REFUSED_SECONDS, took
    await stream.read()
    assert stream.is_whole
    assert stream.body.endswith(b"data: [DONE]\n\n")
    assert stream.body.count(b'"content":"') >= 80
    outage = ("store_away", "store_back", "store_refused")
    assert house.gateway.events(*outage) == ["store_away"]
    come_back()
    await until(lambda: house.answers("ada"))
    await house.world.services.store.opened()
    await until(lambda: house.paid("ada"))
    # On a busy machine Redis may count as away once more.
    assert house.gateway.events(*outage) in (["store_away", "store_back"], ["store_away", "store_back"] * 2)
    assert "estimated" not in (await house.world.books("ada")).statuses
    assert house.gateway.events("bug", "request_failed") == []


@pytest.mark.parametrize("away", [_freeze, _kill])
async def test_after_an_outage_a_revoke_still_cuts_open_streams(
    house: OutageScenario, away: Callable[[ValkeyServer], Callable[[], object]]
) -> None:
    """The gateway receives cuts again, with a stream open all the time."""
    stream = await house.open_stream("ada")
    come_back = away(house.redis)
    await house.refusals("ada")
    come_back()
    await until(lambda: house.answers("ada"))
    second = await house.open_stream("ada")
    await house.world.services.store.opened()
    asked = time.monotonic()
    await house.world.services.connections.revoke(house.world.budget("ada"))
    for open_stream in (stream, second):
        await open_stream.read()
        assert b'"code":"not_connected"' in open_stream.body
    assert time.monotonic() - asked < 1.5
    await until(lambda: house.paid("ada"))


async def test_a_revoke_during_the_gap_cuts_the_stream_when_the_gap_ends(house: OutageScenario) -> None:
    """A gateway catches up on cuts that its subscription missed."""
    stream = await house.open_stream("ada")
    house.gateway.send(signal.SIGSTOP)
    await house.world.services.connections.revoke(house.world.budget("ada"))
    house.gateway.send(signal.SIGCONT)
    await stream.read()
    assert b'"code":"not_connected"' in stream.body
    await until(lambda: house.paid("ada"))


async def test_sigterm_during_the_outage_ends_in_time_and_the_sweeper_settles(house: OutageScenario) -> None:
    """Exit code 0; what could not be settled is found by another process once Redis is back."""
    stream = await house.open_stream("ada")
    house.redis.freeze()
    await house.refusals("ada")
    asked = time.monotonic()
    house.gateway.send(signal.SIGTERM)
    await stream.read()
    assert stream.is_whole
    assert await house.gateway.ended() == 0
    # The drain, and the moments in which settlements may still reach Redis.
    assert time.monotonic() - asked < 5 + 10
    house.redis.thaw()
    house.gateway = await house.forker.start(house.environment)
    await until(lambda: house.paid("ada"))
    assert "estimated" not in (await house.world.books("ada")).statuses


async def test_an_emptied_redis_is_refused_until_the_operator_accepts_it(house: OutageScenario) -> None:
    """Never everybody back to zero: 503 until `scripts.accept_store --yes`."""
    assert await house.answers("ada")
    house.redis.kill()
    for kept in (house.redis.folder / "appendonlydir").iterdir():
        kept.unlink()
    house.redis.start()

    async def is_refused() -> bool:
        return house.gateway.events("store_refused") == ["store_refused"]

    await until(is_refused)
    await house.refusals("ada")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scripts.accept_store", "--yes"), cwd=ROOT, env=house.environment
    )
    assert await process.wait() == 0

    async def knows_nobody() -> bool:
        async with house.world.ask(house.gateway.url, "ada", SHORT) as answer:
            return bool(answer.status == 401)

    await until(knows_nobody)


async def test_a_redis_that_takes_few_clients_serves_bursts_and_is_met_again(tmp_path: Path) -> None:
    """Twenty clients at most, two gateways, 48 calls at once, and every connection cut meanwhile: it passes."""
    with ValkeyServer(tcp=True, options=("--maxclients", "20")) as redis:
        async with open_sandbox(MODEL) as sandbox, ProcessForker(tmp_path) as forker:
            environment = variables(redis.tcp_url, sandbox.url)
            async with open_world(environment) as world:
                await world.connect("ada")
                gateways = [await forker.start(environment) for _ in range(2)]
                house = OutageScenario(redis, gateways[0], world, sandbox, environment, forker)

                async def status(gateway: ForkedGateway) -> int:
                    async with world.ask(gateway.url, "ada", SHORT) as answer:
                        await answer.read()
                        return int(answer.status)

                with open_client(redis.tcp_url) as operator:
                    for _ in range(3):
                        burst = [asyncio.ensure_future(status(gateway)) for gateway in gateways for _ in range(48)]
                        await burst[0]
                        operator.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                        assert set(await asyncio.gather(*burst)) <= {200, 503}
                        assert [await status(gateway) for gateway in gateways * 5] == [200] * 10
                    names = [client["name"] for client in operator.client_list()]
                # Two for each gateway, two for the process of this test.
                assert names.count("wattfare") <= 2 * 3
                await until(lambda: house.paid("ada"))
