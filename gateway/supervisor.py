"""Supervises the worker processes of one service: starts, watches, replaces and stops them.

Rule: a socket outlives the worker that listens on it, so no connection is refused while a worker is replaced.
Rule: a worker is stopped only when its replacement is ready, or when the whole service stops.
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
from gateway.environment import SettingsError
from gateway.lifecycle import READY, REPLACED, Systemd
from gateway.listening import close_all, open_sockets, port_of
from gateway.settings import Settings

CANNOT_START = 3
"""Exit code of a worker that cannot start; after any other it is restarted (an uncaught exception exits with 1)."""
_POLL_SECONDS = 0.2
_RESTART_SECONDS = 1.0
# A worker reports each second. Nothing blocks it for this long, so it hangs, and is killed.
_SILENT_SECONDS = 30.0

Work = Callable[[str, Settings, list[socket], Connection], None]


@dataclass(slots=True)
class Worker:
    """One worker process. `last_report_at`: when it last reported (monotonic)."""

    process: BaseProcess
    status: Connection
    last_report_at: float
    is_ready: bool = False

    def read_reports(self) -> None:
        """Read the reports in the pipe."""
        with contextlib.suppress(EOFError, OSError):
            while self.status.poll():
                self.is_ready |= self.status.recv_bytes() == READY
                self.last_report_at = time.monotonic()

    def send_signal(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the process if it is alive."""
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, how)


@dataclass(slots=True)
class Slot:
    """A place for one worker: its sockets, the worker that serves on them, and its replacement while one starts."""

    sockets: list[socket]
    worker: Worker | None = None
    replacement: Worker | None = None
    start_at: float = 0.0
    """When to restart a worker that died (monotonic)."""


@dataclass
class Supervisor:
    """The workers of one service. `work`: the main function of a worker. `load`: reads the settings again on SIGHUP."""

    package: str
    settings: Settings
    work: Work
    load: Callable[[], Settings]
    slots: list[Slot] = field(default_factory=list)
    draining: list[Worker] = field(default_factory=list)
    """Replaced workers that finish their streams."""
    _is_stopping: bool = False
    _is_reload_requested: bool = False
    _to_replace: list[Slot] = field(default_factory=list)
    _is_ready_reported: bool = False
    _failed: bool = False

    def __post_init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._systemd = Systemd(self.settings)

    def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until one of the first workers cannot start; return the exit code.

        Raises OSError when the port is taken.
        """
        self._open_sockets()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._reload)
        while not self._is_stopping:
            self.check_workers()
            wait([worker.process.sentinel for worker in self._workers()], timeout=_POLL_SECONDS)
        self._systemd.notify("STOPPING=1")
        for worker in self._workers():
            worker.send_signal()
        for worker in self._workers():
            worker.process.join()
        close_all([each for slot in self.slots for each in slot.sockets])
        # A worker that was still starting has no handler yet, so SIGTERM itself ended it: that is clean.
        clean = (0, -signal.SIGTERM)
        return int(self._failed or any(worker.process.exitcode not in clean for worker in self._workers()))

    def check_workers(self) -> None:
        """Check each worker once: read reports, restart, continue a reload."""
        if self._is_reload_requested:
            self._begin_reload()
        for worker in self._workers():
            worker.read_reports()
        for slot in self.slots:
            self._check_slot(slot)
        for worker in tuple(self.draining):
            if not worker.process.is_alive():
                self.draining.remove(worker)
                _forget_metrics(worker)
                if worker.process.exitcode:
                    logs.log.error("worker_died", exit_code=worker.process.exitcode)
        self._continue_reload()
        if not self._is_ready_reported and all(slot.worker and slot.worker.is_ready for slot in self.slots):
            self._is_ready_reported = True
            self._systemd.notify("READY=1")
        self._systemd.notify("WATCHDOG=1")

    def _open_sockets(self) -> None:
        port = self.settings.port
        for _ in range(self.settings.workers):
            sockets = open_sockets(self.settings.host, port, is_shared=True)
            port = port_of(sockets)
            self.slots.append(Slot(sockets))

    def _check_slot(self, slot: Slot) -> None:
        worker = slot.worker
        if worker is None:
            if time.monotonic() >= slot.start_at:
                slot.worker = self._start(slot)
            return
        if worker.process.is_alive():
            if time.monotonic() - worker.last_report_at > _SILENT_SECONDS:
                logs.log.error("worker_hangs", pid=worker.process.pid, silent_seconds=_SILENT_SECONDS)
                worker.send_signal(signal.SIGKILL)
            return
        if worker.process.exitcode == CANNOT_START and not self._is_ready_reported:
            # The cause (no Redis, an invalid setting) concerns all workers.
            self._is_stopping = self._failed = True
            return
        logs.log.error("worker_died", exit_code=worker.process.exitcode)
        _forget_metrics(worker)
        slot.worker, slot.start_at = None, time.monotonic() + _RESTART_SECONDS

    def _begin_reload(self) -> None:
        """Read the settings again and schedule the replacement of all workers. Invalid settings change nothing."""
        self._is_reload_requested = False
        self._systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            self.settings = self.load()
        except SettingsError as refused:
            logs.log.error("not_restarted", reason=str(refused))
            self._systemd.notify("READY=1")
            return
        logs.log.info("restarting", workers=len(self.slots))
        self._to_replace = list(self.slots)

    def _continue_reload(self) -> None:
        """Replace one worker at a time: start its replacement; once that is ready, let the old one drain."""
        if not self._to_replace:
            return
        slot = self._to_replace[0]
        fresh = slot.replacement
        if fresh is None:
            slot.replacement = self._start(slot)
        elif fresh.is_ready:
            if slot.worker is not None:
                slot.worker.send_signal(REPLACED)
                self.draining.append(slot.worker)
            slot.worker, slot.replacement = fresh, None
            self._finish_replacement()
        elif not fresh.process.is_alive():
            # The new settings do not work, so the old workers continue.
            logs.log.error("not_restarted", exit_code=fresh.process.exitcode)
            slot.replacement = None
            self._to_replace = []
            self._systemd.notify("READY=1")

    def _finish_replacement(self) -> None:
        del self._to_replace[0]
        if not self._to_replace:
            logs.log.info("restarted", draining=len(self.draining))
            self._systemd.notify("READY=1")

    def _start(self, slot: Slot) -> Worker:
        status, reports = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=self.work,
            args=(self.package, self.settings, slot.sockets, reports),
            name=f"{self.package}-worker",
        )
        process.start()
        reports.close()
        return Worker(process, status, last_report_at=time.monotonic())

    def _workers(self) -> Iterator[Worker]:
        for slot in self.slots:
            yield from (worker for worker in (slot.worker, slot.replacement) if worker is not None)
        yield from self.draining

    def _stop(self, _: int, __: FrameType | None) -> None:
        self._is_stopping = True

    def _reload(self, _: int, __: FrameType | None) -> None:
        self._is_reload_requested = True


def _forget_metrics(worker: Worker) -> None:
    if worker.process.pid is not None:
        metrics.forget_process(worker.process.pid)
