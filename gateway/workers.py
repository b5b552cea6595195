"""From the command line to running worker processes: settings, logs, one event loop each, and their end.

A worker that dies is started again; SIGTERM goes to all, and the last one out decides the exit code.
"""

import gc
import importlib
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from types import FrameType

import uvloop

from devstore.embedded import EmbeddedError
from gateway import logs, metrics
from gateway.environment import SettingsError
from gateway.settings import Settings

_POLL_SECONDS = 0.2
_RESTART_SECONDS = 1.0
# How a worker says that it cannot start; any other death of it is worth another try (a bug ends Python with 1).
_CANNOT_START = 3
# A request makes some hundred containers, nearly all freed by their reference count; with Python's 700 the collector
# looked for cycles every few requests. A thousand open streams make no more garbage than this between two looks.
_GC_THRESHOLD = 50_000


def main(package: str, *, default_port: int) -> None:
    """Run `package`.server.serve in this process, or in workers. Exits 1 with one line when it cannot start."""
    try:
        settings = Settings.load(default_port=default_port)
    except SettingsError as refused:
        sys.exit(f"{package}: {refused}")
    logs.configure(settings.log_level, settings.log_format)
    if settings.workers == 1:
        sys.exit(0 if _serve(package, settings, number=0) else 1)
    sys.exit(_Supervisor(package, settings).run())


def _serve(package: str, settings: Settings, *, number: int) -> bool:
    """Serve until told to stop; tell whether that could begin at all, and say why if not."""
    try:
        if settings.metrics_port:
            metrics.serve(settings.host, settings.metrics_port + number)
        server = importlib.import_module(f"{package}.server")
        # What was imported lives as long as the process: the collector need not look at it again.
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        uvloop.run(server.serve(settings, shared_port=settings.workers > 1))
    except (SettingsError, EmbeddedError, OSError) as refused:
        print(f"{package}: {refused}", file=sys.stderr)  # noqa: T201 - the one line that says why
        return False
    return True


def _work(package: str, settings: Settings, number: int) -> None:
    logs.configure(settings.log_level, settings.log_format)
    sys.exit(0 if _serve(package, settings, number=number) else _CANNOT_START)


class _Supervisor:
    """Keeps the worker processes of one service running."""

    def __init__(self, package: str, settings: Settings) -> None:
        self._package = package
        self._settings = settings
        self._context = multiprocessing.get_context("spawn")
        self._is_stopping = False

    def run(self) -> int:
        """Run the workers until SIGTERM or SIGINT, or until one finds that it cannot start; return the exit code."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        workers = [self._start(number) for number in range(self._settings.workers)]
        while not self._is_stopping:
            time.sleep(_POLL_SECONDS)
            for number, worker in enumerate(workers):
                if worker.is_alive() or self._is_stopping:
                    continue
                if worker.exitcode == _CANNOT_START:
                    # What keeps one from starting keeps all: a taken port, no store.
                    self._is_stopping = True
                    continue
                logs.log.error("worker_died", exit_code=worker.exitcode)
                time.sleep(_RESTART_SECONDS)
                workers[number] = self._start(number)
        for worker in workers:
            if worker.pid is not None and worker.is_alive():
                os.kill(worker.pid, signal.SIGTERM)
        for worker in workers:
            worker.join()
        # A worker that was still starting had nothing to drain: our own signal ended it.
        return int(any(worker.exitcode not in (0, -signal.SIGTERM) for worker in workers))

    def _start(self, number: int) -> BaseProcess:
        worker = self._context.Process(
            target=_work, args=(self._package, self._settings, number), name=f"{self._package}-worker"
        )
        worker.start()
        return worker

    def _stop(self, _: int, __: FrameType | None) -> None:
        self._is_stopping = True
