"""Faults at each Redis command of the consent site."""

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
    """A fault at the command of index `number`, from 0, and (`lasts`) at each later one.

    `kind`: `lost` (never run), `late` (run, but its reply is lost), `killed` (lost, together with its caller), `frozen`
    (given up by the caller, and run when the test thaws it).
    """

    kind: str
    number: int
    lasts: bool = True
    seen: int = 0
    given_up: list[Callable[[], Awaitable[Any]]] = field(default_factory=list)

    @property
    def was_met(self) -> bool:
        """Whether the fault's command was reached."""
        return self.seen > self.number

    async def thaw(self) -> None:
        """Carry out what was given up."""
        for command in self.given_up:
            await command()


@contextmanager
def failing(store: Store, fault: StoreFault) -> Iterator[StoreFault]:
    """Make a store fail until the block ends."""
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
