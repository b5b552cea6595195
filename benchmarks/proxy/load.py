"""Load by wrk, and its samples: CPU per request of the service and of Redis, requests per second."""

import math
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.proxy.contender import Contender
from benchmarks.proxy.probe import ask, body_of
from benchmarks.proxy.processes import BenchFailed, Cores, busy_seconds, cpu_seconds, on_core, wait_until_quiet
from benchmarks.proxy.stand_in import StandIn

_SCRIPT = Path(__file__).with_name("load.lua")
# Warm-up of connections, caches and the JIT of wrk's script.
_WARM_SECONDS = 0.8
_AFTER_SECONDS = 0.1
# The time within which even the slowest service answers its last requests.
_DRAIN_SECONDS = 60
_RESTING = "resting"
_POLL_SECONDS = 0.02
_RESULT = re.compile(r"^BENCH asked=(\d+) answered=(\d+) wrong=(\d+) failed=(\d+) example=(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Load:
    """The requests of a load: kind, connections, users."""

    stream: bool = False
    connections: int = 32
    users: int = 1
    prompt_bytes: int = 60

    @property
    def body(self) -> bytes:
        """The body of each request."""
        return body_of(stream=self.stream, prompt_bytes=self.prompt_bytes)


@dataclass(frozen=True, slots=True)
class Sample:
    """One stretch: CPU microseconds a request, requests a second, and the shares of its core the service used.

    `others_share`: what other programs used of that core. They spoil its caches, and from a tenth on the figure.
    """

    cpu_us: float
    redis_us: float
    per_second: float
    core_share: float
    others_share: float


@dataclass(frozen=True, slots=True)
class LoadResult:
    """wrk's results. `failed`: broken connections and timeouts; `wrong`: answers other than the expected one."""

    sent: int
    answered: int
    wrong: int
    failed: int
    example: str

    @classmethod
    def parse(cls, output: str) -> "LoadResult":
        """Parse wrk's output. Raises BenchFailed if the script's line is missing."""
        found = _RESULT.search(output)
        if found is None:
            raise BenchFailed(f"wrk printed no result: {output[-1000:]}")
        sent, answered, wrong, failed = (int(each) for each in found.groups()[:4])
        return cls(sent, answered, wrong, failed, found[5])

    def fault(self, served: int) -> str:
        """Return why the outcome is invalid, '' if it is valid. `served`: the number of requests upstream received."""
        if self.wrong or self.failed:
            return f"{self.wrong} wrong answers and {self.failed} failures of {self.sent}: {self.example}"
        if not self.sent == self.answered == served:
            return f"sent {self.sent}, answered {self.answered}, served by upstream {served}"
        return ""


@dataclass(frozen=True, slots=True)
class _Reading:
    seconds: float
    served: int
    cpu: float
    redis_cpu: float
    core_busy: float


def measure(contender: Contender, upstream: StandIn, load: Load, *, seconds: float, cores: Cores) -> Sample:
    """Load a service from the other core, measure during the load, and let every request end. Raises BenchFailed."""
    served_before = upstream.served(contender.upstream_key)
    with tempfile.TemporaryDirectory(prefix="wf-bench-") as folder:
        process = _start(contender, upstream, load, seconds, cores.other, Path(folder))
        try:
            time.sleep(_WARM_SECONDS)
            first = _read(contender, upstream, cores.service)
            time.sleep(seconds)
            last = _read(contender, upstream, cores.service)
            _wait_until_resting(Path(folder), process)
            # Wait for work after the last answers, such as settlements, which must not count in the next sample.
            wait_until_quiet([*contender.pids, *contender.redis_pids], _DRAIN_SECONDS)
        finally:
            # On SIGINT, wrk stops and prints its results.
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
    fault = LoadResult.parse(output).fault(upstream.served(contender.upstream_key) - served_before)
    if fault:
        raise BenchFailed(f"{contender.name}, {load}: {fault}")
    return _sample(first, last)


def _wait_until_resting(folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until every request is answered. Requests unanswered in time are found by `Outcome.fault`."""
    give_up = time.monotonic() + _DRAIN_SECONDS
    while not (folder / _RESTING).exists() and process.poll() is None and time.monotonic() < give_up:
        time.sleep(_POLL_SECONDS)


def _read(contender: Contender, upstream: StandIn, core: int) -> _Reading:
    return _Reading(
        time.monotonic(),
        upstream.served(contender.upstream_key),
        cpu_seconds(contender.pids),
        cpu_seconds(contender.redis_pids),
        busy_seconds(core),
    )


def _sample(first: _Reading, last: _Reading) -> Sample:
    requests, seconds = last.served - first.served, last.seconds - first.seconds
    if requests == 0:
        raise BenchFailed("no request was answered; the stretch is too short: SECONDS=…")
    cpu = last.cpu - first.cpu
    return Sample(
        cpu_us=cpu / requests * 1e6,
        redis_us=(last.redis_cpu - first.redis_cpu) / requests * 1e6,
        per_second=requests / seconds,
        core_share=cpu / seconds,
        others_share=max(0.0, last.core_busy - first.core_busy - cpu) / seconds,
    )


def _start(
    contender: Contender, upstream: StandIn, load: Load, seconds: float, core: int, folder: Path
) -> subprocess.Popen[str]:
    wrk = shutil.which("wrk")
    if wrk is None:
        raise BenchFailed("wrk is missing: make bench installs it as root, else install wrk.")
    (folder / "body").write_bytes(load.body)
    if contender.is_exact:
        # Direct requests to upstream use a key that no contender has.
        (folder / "answer").write_bytes(ask(upstream.port, load.body, key="due").body)
    stretch = _WARM_SECONDS + seconds + _AFTER_SECONDS
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "BENCH_USERS": str(load.users),
        # Each load starts at another user, so that loads of many users do not always reach the same few.
        "BENCH_CONNECTIONS": str(load.connections),
        "BENCH_RESTING": str(folder / _RESTING),
        "BENCH_FIRST": str(random.randrange(load.users)),
        "BENCH_KEY": contender.key,
        "BENCH_BODY": str(folder / "body"),
        "BENCH_ANSWER": str(folder / "answer") if contender.is_exact else "",
        "BENCH_UNTIL": str(time.time() + stretch),
    }
    command = [wrk, "--threads", "1", "--connections", str(load.connections), "--timeout", f"{_DRAIN_SECONDS}s"]
    command += ["--duration", f"{math.ceil(stretch) + 2 * _DRAIN_SECONDS}s", "--script", str(_SCRIPT)]
    with on_core(core):
        return subprocess.Popen(
            [*command, f"http://127.0.0.1:{contender.port}{contender.path}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
