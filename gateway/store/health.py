"""One Redis server as seen from here: whether it answers, and how long a call may wait to find out.

Rule: a server that answers nobody is away; one that answers others is busy; and what this machine itself was late by
(too many processes for its cores) is not held against Redis.
"""

import asyncio
from typing import Any

from gateway import metrics
from gateway.logs import log

# Looked at in slices: what a slice takes longer than it should is this machine's own delay.
_SLICE_SECONDS = 0.025
_PUNCTUAL_SECONDS = 0.005
# No machine is excused for longer.
_MOST_EXCUSED_SECONDS = 0.15
# Room for a busy event loop to take in a reply that is here: time, and turns (socket to caller takes about four).
_GRACE_SECONDS = 0.01
_GRACE_TURNS = 10
# After an outage whoever lives renews first. A third of the usual lease is time enough, and so is as long as it lasted.
_MOST_RECOVERY_SECONDS = 20.0
# A server that answers others but not this call (a long queue, a cluster moving a slot) is waited for this long.
PATIENCE_SECONDS = 10.0


class Lane:
    """The way to one server. `server`: its name in the log, where there are several."""

    def __init__(self, server: str = "") -> None:
        self._said = {"server": server} if server else {}
        self._away_since: float | None = None
        self._last_reply = 0.0
        self._back_at = 0.0
        self._recovers_until = 0.0

    @property
    def is_away(self) -> bool:
        """Whether the server is known not to answer."""
        return self._away_since is not None

    @property
    def recovery_seconds(self) -> float:
        """How long its last outage may still be felt; 0 when that is over."""
        return max(0.0, self._recovers_until - asyncio.get_running_loop().time())

    def heard(self) -> None:
        """Note that the server answered somebody."""
        self._last_reply = asyncio.get_running_loop().time()

    def lost(self, why: str, *, asked_at: float) -> None:
        """Note that a call of `asked_at` (the loop's time) failed: one line in the log for each outage.

        A call from before the end of the last outage tells nothing new.
        """
        if self._away_since is None and asked_at >= self._back_at:
            self._away_since = asyncio.get_running_loop().time()
            metrics.STORE_OUTAGES.inc()
            log.error("store_away", reason=why, **self._said)

    def found(self) -> None:
        """Note that it is back: one line in the log."""
        if self._away_since is not None:
            self._back_at = asyncio.get_running_loop().time()
            away_seconds = self._back_at - self._away_since
            log.warning("store_back", away_seconds=round(away_seconds, 3), **self._said)
            self._away_since = None
            recovered_at = self._back_at + min(away_seconds, _MOST_RECOVERY_SECONDS)
            self._recovers_until = max(self._recovers_until, recovered_at)

    async def wait(self, task: "asyncio.Task[Any]", deadline_seconds: float, *, despite_outage: bool) -> bool:
        """Wait for `task`; tell whether it is done. If not, the server is marked as away, or patience has ended."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        excused = 0.0
        while True:
            before = loop.time()
            left = deadline_seconds + excused - (before - max(started, self._last_reply))
            if left <= 0:
                if await _graced(task):
                    return True
                if loop.time() - max(started, self._last_reply) >= deadline_seconds + excused:
                    self.lost("no answer in time", asked_at=started)
                    return False
                continue
            pause = min(left, _SLICE_SECONDS)
            await asyncio.wait({task}, timeout=pause)
            if task.done():
                return True
            late = loop.time() - before - pause
            if late > _PUNCTUAL_SECONDS:
                excused = min(excused + late, _MOST_EXCUSED_SECONDS)
            gave_up = self.is_away and not despite_outage
            if gave_up or loop.time() - started > PATIENCE_SECONDS:
                return await _graced(task)


async def _graced(task: "asyncio.Task[Any]") -> bool:
    """Give a call that seems late its grace; tell whether its reply came in."""
    for _ in range(_GRACE_TURNS):
        await asyncio.sleep(0)
    await asyncio.wait({task}, timeout=_GRACE_SECONDS)
    return task.done()
