"""From the command line to running worker processes: settings, logs, one event loop each, and their end.

A worker that dies is started again; SIGTERM goes to all, and the last one out decides the exit code.
"""

import importlib
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from types import FrameType

import uvloop

from gateway import logs, metrics
from gateway.embedded import EmbeddedError
from gateway.settings import Settings, SettingsError

_POLL_SECONDS = 0.2
_RESTART_SECONDS = 1.0


def main(package: str, *, default_port: int) -> None:
    """Run `package`.server.serve in this process, or in workers. Exits 1 with one line when it cannot start."""
    try:
        settings = Settings.load(default_port=default_port)
        logs.configure(settings.log_level)
        if settings.workers == 1:
            _serve(package, settings, shared_port=False, number=0)
        else:
            _supervise(package, settings)
    except (SettingsError, EmbeddedError, OSError) as refused:
        print(f"{package}: {refused}", file=sys.stderr)  # noqa: T201 - the one line that says why
        sys.exit(1)


def _serve(package: str, settings: Settings, *, shared_port: bool, number: int) -> None:
    if settings.metrics_port:
        metrics.serve(settings.host, settings.metrics_port + number)
    server = importlib.import_module(f"{package}.server")
    uvloop.run(server.serve(settings, shared_port=shared_port))


def _work(package: str, settings: Settings, number: int) -> None:
    logs.configure(settings.log_level)
    _serve(package, settings, shared_port=True, number=number)


def _supervise(package: str, settings: Settings) -> None:
    context = multiprocessing.get_context("spawn")
    stopping = False

    def stop(_: int, __: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    def start(number: int) -> BaseProcess:
        worker = context.Process(target=_work, args=(package, settings, number), name=f"{package}-worker")
        worker.start()
        return worker

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    workers = [start(number) for number in range(settings.workers)]
    while not stopping:
        time.sleep(_POLL_SECONDS)
        for place, worker in enumerate(workers):
            if not worker.is_alive() and not stopping:
                logs.log.error("worker_died", exit_code=worker.exitcode)
                time.sleep(_RESTART_SECONDS)
                workers[place] = start(place)
    for worker in workers:
        if worker.pid is not None and worker.is_alive():
            os.kill(worker.pid, signal.SIGTERM)
    for worker in workers:
        worker.join()
    # A worker that was still starting had nothing to drain: our own signal ended it.
    sys.exit(max(0 if worker.exitcode == -signal.SIGTERM else abs(worker.exitcode or 0) for worker in workers))
