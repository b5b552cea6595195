"""Whether the Redis that answers is the one we knew: the same epoch, and no older than we left it.

Each beat counts a number up in Redis and remembers it here. A Redis that comes back with another epoch was emptied or
replaced, one that comes back with a smaller number was restored from an older copy or lost writes in a failover.
Either would let spend fall "back to zero", so it is refused until an operator accepts it. That it is older is written
down in that Redis: so it stays for every process, however far the beats count on. An acceptance counts once: a copy
from before the last one was accepted too, but earlier.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from redis.crc import key_slot

from gateway import keys

Memory = dict[str, list[str | int]]

SLOTS = 16384
# A beat in every sixteenth of a cluster's slots, so that each master is known.
_CLUSTER_BEATS = 16
_EMPTY = "Redis came back empty"
_OLDER = "Redis came back older than it was"
_ANOTHER = "another Redis answers than the one we knew"


class Known(NamedTuple):
    """What was last seen of one epoch: its name, its newest beat, and when it began (Redis's clock)."""

    epoch: str
    beat: int
    since_ms: int = 0


@dataclass(frozen=True, slots=True)
class Sign:
    """What one Redis says of itself: its epoch (empty when it holds nothing), its beat, whether the operator accepted
    it, whether anybody found it older than it was, and when its epoch began or was accepted.
    """

    epoch: str
    beat: int
    is_accepted: bool
    is_older: bool
    since_ms: int = 0


class Epoch:
    """What this process knows of each server's epoch.

    `whole`: the keys that a store is begun with, all at once. So one that is missing beside others is a server that was
    emptied, also for a process that never saw it.
    """

    def __init__(self, whole: Collection[str] = ()) -> None:
        self._whole = frozenset(whole)
        self._empty: set[str] = set()
        self._is_beginning = False
        self._forgotten: set[str] = set()
        self._known: dict[str, Known] = {}
        self._doubts: dict[str, str] = {}

    @property
    def doubt(self) -> str | None:
        """Why a server is refused, for the operator; None when all are the ones we knew."""
        return next(iter(self._doubts.values()), None)

    @property
    def keys(self) -> Collection[str]:
        """Every key under which an epoch is known."""
        return self._known.keys()

    def known(self, key: str) -> Known | None:
        """Return what was last seen under `key`."""
        return self._known.get(key)

    def judge(self, key: str, sign: Sign, known: Known | None) -> bool:
        """Tell whether `sign` can follow `known` (as it was when the question was put), and remember a doubt if not."""
        if known is not None and key in self._forgotten:
            return False  # forgotten since the question was put: another acceptance counts
        self._forgotten.discard(key)
        doubt = _doubt(sign, known)
        if known is None and not sign.epoch:
            if key in self._known:
                return False  # begun since the question was put
            # The first time another process may be in the midst of beginning it all.
            doubt = _EMPTY if key in self._empty and self._is_missing(key) and not self._is_beginning else None
            self._empty.add(key)
        if doubt is None:
            self._doubts.pop(key, None)
        else:
            self._doubts[key] = doubt
        return doubt is None

    @property
    def is_half_begun(self) -> bool:
        """Whether a part was found empty that others stand beside."""
        return any(self._is_missing(key) for key in self._empty)

    def _is_missing(self, key: str) -> bool:
        return key in self._whole and not self._whole.isdisjoint(self._known)

    def may_begin(self, key: str) -> bool:
        """Tell whether the server of `key`, if it is empty, may be begun: all are empty, or it is a new one."""
        if self._whole <= self._empty:
            # Decided once, for all of them: what is begun first must not keep the rest from it.
            self._is_beginning = True
        return key not in self._known and (key not in self._whole or self._is_beginning)

    def remember(self, key: str, seen: Known) -> None:
        """Take this as the newest that was seen under `key`."""
        self._empty.discard(key)
        if self._whole <= self._known.keys() | {key}:
            self._is_beginning = False
        known = self._known.get(key)
        if known is None or known.epoch != seen.epoch or known.beat < seen.beat:
            self._known[key] = seen

    def forget_all_but(self, names: Collection[str]) -> None:
        """Know and doubt nothing under any other key: an acceptance is for the whole store."""
        self._forgotten |= self._known.keys() - set(names)
        self._known = {key: known for key, known in self._known.items() if key in names}
        self._doubts = {key: doubt for key, doubt in self._doubts.items() if key in names}

    def dump(self) -> Memory:
        """Return what is known, for a file that outlives the process."""
        return {key: list(known) for key, known in self._known.items()}

    def load(self, memory: Memory) -> None:
        """Take up what an earlier process knew."""
        self._known = {key: Known(str(epoch), *map(int, numbers)) for key, (epoch, *numbers) in memory.items()}


def newest(one: Memory, other: Memory) -> Memory:
    """Return what two processes know together: of each key the epoch that began last, and its larger beat.

    A key that is older than the whole was forgotten by an acceptance.
    """
    both = dict(one)
    for key, seen in other.items():
        if key not in both or _age(both[key]) < _age(seen):
            both[key] = seen
    whole_ms = [_age(both[key])[0] for key in (keys.INSTANCE, *cluster_keys()) if key in both]
    return {key: seen for key, seen in both.items() if _age(seen)[0] >= min(whole_ms, default=0)}


def _age(seen: list[str | int]) -> tuple[int, int]:
    known = Known(str(seen[0]), *map(int, seen[1:]))
    return known.since_ms, known.beat


def _doubt(sign: Sign, known: Known | None) -> str | None:
    if sign.is_older:
        return _OLDER
    if known is None:
        return None
    if not sign.epoch:
        return _EMPTY
    if sign.epoch != known.epoch:
        return None if sign.is_accepted and sign.since_ms > known.since_ms else _ANOTHER
    if sign.beat < known.beat:
        return _OLDER
    return None


def cluster_keys() -> list[str]:
    """Return one key in each sixteenth of the slots of a cluster."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < _CLUSTER_BEATS:
        key = f"{keys.INSTANCE}:{number}"
        found.setdefault(key_slot(key.encode()) * _CLUSTER_BEATS // SLOTS, key)
        number += 1
    return [found[part] for part in sorted(found)]
