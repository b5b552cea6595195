"""Keeps the worker processes of one service running: starts, watches, replaces and ends them.

Rule: a socket outlives the worker that listens on it, so no connection is refused while one takes another's place.
Rule: a worker is told to end only when the one in its place is ready, or when all are to end.
"""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from socket import socket
from types import FrameType

from gateway import logs, metrics
from gateway.duty import READY, REPLACED, Systemd
from gateway.environment import SettingsError
from gateway.listening import close_all, open_sockets, port_of
from gateway.settings import Settings

CANNOT_START = 3
"""How a worker says that it cannot start; any other death is worth another try (a bug ends Python with 1)."""
_POLL_SECONDS = 0.2
_RESTART_SECONDS = 1.0
# A worker tells each second that it is alive. Nothing it does takes so long; one that hangs serves nobody.
_SILENT_SECONDS = 30.0

Work = Callable[[str, Settings, list[socket], Connection], None]


@dataclass(slots=True)
class Worker:
    """One worker process. `heard`: when it last told something (monotonic)."""

    process: BaseProcess
    status: Connection
    heard: float
    is_ready: bool = False

    def listen(self) -> None:
        """Take in what it has told."""
        with contextlib.suppress(EOFError, OSError):
            while self.status.poll():
                self.is_ready |= self.status.recv_bytes() == READY
                self.heard = time.monotonic()

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to one that still runs."""
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, how)


@dataclass(slots=True)
class Slot:
    """One place for a worker: its sockets, who serves on them, and who is to."""

    sockets: list[socket]
    worker: Worker | None = None
    replacement: Worker | None = None
    start_at: float = 0.0
    """When a worker that died is started again (monotonic)."""


@dataclass
class Supervisor:
    """The workers of one service. `work`: what a worker process runs. `load`: the settings, read anew on SIGHUP."""

    package: str
    settings: Settings
    work: Work
    load: Callable[[], Settings]
    slots: list[Slot] = field(default_factory=list)
    leaving: list[Worker] = field(default_factory=list)
    """Workers that finish their streams."""
    _is_stopping: bool = False
    _is_told_to_reload: bool = False
    _to_replace: list[Slot] = field(default_factory=list)
    _is_told_ready: bool = False
    _failed: bool = False

    def __post_init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._systemd = Systemd(self.settings)

    def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until a first worker finds that it cannot start; return the exit code.

        Raises OSError when the port is taken.
        """
        self._open()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._reload)
        while not self._is_stopping:
            self.look()
            wait([worker.process.sentinel for worker in self._all()], timeout=_POLL_SECONDS)
        self._systemd.tell("STOPPING=1")
        for worker in self._all():
            worker.end()
        for worker in self._all():
            worker.process.join()
        close_all([each for slot in self.slots for each in slot.sockets])
        # A worker that was still starting had nothing to drain: our own signal ended it.
        clean = (0, -signal.SIGTERM)
        return int(self._failed or any(worker.process.exitcode not in clean for worker in self._all()))

    def look(self) -> None:
        """See to each worker once."""
        if self._is_told_to_reload:
            self._begin_reload()
        for worker in self._all():
            worker.listen()
        for slot in self.slots:
            self._see_to(slot)
        for worker in tuple(self.leaving):
            if not worker.process.is_alive():
                self.leaving.remove(worker)
                _forget(worker)
                if worker.process.exitcode:
                    logs.log.error("worker_died", exit_code=worker.process.exitcode)
        self._go_on_replacing()
        if not self._is_told_ready and all(slot.worker and slot.worker.is_ready for slot in self.slots):
            self._is_told_ready = True
            self._systemd.tell("READY=1")
        self._systemd.tell("WATCHDOG=1")

    def _open(self) -> None:
        port = self.settings.port
        for _ in range(self.settings.workers):
            sockets = open_sockets(self.settings.host, port, is_shared=True)
            port = port_of(sockets)
            self.slots.append(Slot(sockets))

    def _see_to(self, slot: Slot) -> None:
        worker = slot.worker
        if worker is None:
            if time.monotonic() >= slot.start_at:
                slot.worker = self._start(slot)
            return
        if worker.process.is_alive():
            if time.monotonic() - worker.heard > _SILENT_SECONDS:
                logs.log.error("worker_hangs", pid=worker.process.pid, silent_seconds=_SILENT_SECONDS)
                worker.end(signal.SIGKILL)
            return
        if worker.process.exitcode == CANNOT_START and not self._is_told_ready:
            # What keeps one from starting keeps all: no store, a setting that cannot be.
            self._is_stopping = self._failed = True
            return
        logs.log.error("worker_died", exit_code=worker.process.exitcode)
        _forget(worker)
        slot.worker, slot.start_at = None, time.monotonic() + _RESTART_SECONDS

    def _begin_reload(self) -> None:
        """Read the settings anew; the workers follow one by one. What cannot be right changes nothing."""
        self._is_told_to_reload = False
        self._systemd.tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            self.settings = self.load()
        except SettingsError as refused:
            logs.log.error("not_restarted", reason=str(refused))
            self._systemd.tell("READY=1")
            return
        logs.log.info("restarting", workers=len(self.slots))
        self._to_replace = list(self.slots)

    def _go_on_replacing(self) -> None:
        """One worker at a time: start the next one's replacement; once it is ready, let the old one finish."""
        if not self._to_replace:
            return
        slot = self._to_replace[0]
        fresh = slot.replacement
        if fresh is None:
            slot.replacement = self._start(slot)
        elif fresh.is_ready:
            if slot.worker is not None:
                slot.worker.end(REPLACED)
                self.leaving.append(slot.worker)
            slot.worker, slot.replacement = fresh, None
            self._replaced()
        elif not fresh.process.is_alive():
            # The old workers go on: they can serve, and what was changed cannot.
            logs.log.error("not_restarted", exit_code=fresh.process.exitcode)
            slot.replacement = None
            self._to_replace = []
            self._systemd.tell("READY=1")

    def _replaced(self) -> None:
        del self._to_replace[0]
        if not self._to_replace:
            logs.log.info("restarted", draining=len(self.leaving))
            self._systemd.tell("READY=1")

    def _start(self, slot: Slot) -> Worker:
        status, told = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=self.work,
            args=(self.package, self.settings, slot.sockets, told),
            name=f"{self.package}-worker",
        )
        process.start()
        told.close()
        return Worker(process, status, heard=time.monotonic())

    def _all(self) -> Iterator[Worker]:
        for slot in self.slots:
            yield from (worker for worker in (slot.worker, slot.replacement) if worker is not None)
        yield from self.leaving

    def _stop(self, _: int, __: FrameType | None) -> None:
        self._is_stopping = True

    def _reload(self, _: int, __: FrameType | None) -> None:
        self._is_told_to_reload = True


def _forget(worker: Worker) -> None:
    if worker.process.pid is not None:
        metrics.forget_process(worker.process.pid)
