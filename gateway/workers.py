"""Starts a service: reads settings, configures logs, and runs one event loop, or several in worker processes."""

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
from gateway.environment import SettingsError
from gateway.lifecycle import Lifecycle
from gateway.settings import Settings
from gateway.supervisor import CANNOT_START, Supervisor

# A request allocates about a hundred containers, nearly all freed by reference counting; with Python's default of 700
# the collector ran every few requests. A thousand open streams make no more garbage than this between two runs.
_GC_THRESHOLD = 50_000


def main(package: str, *, default_port: int) -> None:
    """Run `package`.server.serve in this process or in workers. Exits 1 with one line when it cannot start."""
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
    """Serve until stopped; return whether it could start, after printing the reason if not."""
    try:
        if settings.metrics_port and status is None:
            metrics.serve(settings.host, settings.metrics_port)
        elif settings.metrics_port:
            metrics.keep_handing_on()
        server = importlib.import_module(f"{package}.server")
        # Imported modules live as long as the process: exempt them from garbage collection.
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        uvloop.run(server.serve(settings, Lifecycle(settings, sockets=sockets, status=status)))
    except (SettingsError, EmbeddedError, OSError) as refused:
        print(f"{package}: {refused}", file=sys.stderr)  # noqa: T201 - the one line that says why
        return False
    finally:
        metrics.hand_on()
    return True


def _work(package: str, settings: Settings, sockets: list[socket], status: Connection) -> None:
    logs.configure(settings.log_level, settings.log_format)
    sys.exit(0 if _serve(package, settings, sockets=sockets, status=status) else CANNOT_START)
