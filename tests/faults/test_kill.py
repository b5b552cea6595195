"""A gateway killed with SIGKILL at any point of the path loses no cent and keeps no money held."""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.faults.nursery import Nursery
from tests.faults.world import Sandbox, World, open_sandbox, open_world, variables

MODEL = "sandbox/slow-4"
# From the moment the request is announced until OpenRouter's id is on its way to Redis: settled at the estimate.
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


async def _die(death: Death, world: World, sandbox: Sandbox, nursery: Nursery, environment: dict[str, str]) -> str:
    """Let it happen; return what is wrong afterwards, nothing if all is well."""
    await world.connect(death.user)
    gateway = await nursery.start(environment, point=death.point, nth=death.nth)
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
        async with Nursery(tmp_path) as nursery, open_world(environment) as world:

            async def one(death: Death) -> str:
                async with room:
                    return await _die(death, world, sandbox, nursery, environment)

            wrong = [told for told in await asyncio.gather(*map(one, DEATHS)) if told]
    assert wrong == []
