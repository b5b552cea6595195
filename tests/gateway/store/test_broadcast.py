"""Cuts: answered only when every living process has acted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.exceptions import RedisClusterException

from gateway import keys
from gateway.errors import Unavailable
from gateway.store.broadcast import Broadcast, Cut
from gateway.store.store import Store
from tests.clusters import ValkeyCluster
from tests.gateway.stack import PATIENCE_SECONDS
from tests.servers import ValkeyServer

pytestmark = pytest.mark.each_store


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """An empty Redis."""
    opened = await Store.open(redis_url, deadline_ms=2000)
    yield opened
    await opened.close()


class _Listener:
    """A process that acts on a cut when the test permits it."""

    def __init__(self, store: Store) -> None:
        self.heard: list[Cut] = []
        self.missed = 0
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.broadcast = Broadcast(store)

    async def listen(self) -> None:
        await self.broadcast.listen(self._hear, self._ask_for_missed)

    async def _ask_for_missed(self) -> None:
        self.missed += 1

    async def _hear(self, cut: Cut) -> None:
        await self.let_go.wait()
        self.heard.append(cut)


async def test_a_cut_is_answered_after_every_listener_has_acted(store: Store) -> None:
    """Every subscriber gets it, including the sender."""
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
    """The sender is answered only after the listener has acted."""
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


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.005)


async def test_who_could_not_listen_at_its_start_asks_for_what_it_missed() -> None:
    """The process served before it was subscribed, so a cut may have been missed."""
    with ValkeyServer(durable=True) as server:
        server.kill()
        store = await Store.open(server.url, deadline_ms=100)
        listener = _Listener(store)
        await listener.listen()
        assert not listener.broadcast.hears
        assert listener.missed == 0
        server.start()
        await until(lambda: listener.broadcast.hears)
        assert listener.missed > 0
        await listener.broadcast.close()
        await store.close()


async def test_who_is_not_waited_for_knows_it() -> None:
    """After a freeze longer than a sign's lifetime, a process listens again once it has signed and caught up."""
    with ValkeyServer(durable=True) as server:
        store = await Store.open(server.url, deadline_ms=100)
        listener = _Listener(store)
        await listener.listen()
        assert listener.broadcast.hears
        server.freeze()
        await until(lambda: not listener.broadcast.hears)
        missed = listener.missed
        server.thaw()
        await until(lambda: listener.broadcast.hears)
        assert listener.missed > missed
        assert len(await store.run("gateways", [keys.GATEWAYS], ["", 0])) == 1
        await Broadcast(store).send(Cut("budget", "b"))
        assert listener.heard == [Cut("budget", "b")]
        await listener.broadcast.close()
        await store.close()


@pytest.mark.parametrize("fault", [KeyError("no slot"), RedisClusterException("no node"), AttributeError("None")])
@pytest.mark.parametrize("where", ["listener", "run", "missed"])
async def test_hearing_outlives_whatever_goes_wrong(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: Exception, where: str
) -> None:
    """A process whose listener or signer ended would miss all later revocations."""
    listener = _Listener(store)
    tries = 0
    owner: object
    owner, name = (listener, "_ask_for_missed") if where == "missed" else (store, where)
    whole: Any = getattr(owner, name)

    def broken(*given: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise fault
        return whole(*given)

    monkeypatch.setattr(owner, name, broken)
    await listener.listen()
    await until(lambda: listener.broadcast.hears)
    await Broadcast(store).send(Cut("app", "a"))
    assert listener.heard == [Cut("app", "a")]
    await listener.broadcast.close()


async def test_on_a_cluster_cuts_are_sent_and_heard_after_a_hiccup_and_where_their_slot_has_gone() -> None:
    """Only the node with the channel's slot is used to publish."""
    with ValkeyCluster(replicas=False) as cluster:
        store = await Store.open(cluster.url, deadline_ms=100)
        listener = _Listener(store)
        await listener.listen()
        for node in cluster.nodes:
            node.freeze()
        with pytest.raises(Unavailable):
            await listener.broadcast.send(Cut("budget", "b"))
        for node in cluster.nodes:
            node.thaw()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await store.opened()
        await until(lambda: listener.broadcast.hears)
        await listener.broadcast.send(Cut("budget", "after"))
        assert listener.heard[-1] == Cut("budget", "after")
        where, missed = store.where(keys.CUTS), listener.missed
        await asyncio.to_thread(cluster.move, keys.CUTS, (cluster.owner(keys.CUTS) + 1) % 3)
        await store._routes.learn()
        assert store.where(keys.CUTS) != where
        await until(lambda: listener.missed > missed)
        await until(lambda: listener.broadcast.hears)
        await listener.broadcast.send(Cut("budget", "c"))
        assert listener.heard[-1] == Cut("budget", "c")
        await listener.broadcast.close()
        await store.close()
