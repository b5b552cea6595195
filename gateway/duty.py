"""What a serving process owes whoever watches over it: that it is ready, that it lives, that it ends when told.

Its watcher is our supervisor, by a pipe, or systemd, by the socket that sd_notify(3) describes, or nobody.
"""

import asyncio
import contextlib
import multiprocessing
import signal
import socket
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection

from aiohttp import web

from gateway.listening import BACKLOG, open_sockets
from gateway.logs import log
from gateway.settings import Settings

READY, ALIVE = b"ready", b"alive"
"""What a worker tells its supervisor."""
BEAT_SECONDS = 1.0
"""How often it tells that it is alive."""
REPLACED = signal.SIGUSR1
"""What tells a worker that another one serves in its place: it ends, and need not hurry."""
# A caller that is busy sends its next request within this, and is told with the answer to take a new connection.
_LEAVE_SECONDS = 1.0
_REPLACED_SECONDS = 5.0


class Systemd:
    """systemd's side: messages to NOTIFY_SOCKET, when there is one."""

    def __init__(self, settings: Settings) -> None:
        # A name that starts with @ is in Linux's abstract namespace.
        path = settings.notify_socket
        self._address = f"\0{path[1:]}" if path and path.startswith("@") else path
        self.watchdog_seconds = settings.watchdog_seconds

    def tell(self, message: str) -> None:
        """Send one message, such as READY=1. A socket that is gone is no reason to stop serving."""
        if self._address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                connection.setblocking(False)
                connection.sendto(message.encode(), self._address)


class Duty:
    """One serving process. `status`: the pipe to its supervisor. `sockets`: what the supervisor opened for it."""

    def __init__(
        self, settings: Settings, *, sockets: list[socket.socket] | None = None, status: Connection | None = None
    ) -> None:
        self._place = settings.host, settings.port
        self._sockets = sockets
        self._status = status
        self._systemd = Systemd(settings) if status is None else None
        self._stop = asyncio.Event()
        self._is_replaced = False

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Listen for the signals that end a process, and tell that this one is alive until the block ends."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        # A terminal that closes, or an operator who thinks of several workers, must not cut streams.
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        loop.add_signal_handler(REPLACED, self._be_replaced)
        parent = multiprocessing.parent_process() if self._status is not None else None
        if parent is not None:
            # Readable once the supervisor is gone: nobody would ever tell this worker to stop.
            loop.add_reader(parent.sentinel, self._orphaned, parent.sentinel)
        beating = loop.create_task(self._beat())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def listen(self, runner: web.BaseRunner) -> list[socket.socket]:
        """Take connections for `runner`, and return the sockets they come by. Raises OSError."""
        sockets = self._sockets or open_sockets(*self._place, is_shared=False)
        for each in sockets:
            await web.SockSite(runner, each, backlog=BACKLOG).start()
        return sockets

    def ready(self) -> None:
        """Tell that connections are taken."""
        self._tell(READY, "READY=1")

    @property
    def leave_seconds(self) -> float:
        """How long connections that are idle at the end are kept, for their next request to be their last."""
        return _REPLACED_SECONDS if self._is_replaced else _LEAVE_SECONDS

    async def stopped(self) -> None:
        """Wait until this process is to end, and tell that it does."""
        await self._stop.wait()
        if self._systemd is not None:
            self._systemd.tell("STOPPING=1")

    async def _beat(self) -> None:
        seconds = BEAT_SECONDS
        if self._systemd is not None and self._systemd.watchdog_seconds:
            seconds = min(seconds, self._systemd.watchdog_seconds / 2)
        while True:
            self._tell(ALIVE, "WATCHDOG=1")
            await asyncio.sleep(seconds)

    def _tell(self, supervisor: bytes, systemd: str) -> None:
        if self._systemd is not None:
            self._systemd.tell(systemd)
        elif self._status is not None:
            # The pipe has room for an hour of beats, and its other end is read five times a second.
            with contextlib.suppress(OSError):
                self._status.send_bytes(supervisor)

    def _hang_up(self) -> None:
        if self._status is None:
            log.warning(
                "not_restarted", reason="one process cannot take its own place: set WEB_CONCURRENCY to 2 or more"
            )

    def _be_replaced(self) -> None:
        self._is_replaced = True
        self._stop.set()

    def _orphaned(self, sentinel: int) -> None:
        asyncio.get_running_loop().remove_reader(sentinel)
        log.error("supervisor_died")
        self._stop.set()
