"""Faults at each step that the consent site takes on its store."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gateway.errors import Unavailable
from gateway.store.store import Store


@dataclass
class StoreFault:
    """What happens at the command of that `number`, counted from 0, and (`lasts`) at each one after it.

    `kind`: `lost` (never carried out), `late` (carried out, and its answer lost), `killed` (lost, and whoever waits for
    it is gone too), `frozen` (given up, and carried out when the test says so).
    """

    kind: str
    number: int
    lasts: bool = True
    seen: int = 0
    given_up: list[Callable[[], Awaitable[Any]]] = field(default_factory=list)

    @property
    def was_met(self) -> bool:
        """Whether so many commands came."""
        return self.seen > self.number

    async def thaw(self) -> None:
        """Carry out what was given up."""
        for command in self.given_up:
            await command()


@contextmanager
def failing(store: Store, fault: StoreFault) -> Iterator[StoreFault]:
    """Let a store fail until the block ends."""
    answer = store._answer

    async def fails(*args: Any, **named: Any) -> Any:
        number, fault.seen = fault.seen, fault.seen + 1
        if number < fault.number or (number > fault.number and not fault.lasts):
            return await answer(*args, **named)
        if fault.kind == "late" and number == fault.number:
            await answer(*args, **named)
        if fault.kind == "frozen":
            fault.given_up.append(partial(answer, *args, **named))
        if fault.kind == "killed":
            raise asyncio.CancelledError
        raise Unavailable

    store._answer = fails  # type: ignore[method-assign]
    try:
        yield fault
    finally:
        store._answer = answer  # type: ignore[method-assign]
