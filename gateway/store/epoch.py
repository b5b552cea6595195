"""Decides whether the Redis that answers is valid: it has the known epoch and is no older than last seen.

Each heartbeat increments a counter in Redis, and this process remembers the value. A Redis that returns with another
epoch was emptied or replaced; one that returns with a smaller counter was restored from an older copy or lost writes in
a failover. In both cases recorded spend would be lost, so it is refused until an operator accepts it. "Older" is also
written into that Redis, so that every process refuses it even when the counter has passed the known value again. An
acceptance is valid for one Redis only: a copy made before the latest acceptance has an earlier one, and is refused.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from gateway import keys

Memory = dict[str, list[str | int]]

# One heartbeat key in every sixteenth of a Cluster's slots, so that the usual number of masters is covered.
_CLUSTER_BEATS = 16
_EMPTY = "Redis came back empty"
_OLDER = "Redis came back older than it was"
_ANOTHER = "another Redis answers than the one we knew"


class Known(NamedTuple):
    """What was last seen of one epoch: its id, its highest beat, and when it began (Redis's clock)."""

    epoch: str
    beat: int
    since_ms: int = 0


@dataclass(frozen=True, slots=True)
class Sign:
    """What one Redis reports: its epoch (empty when it holds none), its beat, whether an operator accepted it, whether
    any process found it older than known, and when its epoch began or was accepted.
    """

    epoch: str
    beat: int
    is_accepted: bool
    is_older: bool
    since_ms: int = 0


class Epoch:
    """What this process knows of each server's epoch.

    `whole`: the keys with which a store is initialised, all at once. If one is missing while others exist, its server
    was emptied; a process that never saw it concludes the same.
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
        """Why a server is refused, for the operator; None when all are valid."""
        return next(iter(self._doubts.values()), None)

    @property
    def keys(self) -> Collection[str]:
        """Every key under which an epoch is known."""
        return self._known.keys()

    def known(self, key: str) -> Known | None:
        """Return what was last seen under `key`."""
        return self._known.get(key)

    def judge(self, key: str, sign: Sign, known: Known | None) -> bool:
        """Return whether `sign` may follow `known` (as it was when the command was sent); record a doubt if not."""
        if known is not None and key in self._forgotten:
            return False  # forgotten while the command was in flight: a newer acceptance counts
        self._forgotten.discard(key)
        doubt = _doubt(sign, known)
        if known is None and not sign.epoch:
            if key in self._known:
                return False  # initialised while the command was in flight
            # On the first sight another process may be initialising the store: it is no doubt yet.
            doubt = _EMPTY if key in self._empty and self._is_missing(key) and not self._is_beginning else None
            self._empty.add(key)
        if doubt is None:
            self._doubts.pop(key, None)
        else:
            self._doubts[key] = doubt
        return doubt is None

    @property
    def is_half_begun(self) -> bool:
        """Whether some keys were found empty while others exist."""
        return any(self._is_missing(key) for key in self._empty)

    def _is_missing(self, key: str) -> bool:
        return key in self._whole and not self._whole.isdisjoint(self._known)

    def may_begin(self, key: str) -> bool:
        """Decide whether the server of `key`, if empty, may be initialised: all are empty, or it is a new master."""
        if self._whole <= self._empty:
            # Decide once for all keys: the first one initialised must not make the others look emptied.
            self._is_beginning = True
        return key not in self._known and (key not in self._whole or self._is_beginning)

    def remember(self, key: str, seen: Known) -> None:
        """Record what was seen under `key`, if it is newer."""
        self._empty.discard(key)
        if self._whole <= self._known.keys() | {key}:
            self._is_beginning = False
        known = self._known.get(key)
        if known is None or known.epoch != seen.epoch or known.beat < seen.beat:
            self._known[key] = seen

    def forget_all_but(self, names: Collection[str]) -> None:
        """Forget knowledge and doubts of all keys but `names`: an acceptance is for the whole store."""
        self._forgotten |= self._known.keys() - set(names)
        self._known = {key: known for key, known in self._known.items() if key in names}
        self._doubts = {key: doubt for key, doubt in self._doubts.items() if key in names}

    def dump(self) -> Memory:
        """Return the known epochs, for a file that outlives the process."""
        return {key: list(known) for key, known in self._known.items()}

    def load(self, memory: Memory) -> None:
        """Load the epochs that an earlier process dumped."""
        self._known = {key: Known(str(epoch), *map(int, numbers)) for key, (epoch, *numbers) in memory.items()}


def newest(one: Memory, other: Memory) -> Memory:
    """Merge what two processes know: for each key the epoch that began last, and its higher beat.

    A key whose epoch began before the store's was forgotten by an acceptance, and is dropped.
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
    """Return one key in each sixteenth of the slots of a Cluster."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < _CLUSTER_BEATS:
        key = f"{keys.INSTANCE}:{number}"
        found.setdefault(keys.key_slot(key) * _CLUSTER_BEATS // keys.SLOTS, key)
        number += 1
    return [found[part] for part in sorted(found)]
