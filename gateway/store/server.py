"""One Redis server as seen by this process: its one connection, and whether it answers.

Rule: one measure decides whether a server is away: the time since its last reply while a command is unanswered. Time by
which our own event loop ran late (a machine with too few cores) is subtracted.
Rule: a new connection is made only after the old one is closed, so recovery never needs a second one (maxclients).
"""

import asyncio
import time
from collections.abc import Sequence

from gateway import metrics
from gateway.logs import log
from gateway.store.connection import Access, Ended, Find, Lost, Pipe, Place, connect

# Interval of the watchdog. Beyond _PUNCTUAL_SECONDS, its lateness counts as delay of this machine.
_WATCH_SECONDS = 0.025
_PUNCTUAL_SECONDS = 0.005
# The most that is subtracted for this machine's own delay, so that a frozen Redis is found even under overload.
_MOST_EXCUSED_SECONDS = 0.15
# Before the verdict, a busy event loop gets this much time and this many turns (each polls the sockets once) to read a
# reply that has already arrived.
_GRACE_SECONDS = 0.01
_GRACE_TURNS = 10
# After an outage, wait before sweeping so that live processes renew their leases: min(outage, a third of the lease).
_MOST_RECOVERY_SECONDS = 20.0


class Server:
    """One server and the connection to it.

    `preamble`: commands sent first on each new connection. `name`: its address in log lines, empty for a single server.
    """

    def __init__(
        self,
        find: Find,
        *,
        access: Access,
        deadline_seconds: float,
        preamble: Sequence[bytes] = (),
        name: str = "",
    ) -> None:
        self.name = name
        self.place = Place()
        """The address it was last connected at."""
        self.pipe: Pipe | None = None
        self.is_serving = False
        """Whether it is a master that holds keys, by the last known view."""
        self.is_open = False
        """Whether it takes commands: it is connected, serving, verified and answering."""
        self.opened = asyncio.Event()
        """Set while `is_open`, for callers that wait without a deadline."""
        self.has_news = asyncio.Event()
        """Set when it must be verified again: it is away, its connection ended, or it has begun to serve."""
        self.proving = asyncio.Lock()
        """Held during verification: one heartbeat must not close the connection that another one uses."""
        self.deadline_seconds = deadline_seconds
        self.find = find
        self._access = access
        self._preamble = preamble
        self._connecting = asyncio.Lock()
        self._waiters: list[asyncio.Future[None]] = []
        self._waited_since = 0.0
        self._away_since: float | None = None
        self._recovers_until = 0.0
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        self._watched: float | None = None
        self._excused = 0.0
        self._look_in(_WATCH_SECONDS)

    @property
    def is_away(self) -> bool:
        """Whether it is known not to answer."""
        return self._away_since is not None

    @property
    def recovery_seconds(self) -> float:
        """For how many seconds after its last outage the sweeper must still wait; 0 when over."""
        return max(0.0, self._recovers_until - time.monotonic())

    async def connect(self) -> Pipe:
        """Return its connection, making one if there is none. Raises Lost."""
        async with self._connecting:
            if self._is_closed:
                raise Lost("closed")
            if self.pipe is None:
                pipe = await connect(self.find, self._access, Pipe)
                if pipe.is_lost:
                    pipe.close()
                    raise Ended("the connection was closed")
                pipe.owner, self.pipe, self.place = self, pipe, pipe.place
                for packed in self._preamble:
                    pipe.send_unread(packed)
            return self.pipe

    async def decided(self) -> None:
        """Wait until it is open, or known to be away, or no longer the master of its slots."""
        if self._is_closed or self.is_away:
            return
        if not self._waiters:
            self._waited_since = time.monotonic()
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def found(self) -> None:
        """Record that it answers and was verified. Logs one line if it was away."""
        self._end_outage()
        self.is_open = self.is_serving and self.pipe is not None
        if self.is_open:
            self.opened.set()
            self._release()

    def lost(self, why: str) -> None:
        """Record that it does not answer. Logs one line for each outage."""
        self._shut()
        self._release()
        if self.is_serving and self._away_since is None and not self._is_closed:
            self._away_since = time.monotonic()
            self.has_news.set()
            metrics.STORE_OUTAGES.inc()
            log.error("store_away", reason=why, **self._said)

    def serve(self, is_serving: bool) -> None:
        """Record whether it holds keys. A server that begins to serve is verified before it takes a command."""
        if is_serving == self.is_serving:
            return
        self.is_serving = is_serving
        self._shut()
        self.has_news.set()
        if not is_serving and self.is_away:
            # Another master took over. Dropping the connection makes unanswered commands retry there.
            self._end_outage()
            self.drop()
        self._release()

    def drop(self) -> None:
        """Close its connection: unanswered commands get LOST."""
        if self.pipe is not None:
            self.pipe.close()

    def refuse(self) -> None:
        """Close its connection, and send nothing there until it is verified again."""
        self._shut()
        self._release()
        self.drop()

    def close(self) -> None:
        """End the connection and the watchdog."""
        self._is_closed = True
        self._watch.cancel()
        self.refuse()

    def disconnected(self, pipe: Pipe) -> None:
        """Record that the connection has ended."""
        if pipe is self.pipe:
            self.pipe = None
            self._shut()
            self.has_news.set()

    @property
    def _said(self) -> dict[str, str]:
        return {"server": self.name} if self.name else {}

    def _shut(self) -> None:
        self.is_open = False
        self.opened.clear()

    def _end_outage(self) -> None:
        if self._away_since is None:
            return
        away_seconds = time.monotonic() - self._away_since
        self._away_since = None
        recovered_at = time.monotonic() + min(away_seconds, _MOST_RECOVERY_SECONDS)
        self._recovers_until = max(self._recovers_until, recovered_at)
        log.warning("store_back", away_seconds=round(away_seconds, 3), **self._said)

    def _release(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # -- the watch ----------------------------------------------------------------------------------------

    def _look_in(self, seconds: float) -> None:
        self._look_at = time.monotonic() + seconds
        self._watch = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        now, since = time.monotonic(), self._unanswered_since()
        if since is None:
            self._look_in(_WATCH_SECONDS)
            return
        if since != self._watched:
            self._watched, self._excused = since, 0.0
        late = now - self._look_at
        if late > _PUNCTUAL_SECONDS:
            self._excused = min(self._excused + late, _MOST_EXCUSED_SECONDS)
        left = since + self.deadline_seconds + self._excused - now
        if left > 0:
            self._look_in(min(left, _WATCH_SECONDS))
        else:
            self._grace(_GRACE_TURNS)

    def _grace(self, turns: int) -> None:
        if self._is_closed:
            return
        if turns:
            self._loop.call_soon(self._grace, turns - 1)
        else:
            self._watch = self._loop.call_later(_GRACE_SECONDS, self._judge)

    def _judge(self) -> None:
        since = self._unanswered_since()
        if since is not None and time.monotonic() - since >= self.deadline_seconds + self._excused:
            self._give_up()
        self._look_in(_WATCH_SECONDS)

    def _unanswered_since(self) -> float | None:
        """Since when (monotonic) requests wait without any reply; None when none waits or it is known to be away."""
        if self.is_away:
            return None
        asked = self.pipe.asked_since if self.pipe is not None else None
        if asked is None and self._waiters:
            # The callers wait for `decided`. A connection may exist and be under verification: its last reply counts.
            return max(self._waited_since, self.pipe.since) if self.pipe is not None else self._waited_since
        return asked

    def _give_up(self) -> None:
        self.lost("no answer in time")
        if self.pipe is not None:
            self.pipe.give_up()
        if not self.is_serving:
            # A replica gets no heartbeat that would find it again, so the next command must reconnect.
            self.drop()
