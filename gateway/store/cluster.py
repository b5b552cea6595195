"""Which server holds which key: one server for all of them, or the masters of a Cluster.

Rule: what is known of a Cluster changes only here: by its nodes' newest view of it, and by a master's own word that a
slot has moved.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

import hiredis
from redis.crc import key_slot
from redis.exceptions import ResponseError

from gateway import keys
from gateway.errors import Unavailable
from gateway.store.connection import Lost, pack
from gateway.store.epoch import SLOTS, cluster_keys
from gateway.store.server import Server

# A slot that moves is followed so often; a script whose keys lie on two masters for a moment is tried again so often.
HOPS = 5
_TRY_AGAIN_SECONDS = 0.01
# Answers that mean "this server cannot serve now", not "the call was wrong".
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
# A Cluster's word for a slot that nobody holds: no more than that slot's calls are refused for it.
_NO_OWNER = "Hash slot not served"
# A node that takes longer to tell what it sees is not waited for: the others see the same.
_VIEW_SECONDS = 0.3
# Masters come and go without anybody's call finding out.
_LEARN_SECONDS = 5.0
# While one is away, or slots are moving, its place may be taken at any moment.
_LEARN_AGAIN_SECONDS = 0.1
_INFO = pack(("CLUSTER", "INFO"))
_SLOTS = pack(("CLUSTER", "SLOTS"))


class One:
    """A single server, or a group under Sentinels, whose master is found at each connection.

    `beat_keys`: what it is beaten under.
    """

    def __init__(self, server: Server) -> None:
        self.beat_keys: Sequence[str] = (keys.INSTANCE,)
        self.servers: Sequence[Server] = (server,)
        self._server = server
        server.serve(True)

    @property
    def masters(self) -> Sequence[Server]:
        """The server."""
        return self.servers

    @property
    def is_stale(self) -> bool:
        """Never: there is nothing to learn."""
        return False

    async def learn(self) -> None:
        """Do nothing."""

    def owner(self, slot: int) -> Server:
        """Return the server."""
        del slot
        return self._server

    def key_on(self, server: Server) -> str:
        """Return the server's key."""
        del server
        return keys.INSTANCE

    def moved(self, slot: int, address: str, *, told_by: Server) -> Server | None:
        """Return None: a REDIS_URL that names one node of a Cluster is a mistake in the settings."""

    def at(self, address: str, *, told_by: Server) -> Server | None:
        """Return None, as `moved` does."""


@dataclass(frozen=True, slots=True)
class _View:
    """What one node sees: the newer of two has the higher epoch. `ranges` as CLUSTER SLOTS tells them."""

    told_by: Server
    epoch: int
    ranges: list[list[Any]]


class Cluster:
    """The nodes of a Redis Cluster. Until one of them has told more, the first host is taken to hold every key.

    `make` makes the way to a node; `beat_keys`: at least these are beaten.
    """

    def __init__(self, seeds: Sequence[tuple[str, int]], make: Callable[[str, int], Server]) -> None:
        self.beat_keys: Sequence[str] = cluster_keys()
        self._make = make
        self._nodes: dict[str, Server] = {}
        self._seeds = [self._known(host, port) for host, port in seeds]
        self._owners = [self._seeds[0]] * SLOTS
        self.masters: Sequence[Server] = (self._seeds[0],)
        self._seeds[0].serve(True)
        self._keys: dict[Server, str] = {}
        self._slots: list[int] = []
        self._learnt_at = float("-inf")
        self._is_moved = False

    @property
    def servers(self) -> Sequence[Server]:
        """Every node that is known."""
        return tuple(self._nodes.values())

    @property
    def is_stale(self) -> bool:
        """Whether a slot has moved, a master does not answer, or nobody was asked for long."""
        seconds = time.monotonic() - self._learnt_at
        is_pressing = self._is_moved or any(master.is_away for master in self.masters)
        return seconds > (_LEARN_AGAIN_SECONDS if is_pressing else _LEARN_SECONDS)

    async def learn(self) -> None:
        """Ask every node that is known what it sees, and believe the newest view."""
        away = [node for node in self.servers if node.is_away]
        here = [node for node in self.servers if not node.is_away]
        newest = await self._newest_view(here) or await self._newest_view(away)
        self._learnt_at, self._is_moved = time.monotonic(), False
        if newest is not None:
            self._take(newest)

    def owner(self, slot: int) -> Server:
        """Return the master that holds this slot, as far as is known."""
        return self._owners[slot]

    def key_on(self, server: Server) -> str:
        """Return the first numbered key in a slot of `server`: the same for every process that sees the same."""
        if server not in self._keys:
            number = next(number for number in count() if self._owners[self._slot(number)] is server)
            self._keys[server] = f"{keys.INSTANCE}:{number}"
        return self._keys[server]

    def _slot(self, number: int) -> int:
        # Kept, because a master of one slot takes tens of thousands of numbers to find.
        if number == len(self._slots):
            self._slots.append(key_slot(f"{keys.INSTANCE}:{number}".encode()))
        return self._slots[number]

    def moved(self, slot: int, address: str, *, told_by: Server) -> Server:
        """Take a master's word that another has the slot; return that one."""
        owner = self.at(address, told_by=told_by)
        if self._owners[slot] is not owner:
            self._owners[slot] = owner
            self._is_moved = True
            self._changed()
        return owner

    def at(self, address: str, *, told_by: Server) -> Server:
        """Return the node at host:port. An empty host means the one that says it."""
        host, _, port = address.rpartition(":")
        return self._told(host.strip("[]"), int(port), told_by)

    async def _newest_view(self, nodes: Sequence[Server]) -> _View | None:
        views = await asyncio.gather(*map(self._view, nodes))
        # A node that was taken out of the Cluster sees nothing, at whatever epoch.
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
            # Whatever is wrong with this one, the others tell the same.
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
    """Return which of `names` lies on which master, and for a master with none the one that `key_on` tells."""
    found: dict[Server, list[str]] = {master: [] for master in routes.masters}
    for name in names:
        found[routes.owner(slot_of(name))].append(name)
    return {master: lying or [routes.key_on(master)] for master, lying in found.items()}


# A request asks several times for the slots of the same few keys; to compute one takes ten times as long as this.
@lru_cache(maxsize=4096)
def slot_of(key: str) -> int:
    """Return the slot of a key. Keys of one hash tag share one, so it stands for a budget."""
    return key_slot(key.encode())


class Detour(NamedTuple):
    """Where a refused command goes: after a pause, to `server` (None: whoever owns the slot then)."""

    server: Server | None = None
    is_asking: bool = False
    """Whether ASKING goes before it: its slot is on its way there."""
    pause_seconds: float = 0.0


STRAIGHT = Detour()
"""To whoever owns the slot, at once."""


def detour(routes: Routes, refused: hiredis.ReplyError, told_by: Server, load: bytes) -> Detour:
    """Return where a command goes that a server refused. `load` makes its script known (empty: it has none).

    Raises Lost when it is the server that cannot serve now, Unavailable when nobody serves this slot, ResponseError
    when it is the command's own fault.
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
            # One that nobody had heard of is connected to in a moment.
            return Detour(target, is_asking=True, pause_seconds=_TRY_AGAIN_SECONDS if target.pipe is None else 0.0)
    if _NO_OWNER in text:
        raise Unavailable
    if code in _AWAY_ANSWERS:
        raise Lost(code)
    raise ResponseError(text)
