"""Routing: which server holds which key. Either one server holds all, or each master of a Cluster some slots.

Rule: the routing table changes only here: by the newest view of the Cluster's nodes, and by a master's MOVED reply.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

import hiredis

from gateway import keys
from gateway.errors import Unavailable
from gateway.store.connection import Lost, pack
from gateway.store.epoch import cluster_keys
from gateway.store.server import Server

# How many redirections (MOVED, ASK) or TRYAGAINs one command follows.
HOPS = 5
_TRY_AGAIN_SECONDS = 0.01
# Errors that mean "this server cannot serve now", not "this command is wrong".
_AWAY_ANSWERS = frozenset(
    {
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOAUTH",
        "NOPERM",
        "NOREPLICAS",
        "OOM",
        "READONLY",
    }
)
# CLUSTERDOWN for one slot without an owner: only the calls on that slot fail.
_NO_OWNER = "Hash slot not served"
# Deadline of one node's view: the other nodes report the same.
_VIEW_SECONDS = 0.3
# Topology is refreshed at this interval even without an error: new masters cause none.
_LEARN_SECONDS = 5.0
# Interval while a master is away or slots migrate, when a failover may happen any moment.
_LEARN_AGAIN_SECONDS = 0.1
_INFO = pack(("CLUSTER", "INFO"))
_SLOTS = pack(("CLUSTER", "SLOTS"))


class One:
    """A single server, or a Sentinel group, whose master is looked up at each connection.

    `beat_keys`: the keys that heartbeats use.
    """

    def __init__(self, server: Server) -> None:
        self.beat_keys: Sequence[str] = (keys.INSTANCE,)
        self.servers: Sequence[Server] = (server,)
        self._server = server
        server.serve(True)

    @property
    def masters(self) -> Sequence[Server]:
        """The one server."""
        return self.servers

    @property
    def is_stale(self) -> bool:
        """False: there is no topology to refresh."""
        return False

    async def learn(self) -> None:
        """Do nothing."""

    def owner(self, slot: int) -> Server:
        """Return the one server."""
        del slot
        return self._server

    def key_on(self, server: Server) -> str:
        """Return the heartbeat key."""
        del server
        return keys.INSTANCE

    def moved(self, slot: int, address: str, *, told_by: Server) -> Server | None:
        """Return None: a MOVED reply means that REDIS_URL names a node of a Cluster without redis+cluster://."""

    def at(self, address: str, *, told_by: Server) -> Server | None:
        """Return None, as `moved` does."""


@dataclass(frozen=True, slots=True)
class _View:
    """One node's view of the Cluster; the one of the highest epoch is newest. `ranges`: the reply of CLUSTER SLOTS."""

    told_by: Server
    epoch: int
    ranges: list[list[Any]]


class Cluster:
    """The nodes of a Redis Cluster. Until a node has reported its view, the first host is taken to hold every slot.

    `make`: returns a Server for a host and port; `beat_keys`: the keys that heartbeats always use.
    """

    def __init__(self, seeds: Sequence[tuple[str, int]], make: Callable[[str, int], Server]) -> None:
        self.beat_keys: Sequence[str] = cluster_keys()
        self._make = make
        self._nodes: dict[str, Server] = {}
        self._seeds = [self._known(host, port) for host, port in seeds]
        self._owners = [self._seeds[0]] * keys.SLOTS
        self.masters: Sequence[Server] = (self._seeds[0],)
        self._seeds[0].serve(True)
        self._keys: dict[Server, str] = {}
        self._slots: list[int] = []
        self._learnt_at = float("-inf")
        self._is_moved = False

    @property
    def servers(self) -> Sequence[Server]:
        """Every known node."""
        return tuple(self._nodes.values())

    @property
    def is_stale(self) -> bool:
        """Whether the topology must be refreshed: a slot has moved, a master is away, or the interval has passed."""
        seconds = time.monotonic() - self._learnt_at
        is_pressing = self._is_moved or any(master.is_away for master in self.masters)
        return seconds > (_LEARN_AGAIN_SECONDS if is_pressing else _LEARN_SECONDS)

    async def learn(self) -> None:
        """Ask every known node for its view, and take the newest one."""
        away = [node for node in self.servers if node.is_away]
        here = [node for node in self.servers if not node.is_away]
        newest = await self._newest_view(here) or await self._newest_view(away)
        self._learnt_at, self._is_moved = time.monotonic(), False
        if newest is not None:
            self._take(newest)

    def owner(self, slot: int) -> Server:
        """Return the master that owns this slot, by the last known view."""
        return self._owners[slot]

    def key_on(self, server: Server) -> str:
        """Return the first numbered key in a slot of `server`: processes with the same view choose the same key."""
        if server not in self._keys:
            number = next(number for number in count() if self._owners[self._slot(number)] is server)
            self._keys[server] = f"{keys.INSTANCE}:{number}"
        return self._keys[server]

    def _slot(self, number: int) -> int:
        # Cached, because finding a key for a master of one slot takes tens of thousands of numbers.
        if number == len(self._slots):
            self._slots.append(keys.key_slot(f"{keys.INSTANCE}:{number}"))
        return self._slots[number]

    def moved(self, slot: int, address: str, *, told_by: Server) -> Server:
        """Record a MOVED reply: `slot` belongs to the node at `address`. Return that node."""
        owner = self.at(address, told_by=told_by)
        if self._owners[slot] is not owner:
            self._owners[slot] = owner
            self._is_moved = True
            self._changed()
        return owner

    def at(self, address: str, *, told_by: Server) -> Server:
        """Return the node at host:port. An empty host means the host of `told_by`."""
        host, _, port = address.rpartition(":")
        return self._told(host.strip("[]"), int(port), told_by)

    async def _newest_view(self, nodes: Sequence[Server]) -> _View | None:
        views = await asyncio.gather(*map(self._view, nodes))
        # A node that was removed from the Cluster reports no slots, possibly at a high epoch.
        seeing = (view for view in views if view is not None and view.ranges)
        return max(seeing, key=lambda view: view.epoch, default=None)

    @staticmethod
    async def _view(node: Server) -> _View | None:
        try:
            async with asyncio.timeout(_VIEW_SECONDS):
                pipe = await node.connect()
                facts: bytes = await pipe.ask(_INFO)
                ranges = await pipe.ask(_SLOTS)
            return _View(node, int(facts.partition(b"cluster_current_epoch:")[2].split()[0]), ranges)
        except Exception:
            # Any failure of one node is harmless: the others report the same.
            return None

    def _take(self, view: _View) -> None:
        owners = list(self._owners)
        named = set(self._seeds)
        for low, high, *served_by in view.ranges:
            master, *replicas = (self._told((at[0] or b"").decode(), at[1], view.told_by) for at in served_by)
            owners[low : high + 1] = [master] * (high + 1 - low)
            named |= {master, *replicas}
        if owners != self._owners:
            self._owners = owners
            self._changed()
        for node in set(self.servers) - named - set(self.masters):
            del self._nodes[node.name]

    def _changed(self) -> None:
        self._keys.clear()
        self.masters = tuple(dict.fromkeys(self._owners))
        for node in self.servers:
            node.serve(node in self.masters)

    def _told(self, host: str, port: int, told_by: Server) -> Server:
        return self._known(host if host not in ("", "?") else told_by.name.rpartition(":")[0], port)

    def _known(self, host: str, port: int) -> Server:
        name = f"{host}:{port}"
        if name not in self._nodes:
            self._nodes[name] = self._make(host, port)
        return self._nodes[name]


Routes = One | Cluster


def by_master(routes: Routes, names: Iterable[str]) -> dict[Server, list[str]]:
    """Group the keys `names` by their master; a master without any gets its `key_on` key."""
    found: dict[Server, list[str]] = {master: [] for master in routes.masters}
    for name in names:
        found[routes.owner(slot_of(name))].append(name)
    return {master: lying or [routes.key_on(master)] for master, lying in found.items()}


# Each admission looks up its shard's slot; computing a CRC takes six times as long.
@lru_cache(maxsize=64)
def slot_of(key: str) -> int:
    """Return the slot of a key. Keys with one hash tag share a slot, so it stands for a budget."""
    return keys.key_slot(key)


class Detour(NamedTuple):
    """Where a refused command is sent next: after the pause, to `server` (None: the slot's owner at that time)."""

    server: Server | None = None
    is_asking: bool = False
    """Whether ASKING must precede it: its slot migrates to that server."""
    pause_seconds: float = 0.0


STRAIGHT = Detour()
"""To the slot's owner, at once."""


def detour(routes: Routes, refused: hiredis.ReplyError, told_by: Server, load: bytes) -> Detour:
    """Return where to send a command that `told_by` refused. `load`: its SCRIPT LOAD command, empty without a script.

    Raises Lost when the server cannot serve now, Unavailable when this slot has no owner, and `refused` itself when
    the command is wrong.
    """
    text = str(refused)
    code, _, rest = text.partition(" ")
    if code == "NOSCRIPT" and load:
        if told_by.pipe is not None:
            told_by.pipe.send_unread(load)
        return STRAIGHT
    if code == "TRYAGAIN":
        return Detour(pause_seconds=_TRY_AGAIN_SECONDS)
    if code in ("MOVED", "ASK"):
        slot, address = rest.split(" ")[:2]
        if code == "MOVED" and (owner := routes.moved(int(slot), address, told_by=told_by)) is not None:
            return Detour(owner)
        if code == "ASK" and (target := routes.at(address, told_by=told_by)) is not None:
            # A node without a connection yet is given a moment to be connected to.
            return Detour(target, is_asking=True, pause_seconds=_TRY_AGAIN_SECONDS if target.pipe is None else 0.0)
    if _NO_OWNER in text:
        raise Unavailable
    if code in _AWAY_ANSWERS:
        raise Lost(code)
    raise refused
