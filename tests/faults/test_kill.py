"""A gateway killed with SIGKILL at any point of the path loses no cent and keeps no money held."""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.faults.openrouter import ask_raw
from tests.faults.process_forker import ProcessForker
from tests.faults.world import FaultWorld, Sandbox, open_sandbox, open_world, until, variables

pytestmark = pytest.mark.each_store

MODEL = "sandbox/slow-4"
# Between the sent mark and the posting of OpenRouter's id, the request is settled at the estimate.
WINDOW = ("sending", "opened")
BEFORE = ("asked", "held", "connected")
AFTER = ("attached", "prepared", "relayed", "ended", "answered", "closing", "closed")


@dataclass(frozen=True, slots=True)
class Death:
    """Where a gateway dies, and what it carries then."""

    point: str
    nth: int
    stream: bool

    @property
    def user(self) -> str:
        """A payer of its own."""
        return f"{self.point}-{self.nth}-{'stream' if self.stream else 'whole'}"


DEATHS = [
    Death(point, nth, stream)
    for stream in (True, False)
    for point in (*BEFORE, *WINDOW, *AFTER)
    for nth in ((1, 2, 6) if point == "relayed" and stream else (1,))
]


async def _die(
    death: Death, world: FaultWorld, sandbox: Sandbox, forker: ProcessForker, environment: dict[str, str]
) -> str:
    """Run one death; return the differences afterwards."""
    # A payer of either kind meets each point.
    await (world.connect(death.user) if death.stream else world.grant(death.user, 1))
    gateway = await forker.start(environment, point=death.point, nth=death.nth)
    body = {"model": MODEL, "stream": death.stream, "messages": [{"role": "user", "content": "Say this back. " * 3}]}
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        async with world.ask(gateway.url, death.user, body) as answer:
            await answer.read()
    if await gateway.ended() != -9:
        return f"{death.user}: did not die there"
    billed = await sandbox.billed_nano(world.key(death.user))
    await world.swept(death.user)
    books = await world.books(death.user)
    marked = set(books.statuses) <= {"estimated"}
    if not books.agree:
        return f"{death.user}: {books}"
    if books.spent_nano != billed and not (death.point in WINDOW and marked):
        return f"{death.user}: billed {billed}, booked {books.spent_nano}: {books.statuses}"
    if death.point in AFTER and "estimated" in books.statuses:
        return f"{death.user}: only estimated"
    return ""


async def test_wherever_a_gateway_is_killed_the_bill_is_the_ledger(redis_url: str, tmp_path: Path) -> None:
    """After the kill a sweep brings held to 0 and books exactly the bill; in the one window, the marked estimate."""
    room = asyncio.Semaphore(4)
    async with open_sandbox(MODEL) as sandbox:
        environment = variables(redis_url, sandbox.url)
        async with ProcessForker(tmp_path) as forker, open_world(environment) as world:

            async def one(death: Death) -> str:
                async with room:
                    return await _die(death, world, sandbox, forker, environment)

            wrong = [told for told in await asyncio.gather(*map(one, DEATHS)) if told]
    assert wrong == []


@pytest.mark.parametrize("point", ["claimed", "asked", "swept"])
async def test_wherever_a_sweeper_is_killed_the_next_one_goes_on(redis_url: str, tmp_path: Path, point: str) -> None:
    """Its claim expires, and the next sweeper settles at the true cost, once."""
    async with open_sandbox() as sandbox, ProcessForker(tmp_path) as forker:
        environment = variables(redis_url, sandbox.url)
        async with open_world(environment) as world:
            await world.connect("ada")
            sweeping = await forker.start({**environment, "WATTFARE_SWEEPER": "on"}, point=f"sweep {point}")
            body = {"model": "sandbox/usage-missing", "messages": [{"role": "user", "content": "Say this back."}]}
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                async with world.ask(sweeping.url, "ada", body) as answer:
                    await answer.read()
            assert await sweeping.ended() == -9
            budget, store = world.budget("ada"), world.services.store
            for request_id in await store.call("ZRANGE", budget.due, 0, -1):
                # As when the claim has run out.
                await store.call("ZADD", budget.due, "XX", "1", request_id)
            await world.swept("ada")
            books = await world.books("ada")
            assert books.agree
            assert books.statuses == ["settled"]
            assert books.spent_nano == await sandbox.billed_nano(world.key("ada")) > 0


async def test_a_hold_that_nobody_announced_is_found_after_a_kill(redis_url: str, tmp_path: Path) -> None:
    """A gateway lists a payer at most twice a lease: what it admits in between is found too, by another's sweeper."""
    async with open_sandbox(MODEL) as sandbox, ProcessForker(tmp_path) as forker:
        environment = variables(redis_url, sandbox.url, WATTFARE_SWEEPER="on", WATTFARE_HOLD_SECONDS="2")
        async with open_world(environment) as world:
            await world.connect("ada")
            dying = await forker.start(environment)
            await forker.start(environment)

            async def is_paid() -> bool:
                books = await world.books("ada")
                return books.agree and books.spent_nano == await sandbox.billed_nano(world.key("ada")) > 0

            short = {"model": "sandbox/usage-missing", "messages": [{"role": "user", "content": "Say this back."}]}
            async with world.ask(dying.url, "ada", short) as answer:
                await answer.read()
            await until(is_paid)
            long = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "word " * 500}]}
            stream = await ask_raw(dying.port, world.headers("ada"), long)
            await stream.read_head()
            await stream.read(200)
            await dying.kill()
            await stream.hang_up()
            await until(is_paid)
            assert "estimated" not in (await world.books("ada")).statuses
