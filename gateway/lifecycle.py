"""The life cycle of a serving process: it listens, reports that it is ready and alive, and stops on a signal.

It reports to our supervisor through a pipe, or to systemd through the socket of sd_notify(3), or to nobody.
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
"""A worker's reports to its supervisor."""
REPORT_SECONDS = 1.0
"""The interval of ALIVE reports; the supervisor kills a worker after thirty silent ones."""
REPLACED = signal.SIGUSR1
"""The signal that a replacement is serving: the worker ends, with a longer grace period than on SIGTERM."""
# A busy caller sends its next request within this time; the response has `Connection: close`. After a replacement there
# is no hurry, so rare callers get this chance too.
_GRACE_SECONDS = 1.0
_REPLACED_GRACE_SECONDS = 5.0


class Systemd:
    """Sends messages to systemd's NOTIFY_SOCKET, if there is one."""

    def __init__(self, settings: Settings) -> None:
        # A path that starts with @ is in Linux's abstract socket namespace.
        path = settings.notify_socket
        self._address = f"\0{path[1:]}" if path and path.startswith("@") else path
        self.watchdog_seconds = settings.watchdog_seconds

    def notify(self, message: str) -> None:
        """Send one message, such as READY=1. Errors are ignored: without the socket the service still works."""
        if self._address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                connection.setblocking(False)
                connection.sendto(message.encode(), self._address)


class Lifecycle:
    """One serving process. `status`: the pipe to its supervisor. `sockets`: opened by the supervisor for it."""

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
    async def supervised(self) -> AsyncIterator[None]:
        """Handle the signals that stop the process, and report that it is alive, until the block ends."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        # SIGHUP must not cut streams: a terminal may close, or an operator may expect a reload.
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        loop.add_signal_handler(REPLACED, self._on_replaced)
        parent = multiprocessing.parent_process() if self._status is not None else None
        if parent is not None:
            # The sentinel becomes readable when the supervisor has died: nobody else would stop this worker.
            loop.add_reader(parent.sentinel, self._on_orphaned, parent.sentinel)
        beating = loop.create_task(self._report_alive_forever())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def listen(self, runner: web.BaseRunner) -> list[socket.socket]:
        """Accept connections for `runner`; return the listening sockets. Raises OSError."""
        sockets = self._sockets or open_sockets(*self._place, is_shared=False)
        for each in sockets:
            await web.SockSite(runner, each, backlog=BACKLOG).start()
        return sockets

    def report_ready(self) -> None:
        """Report that the process accepts connections."""
        self._report(READY, "READY=1")

    @property
    def grace_seconds(self) -> float:
        """How long idle connections are kept at the end, so that their next request can be answered with a close."""
        return _REPLACED_GRACE_SECONDS if self._is_replaced else _GRACE_SECONDS

    async def until_stop(self) -> None:
        """Wait for a signal to stop, and report it to systemd."""
        await self._stop.wait()
        if self._systemd is not None:
            self._systemd.notify("STOPPING=1")

    async def _report_alive_forever(self) -> None:
        seconds = REPORT_SECONDS
        if self._systemd is not None and self._systemd.watchdog_seconds:
            seconds = min(seconds, self._systemd.watchdog_seconds / 2)
        while True:
            self._report(ALIVE, "WATCHDOG=1")
            await asyncio.sleep(seconds)

    def _report(self, supervisor: bytes, systemd: str) -> None:
        if self._systemd is not None:
            self._systemd.notify(systemd)
        elif self._status is not None:
            # Never blocks: the pipe has room for an hour of reports, and the supervisor reads it five times a second.
            with contextlib.suppress(OSError):
                self._status.send_bytes(supervisor)

    def _on_hangup(self) -> None:
        if self._status is None:
            log.warning(
                "not_restarted", reason="one process cannot take its own place: set WEB_CONCURRENCY to 2 or more"
            )

    def _on_replaced(self) -> None:
        self._is_replaced = True
        self._stop.set()

    def _on_orphaned(self, sentinel: int) -> None:
        asyncio.get_running_loop().remove_reader(sentinel)
        log.error("supervisor_died")
        self._stop.set()
