"""Notifications of a serving process to its supervisor or systemd."""

import asyncio
import multiprocessing
import os
import signal
import socket
from pathlib import Path

from structlog.testing import capture_logs

from gateway.lifecycle import ALIVE, READY, REPLACED, Lifecycle
from gateway.settings import Settings
from tests.gateway.environments import RINGS

PATIENCE_SECONDS = 10


def _settings(path: Path | None = None) -> Settings:
    told = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "20000"} if path else {}
    return Settings.load({**RINGS, **told, "PORT": "0"})


async def test_systemd_hears_of_the_start_of_each_beat_and_of_the_end(tmp_path: Path) -> None:
    """As sd_notify(3) has it; twice in the time that the watchdog allows."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.setblocking(False)
        loop = asyncio.get_running_loop()
        lifecycle = Lifecycle(_settings(path))
        async with asyncio.timeout(PATIENCE_SECONDS), lifecycle.supervised():
            assert await loop.sock_recv(systemd, 100) == b"WATCHDOG=1"
            lifecycle.report_ready()
            heard = {await loop.sock_recv(systemd, 100) for _ in range(4)}
            assert heard == {b"READY=1", b"WATCHDOG=1"}
            os.kill(os.getpid(), signal.SIGTERM)
            await lifecycle.until_stop()
            while await loop.sock_recv(systemd, 100) != b"STOPPING=1":
                pass


async def test_a_worker_tells_its_supervisor_and_takes_time_to_leave_when_replaced() -> None:
    """A worker sends nothing to systemd, which monitors the supervisor only."""
    heard, status = multiprocessing.Pipe(duplex=False)
    lifecycle = Lifecycle(_settings(), status=status)
    async with asyncio.timeout(PATIENCE_SECONDS), lifecycle.supervised():
        usual_seconds = lifecycle.grace_seconds
        lifecycle.report_ready()
        os.kill(os.getpid(), REPLACED)
        await lifecycle.until_stop()
        assert lifecycle.grace_seconds > usual_seconds
    assert {heard.recv_bytes(), heard.recv_bytes()} == {ALIVE, READY}
    heard.close()
    status.close()


async def test_a_closed_terminal_ends_no_stream() -> None:
    """A single process cannot replace itself: it logs how to do so, and continues."""
    lifecycle = Lifecycle(_settings())
    with capture_logs() as lines:
        async with lifecycle.supervised():
            os.kill(os.getpid(), signal.SIGHUP)
            while not lines:
                await asyncio.sleep(0)
    assert "WEB_CONCURRENCY" in lines[0]["reason"]


async def test_a_watcher_that_is_gone_is_no_reason_to_stop(tmp_path: Path) -> None:
    """Systemd's socket may vanish, the supervisor's end of the pipe may be closed."""
    heard, status = multiprocessing.Pipe(duplex=False)
    heard.close()
    for lifecycle in (Lifecycle(_settings(tmp_path / "none")), Lifecycle(_settings(), status=status)):
        async with lifecycle.supervised():
            lifecycle.report_ready()
    status.close()
