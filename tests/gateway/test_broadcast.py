"""Cuts: answered only when every living process has acted."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.broadcast import Broadcast, Cut
from gateway.store import Store
from tests.gateway.stack import PATIENCE_SECONDS


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """An empty Redis."""
    opened = await Store.open(redis_url, deadline_ms=2000)
    yield opened
    await opened.close()


async def _nothing_missed() -> None:
    """A gap is no matter here."""


class _Listener:
    """A process that acts on a cut when it is let."""

    def __init__(self, store: Store) -> None:
        self.heard: list[Cut] = []
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.broadcast = Broadcast(store)

    async def listen(self) -> None:
        await self.broadcast.listen(self._hear, _nothing_missed)

    async def _hear(self, cut: Cut) -> None:
        await self.let_go.wait()
        self.heard.append(cut)


async def test_a_cut_is_answered_after_every_listener_has_acted(store: Store) -> None:
    """All hear it, the sender too."""
    listeners = [_Listener(store) for _ in range(3)]
    for listener in listeners:
        await listener.listen()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(await store.run("gateways", ["wf:gateways"], ["", 0])) < 3:
            await asyncio.sleep(0)
        for number in range(5):
            await listeners[0].broadcast.send(Cut("budget", f"b{number}"))
            assert [len(listener.heard) for listener in listeners] == [number + 1] * 3
    for listener in listeners:
        await listener.broadcast.close()
    assert await store.run("gateways", ["wf:gateways"], ["", 0]) == []


async def test_a_listener_that_is_still_at_it_is_waited_for(store: Store) -> None:
    """The answer comes only after it has acted."""
    listener = _Listener(store)
    await listener.listen()
    listener.let_go.clear()
    sender = Broadcast(store)
    sending = asyncio.create_task(sender.send(Cut("app", "a")))
    done, _ = await asyncio.wait({sending}, timeout=0.2)
    assert not done
    listener.let_go.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await sending
    assert listener.heard == [Cut("app", "a")]
    await listener.broadcast.close()
    await sender.close()


async def test_without_listeners_a_cut_is_answered_at_once(store: Store) -> None:
    """An operator's command before any gateway runs."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await Broadcast(store).send(Cut("secrets", "a"))
