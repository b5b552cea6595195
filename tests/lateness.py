"""What this machine itself was late by: a limit in a test is not held against the code while others had the core."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

_TICK_SECONDS = 0.005


class Lateness:
    """`seconds` is the sum of the delays of the event loop's ticks."""

    seconds = 0.0

    async def watch(self) -> None:
        """Tick for ever."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            self.seconds += max(0.0, clock() - due)


@contextlib.asynccontextmanager
async def watched() -> AsyncIterator[Lateness]:
    """Watch the event loop during the block."""
    lateness = Lateness()
    task = asyncio.get_running_loop().create_task(lateness.watch())
    try:
        yield lateness
    finally:
        task.cancel()
