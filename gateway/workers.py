"""From the command line to running processes: settings, logs, and one event loop, or several in workers."""

import gc
import importlib
import sys
from contextlib import nullcontext
from functools import partial
from multiprocessing.connection import Connection
from socket import socket

import uvloop

from devstore.embedded import EmbeddedError
from gateway import logs, metrics
from gateway.duty import Duty
from gateway.environment import SettingsError
from gateway.settings import Settings
from gateway.supervisor import CANNOT_START, Supervisor

# A request makes some hundred containers, nearly all freed by their reference count; with Python's 700 the collector
# looked for cycles every few requests. A thousand open streams make no more garbage than this between two looks.
_GC_THRESHOLD = 50_000


def main(package: str, *, default_port: int) -> None:
    """Run `package`.server.serve in this process, or in workers. Exits 1 with one line when it cannot start."""
    load = partial(Settings.load, default_port=default_port)
    try:
        settings = load()
        logs.configure(settings.log_level, settings.log_format)
        if settings.workers > 1:
            supervisor = Supervisor(package, settings, _work, load)
            with metrics.summed(settings.host, settings.metrics_port) if settings.metrics_port else nullcontext():
                sys.exit(supervisor.run())
    except (SettingsError, OSError) as refused:
        sys.exit(f"{package}: {refused}")
    sys.exit(0 if _serve(package, settings) else 1)


def _serve(
    package: str,
    settings: Settings,
    *,
    sockets: list[socket] | None = None,
    status: Connection | None = None,
) -> bool:
    """Serve until told to stop; tell whether that could begin at all, and say why if not."""
    try:
        if settings.metrics_port and status is None:
            metrics.serve(settings.host, settings.metrics_port)
        server = importlib.import_module(f"{package}.server")
        # What was imported lives as long as the process: the collector need not look at it again.
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        uvloop.run(server.serve(settings, Duty(settings, sockets=sockets, status=status)))
    except (SettingsError, EmbeddedError, OSError) as refused:
        print(f"{package}: {refused}", file=sys.stderr)  # noqa: T201 - the one line that says why
        return False
    return True


def _work(package: str, settings: Settings, sockets: list[socket], status: Connection) -> None:
    logs.configure(settings.log_level, settings.log_format)
    sys.exit(0 if _serve(package, settings, sockets=sockets, status=status) else CANNOT_START)
