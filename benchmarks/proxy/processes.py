"""Processes under test: started on a core, measured through /proc, and ended by their id."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_START_SECONDS = 60
_END_SECONDS = 30
_POLL_SECONDS = 0.02
# A process is quiet when it uses at most one clock tick of CPU in this interval, which allows heartbeats.
_QUIET_SECONDS = 0.15
_QUIET_CPU_SECONDS = 0.011
# Indices of parent, user time and system time in /proc/PID/stat after the name (fields 4, 14 and 15 in proc(5)).
_PARENT, _USER, _SYSTEM = 1, 11, 12


class BenchFailed(Exception):
    """The run is invalid; the message says why."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The two cores: one for the service under test, one for everything else."""

    service: int
    other: int


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Pin all processes started by this thread within the block to one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    core: int,
    log: Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process pinned to a core with its output in `log`; end it and wait for it on exit."""
    with log.open("ab") as out, on_core(core):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=cwd, env=environment
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until_listening(
    port: int, process: subprocess.Popen[bytes], log: Path, seconds: float = _START_SECONDS
) -> None:
    """Wait until a process accepts connections. Raises BenchFailed when it ended, or takes too long."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(_POLL_SECONDS)
    raise BenchFailed(f"{process.args!r} does not listen: {log.read_text(errors='replace')[-2000:]}")


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(int(entry.name))[_PARENT]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, ())
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the user and system CPU time of these processes, all threads included."""
    used = [_stat(pid) for pid in pids]
    return sum(int(fields[_USER]) + int(fields[_SYSTEM]) for fields in used) / _TICKS


def busy_seconds(core: int) -> float:
    """Return how long a core was busy with any process, or stolen from this virtual machine."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            # user, nice, system, idle, iowait, irq, softirq, steal (proc(5)); others are part of the first two.
            used = [int(field) for field in fields[:8]]
            return (sum(used) - used[3] - used[4]) / _TICKS
    raise BenchFailed(f"there is no core {core}")


def wait_until_quiet(pids: Sequence[int], seconds: float) -> None:
    """Wait until these processes are quiet. Raises BenchFailed after `seconds`."""
    give_up = time.monotonic() + seconds
    before = cpu_seconds(pids)
    while time.monotonic() < give_up:
        time.sleep(_QUIET_SECONDS)
        now = cpu_seconds(pids)
        if now - before < _QUIET_CPU_SECONDS:
            return
        before = now
    raise BenchFailed(f"processes {list(pids)} are still busy {seconds:g} seconds after the load")


def memory_bytes(pids: Sequence[int]) -> int:
    """Return the memory of these processes as PSS, which counts shared pages proportionally."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def _stat(pid: int) -> list[str]:
    # The name is in parentheses and may contain any character.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
