"""Which server holds which key: one for all of them, or the masters of a Cluster, each with a client of its own.

Rule: what is known of a Cluster changes only here: by its nodes' newest view of it, and by a master's own word that a
slot has moved. redis-py's own Cluster client is not used: it asks one node at random, holds every call up meanwhile,
and closes all connections when that node is silent; and it says ASKING on another connection than the command.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, RedisError

from gateway import keys
from gateway.store.epoch import SLOTS, cluster_keys
from gateway.store.health import PATIENCE_SECONDS, Lane

# Redis runs one command at a time: more connections than this only move the queue.
_CONNECTIONS = 64
# A node that takes longer to tell what it sees is not waited for: the others see the same.
_VIEW_SECONDS = 0.3
# Masters come and go without anybody's call finding out.
_LEARN_SECONDS = 5.0
# While one is away, or slots are moving, its place may be taken at any moment.
_LEARN_AGAIN_SECONDS = 0.1


class Node:
    """One server: its client, the room on the way to it, and whether it answers."""

    def __init__(self, client: Redis, host: str = "", port: int = 0) -> None:
        self.client = client
        self.host = host
        self.name = f"{host}:{port}" if host else ""
        self.lane = Lane(self.name)
        self.is_judged = not host
        """Whether a beat has found it ours since it holds slots. A replica that takes over may have lost writes."""
        self.room = asyncio.Semaphore(_CONNECTIONS)

    @property
    def pool(self) -> ConnectionPool:
        """Its connections."""
        return self.client.connection_pool

    async def reconnect(self) -> None:
        """Have every connection made anew, so that each is greeted before it carries a command again."""
        with contextlib.suppress(RedisError, OSError):
            await self.pool.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
            await self.pool.disconnect(inuse_connections=False)


Greeting = Callable[[Node, AbstractConnection], Awaitable[None]]


class One:
    """A single server, or a group under Sentinels, whose client finds the master by itself.

    `beat_keys`: what it is beaten under.
    """

    def __init__(self, client: Redis, sentinels: Sequence[Redis] = ()) -> None:
        self.beat_keys: Sequence[str] = (keys.INSTANCE,)
        self._node = Node(client)
        self._sentinels = sentinels

    @property
    def masters(self) -> Sequence[Node]:
        """The server."""
        return (self._node,)

    @property
    def is_stale(self) -> bool:
        """Never: there is nothing to learn."""
        return False

    async def learn(self) -> None:
        """Do nothing."""

    def node(self, key: str) -> Node:
        """Return the server."""
        del key
        return self._node

    def key_on(self, node: Node) -> str:
        """Return the server's key."""
        del node
        return keys.INSTANCE

    def moved(self, moved: MovedError, *, told_by: Node) -> Node:
        """Raise the answer: a REDIS_URL that names one node of a Cluster is a mistake in the settings."""
        del told_by
        raise moved

    def at(self, ask: AskError, *, told_by: Node) -> Node:
        """Raise the answer, as `moved` does."""
        del told_by
        raise ask

    def greet_with(self, greeting: Greeting) -> None:
        """Have every new connection greeted before it carries a command."""
        _greet_with(self._node, greeting)

    async def close(self) -> None:
        """Close every connection."""
        for client in (self._node.client, *self._sentinels):
            await client.aclose()


@dataclass(frozen=True, slots=True)
class _View:
    """What one node sees: the newer of two has the higher epoch. `ranges` as CLUSTER SLOTS tells them."""

    told_by: Node
    epoch: int
    ranges: list[list[Any]]


class Cluster:
    """The nodes of a Redis Cluster. Until one of them has told more, the first host is taken to hold every key.

    `beat_keys`: at least these are beaten.
    """

    def __init__(self, seeds: Sequence[tuple[str, int]], connect: Callable[[str, int], Redis]) -> None:
        self.beat_keys: Sequence[str] = cluster_keys()
        self._connect = connect
        self._greeting: Greeting | None = None
        self._nodes: dict[str, Node] = {}
        self._seeds = [self._known(host, port) for host, port in seeds]
        self._owners = [self._seeds[0]] * SLOTS
        self._masters: tuple[Node, ...] | None = None
        self._keys: dict[Node, str] = {}
        self._slots: list[int] = []
        self._learnt_at = float("-inf")
        self._is_moved = False
        self._leaving: dict[Node, asyncio.Task[None]] = {}

    @property
    def nodes(self) -> Sequence[str]:
        """Every node that is known, as host:port."""
        return tuple(self._nodes)

    @property
    def masters(self) -> Sequence[Node]:
        """Every node that holds slots."""
        if self._masters is None:
            self._masters = tuple(dict.fromkeys(self._owners))
        return self._masters

    @property
    def is_stale(self) -> bool:
        """Whether a slot has moved, a master does not answer, or nobody was asked for long."""
        seconds = time.monotonic() - self._learnt_at
        is_pressing = self._is_moved or any(master.lane.is_away for master in self.masters)
        return seconds > (_LEARN_AGAIN_SECONDS if is_pressing else _LEARN_SECONDS)

    async def learn(self) -> None:
        """Ask every node that is known what it sees, and believe the newest view."""
        away = [node for node in self._nodes.values() if node.lane.is_away]
        here = [node for node in self._nodes.values() if not node.lane.is_away]
        newest = await self._newest_view(here) or await self._newest_view(away)
        self._learnt_at, self._is_moved = time.monotonic(), False
        if newest is not None:
            self._take(newest)

    def node(self, key: str) -> Node:
        """Return the master that holds `key`, as far as is known."""
        return self._owners[key_slot(key.encode())]

    def key_on(self, node: Node) -> str:
        """Return the first numbered key in a slot of `node`: the same for every process that sees the same."""
        if node not in self._keys:
            number = next(number for number in count() if self._owners[self._slot(number)] is node)
            self._keys[node] = f"{keys.INSTANCE}:{number}"
        return self._keys[node]

    def _slot(self, number: int) -> int:
        # Kept, because a master of one slot takes tens of thousands of numbers to find.
        if number == len(self._slots):
            self._slots.append(key_slot(f"{keys.INSTANCE}:{number}".encode()))
        return self._slots[number]

    def moved(self, moved: MovedError, *, told_by: Node) -> Node:
        """Take a master's word that another has the slot; return that one."""
        owner = self.at(moved, told_by=told_by)
        if self._owners[moved.slot_id] is not owner:
            self._owners[moved.slot_id] = owner
            self._changed()
            self._is_moved = True
        return owner

    def at(self, ask: AskError, *, told_by: Node) -> Node:
        """Return the node that a slot is on its way to. An empty host means the one that says it."""
        return self._known(ask.host or told_by.host, ask.port)

    def greet_with(self, greeting: Greeting) -> None:
        """Have every new connection greeted before it carries a command."""
        self._greeting = greeting
        for node in self._nodes.values():
            _greet_with(node, greeting)

    async def close(self) -> None:
        """Close every connection."""
        nodes = (*self._nodes.values(), *self._leaving)
        for task in self._leaving.values():
            task.cancel()
        await asyncio.gather(*(node.client.aclose() for node in nodes), return_exceptions=True)

    async def _newest_view(self, nodes: Sequence[Node]) -> _View | None:
        views = await asyncio.gather(*map(self._view, nodes))
        # A node that was taken out of the Cluster sees nothing, at whatever epoch.
        seeing = (view for view in views if view is not None and view.ranges)
        return max(seeing, key=lambda view: view.epoch, default=None)

    async def _view(self, node: Node) -> _View | None:
        try:
            async with asyncio.timeout(_VIEW_SECONDS):
                facts: bytes = await node.client.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]
                ranges = await node.client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
            return _View(node, int(facts.partition(b"cluster_current_epoch:")[2].split()[0]), ranges)
        except Exception:
            # Whatever is wrong with this one, the others tell the same.
            return None

    def _take(self, view: _View) -> None:
        owners = list(self._owners)
        named = set(self._seeds)
        for low, high, *served_by in view.ranges:
            master, *replicas = (self._told(address, view.told_by) for address in served_by)
            owners[low : high + 1] = [master] * (high + 1 - low)
            named |= {master, *replicas}
        if owners != self._owners:
            self._owners = owners
            self._changed()
        for node in set(self._nodes.values()) - named - set(self.masters):
            del self._nodes[node.name]
            self._leave(node)
        for node in self._nodes.values():
            if node not in self.masters:
                # Another serves in its place, or it is one of those that are only asked.
                node.lane.found()
                node.is_judged = False

    def _changed(self) -> None:
        self._masters = None
        self._keys.clear()

    def _told(self, address: list[Any], told_by: Node) -> Node:
        host = (address[0] or b"").decode()
        return self._known(host if host not in ("", "?") else told_by.host, address[1])

    def _known(self, host: str, port: int) -> Node:
        name = f"{host}:{port}"
        if name not in self._nodes:
            node = self._nodes[name] = Node(self._connect(host, port), host, port)
            if self._greeting is not None:
                _greet_with(node, self._greeting)
        return self._nodes[name]

    def _leave(self, node: Node) -> None:
        node.lane.found()
        task = self._leaving[node] = asyncio.get_running_loop().create_task(_let_go(node))
        task.add_done_callback(lambda _: self._leaving.pop(node))


Topology = One | Cluster


def by_master(topology: Topology, names: Iterable[str]) -> dict[Node, list[str]]:
    """Return which of `names` lies on which master, and for a master with none the one that `key_on` tells."""
    found: dict[Node, list[str]] = {master: [] for master in topology.masters}
    for name in names:
        found[topology.node(name)].append(name)
    return {master: lying or [topology.key_on(master)] for master, lying in found.items()}


def _greet_with(node: Node, greeting: Greeting) -> None:
    async def greet(connection: AbstractConnection) -> None:
        await connection.on_connect()
        await greeting(node, connection)

    node.pool.connection_kwargs["redis_connect_func"] = greet


async def _let_go(node: Node) -> None:
    """Close what is idle, until no call can be left that was on its way there."""
    for _ in range(int(PATIENCE_SECONDS) + 2):
        await node.reconnect()
        await asyncio.sleep(1)
