"""A budget that another request holds completely, for tests of waiting requests."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from tests.fakes import STREAMED, Exchange, FakeOpenRouter, whole_answer
from tests.gateway.stack import PATIENCE_SECONDS, ReadAnswer, Stack, question

UNPRICED = "acme/router"
"""A model without a price, for which all that is left is held."""


@dataclass(slots=True)
class Occupied:
    """The holder of a budget, until `free` is set; and the callers that wait for it."""

    stack: Stack
    free: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[asyncio.Task[ReadAnswer]] = field(default_factory=list)

    async def ask(self, headers: Mapping[str, str] | None = None, **more: object) -> asyncio.Task[ReadAnswer]:
        """Send a request; return when it waits, behind those sent before."""
        before = len(self.stack.gateway.waiting)
        asking = asyncio.create_task(self.stack.chat(question(**more), headers=headers))  # type: ignore[arg-type]
        self.asked.append(asking)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.stack.gateway.waiting) == before:
                assert not asking.done(), asking.result().body
                await asyncio.sleep(0)
        return asking

    async def queue(self) -> list[str]:
        """The ids that wait for the usual user's money, over all processes, in their order."""
        found: list[bytes] = await self.stack.gateway.services.store.call("ZRANGE", self.stack.budget().queue, 0, -1)
        return [each.decode().split(" ")[1] for each in found]


@contextlib.asynccontextmanager
async def occupied(stack: Stack, openrouter: FakeOpenRouter, usd: str = "1") -> AsyncIterator[Occupied]:
    """Have a request hold all of the usual user's cap, until the block ends or it is freed."""
    found, begun = Occupied(stack), asyncio.Event()

    async def play(turn: Exchange) -> None:
        if json.loads(turn.request.body)["model"] != UNPRICED:
            await whole_answer(turn)
            return
        begun.set()
        await found.free.wait()
        await turn.head()
        await turn.send(STREAMED)
        await turn.end()

    await stack.connect(usd)
    openrouter.play = play
    holding = asyncio.create_task(stack.chat(question(UNPRICED, stream=True)))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await begun.wait()
        try:
            yield found
        finally:
            found.free.set()
            for asking in found.asked:
                asking.cancel()
            await asyncio.gather(holding, *found.asked, return_exceptions=True)
