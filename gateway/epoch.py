"""Whether the Redis that answers is the one we knew: the same epoch, and no older than we left it.

Each beat counts a number up in Redis and remembers it here. A Redis that comes back with another epoch was emptied or
replaced, one that comes back with a smaller number was restored from an older copy or lost writes in a failover.
Either would let spend fall "back to zero", so it is refused until an operator accepts it. That it is older is written
down in that Redis: so it stays for every process, however far the beats count on.
"""

from dataclasses import dataclass

from redis.crc import key_slot

from gateway import keys

Memory = dict[str, list[str | int]]

_CLUSTER_SLOTS = 16384
# A beat in every sixteenth of a cluster's slots, so that each master is known.
_CLUSTER_BEATS = 16
_OLDER = "Redis came back older than it was"


@dataclass(frozen=True, slots=True)
class Sign:
    """What one Redis says of itself: its epoch (empty when it holds nothing), its beat, whether the operator accepted
    it, whether anybody found it older than it was.
    """

    epoch: str
    beat: int
    is_accepted: bool
    is_older: bool


class Epoch:
    """What this process knows of each server's epoch."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, int]] = {}
        self._doubts: dict[str, str] = {}

    @property
    def doubt(self) -> str | None:
        """Why a server is refused, for the operator; None when all are the ones we knew."""
        return next(iter(self._doubts.values()), None)

    def known(self, key: str) -> tuple[str, int] | None:
        """Return the epoch and beat last seen under `key`."""
        return self._known.get(key)

    def judge(self, key: str, sign: Sign, known: tuple[str, int] | None) -> bool:
        """Tell whether `sign` can follow `known` (as it was when the question was put), and remember a doubt if not."""
        doubt = _doubt(sign, known)
        if doubt is None:
            self._doubts.pop(key, None)
        else:
            self._doubts[key] = doubt
        return doubt is None

    def remember(self, key: str, epoch: str, beat: int) -> None:
        """Take this as the newest that was seen under `key`."""
        self._known[key] = (epoch, beat)

    def dump(self) -> Memory:
        """Return what is known, for a file that outlives the process."""
        return {key: [epoch, beat] for key, (epoch, beat) in self._known.items()}

    def load(self, memory: Memory) -> None:
        """Take up what an earlier process knew."""
        self._known = {key: (str(epoch), int(beat)) for key, (epoch, beat) in memory.items()}


def _doubt(sign: Sign, known: tuple[str, int] | None) -> str | None:
    if sign.is_older:
        return _OLDER
    if known is None:
        return None
    if not sign.epoch:
        return "Redis came back empty"
    if sign.epoch != known[0]:
        return None if sign.is_accepted else "another Redis answers than the one we knew"
    if sign.beat < known[1]:
        return _OLDER
    return None


def cluster_keys() -> list[str]:
    """Return one key in each sixteenth of the slots of a cluster."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < _CLUSTER_BEATS:
        key = f"{keys.INSTANCE}:{number}"
        found.setdefault(key_slot(key.encode()) * _CLUSTER_BEATS // _CLUSTER_SLOTS, key)
        number += 1
    return [found[part] for part in sorted(found)]
