"""Whole gateway processes for fault tests, each a fork of one warm interpreter: started in moments, killed at a point.

`python -m tests.faults.process_forker` reads one JSON order a line and answers each with one JSON line.
"""

import asyncio
import atexit
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 20
_POLL_SECONDS = 0.005


@dataclass
class ForkedGateway:
    """One running gateway."""

    forker: "ProcessForker"
    pid: int
    log: Path
    port: int = 0
    exit_code: int | None = None

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def lines(self) -> list[dict[str, Any]]:
        """Its log so far."""
        whole = self.log.read_text().split("\n")[:-1]
        return [json.loads(line) for line in whole if line.startswith("{")]

    def events(self, *names: str) -> list[str]:
        """The names of its log's lines, those in `names` alone."""
        return [line["event"] for line in self.lines() if line.get("event") in names]

    def send(self, number: signal.Signals) -> None:
        """Signal it."""
        if self.exit_code is None:
            os.kill(self.pid, number)

    async def froze(self) -> None:
        """Wait until it has frozen itself."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (await self.forker.order({"do": "poll", "pid": self.pid}))["frozen"]:
                await asyncio.sleep(_POLL_SECONDS)

    async def listens(self) -> None:
        """Wait until it serves. Raises RuntimeError when it ended instead."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for line in self.lines():
                    if line.get("event") == "listening":
                        self.port = line["port"]
                        return
                if await self.is_over():
                    raise RuntimeError(f"the gateway ended with {self.exit_code}: {self.log.read_text()[-2000:]}")
                await asyncio.sleep(_POLL_SECONDS)

    async def is_over(self) -> bool:
        """Whether it has ended."""
        if self.exit_code is None:
            self.exit_code = (await self.forker.order({"do": "poll", "pid": self.pid}))["code"]
        return self.exit_code is not None

    async def ended(self) -> int:
        """Wait for its end; return the exit code, negative for a signal."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await self.is_over():
                await asyncio.sleep(_POLL_SECONDS)
        assert self.exit_code is not None
        return self.exit_code

    async def kill(self) -> None:
        """End it as a power cut would."""
        if not await self.is_over():
            os.kill(self.pid, signal.SIGKILL)
            await self.ended()


_ORDERS = itertools.count()


@cache
def _interpreter() -> tuple[int, int]:
    """Start the interpreter, once for each process of tests; return the pipe for orders and the one of answers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.process_forker"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    # It ends with its standard input.
    for end in (process.wait, process.stdout.close, process.stdin.close):
        atexit.register(end)
    return process.stdin.fileno(), process.stdout.fileno()


@dataclass
class ProcessForker:
    """Forks gateways off a warm interpreter, which all of them share, one after the other. `folder`: for the logs."""

    folder: Path
    started: list[ForkedGateway] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._turn = asyncio.Lock()
        self._numbers = itertools.count()
        self._answers = asyncio.StreamReader()
        self._reading, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._answers), os.fdopen(os.dup(_interpreter()[1]), "rb", 0)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for gateway in self.started:
            await gateway.kill()
        self._reading.close()

    async def order(self, order: Mapping[str, object]) -> dict[str, Any]:
        """Give one order; return the answer."""
        number = next(_ORDERS)
        async with self._turn:
            os.write(_interpreter()[0], json.dumps({**order, "number": number}).encode() + b"\n")
            while True:
                answer: dict[str, Any] = json.loads(await self._answers.readline())
                # A test that was broken off may have left an answer unread.
                if answer["number"] == number:
                    return answer

    async def start(
        self, variables: Mapping[str, str], *, point: str = "", nth: int = 1, freeze: bool = False
    ) -> ForkedGateway:
        """Start a gateway that kills (or freezes) itself when it reaches `point` for the n-th time."""
        log = self.folder / f"gateway-{next(self._numbers)}.log"
        log.touch()
        order = {
            "do": "start",
            "variables": dict(variables),
            "log": str(log),
            "point": point,
            "nth": nth,
            "freeze": freeze,
        }
        gateway = ForkedGateway(self, (await self.order(order))["pid"], log)
        self.started.append(gateway)
        await gateway.listens()
        return gateway


def _run_gateway(order: Mapping[str, Any]) -> None:
    import uvloop

    from gateway import logs, server
    from gateway.settings import Settings

    _die_at(order["point"], order["nth"], signal.SIGSTOP if order["freeze"] else signal.SIGKILL)
    settings = Settings.load(order["variables"])
    logs.configure(settings.log_level)
    uvloop.run(server.serve(settings))


def _die_at(point: str, nth: int, how: signal.Signals) -> None:
    from gateway.ledger.sweeper import Sweeper
    from gateway.metered.inflight import OpenRequest
    from gateway.webhooks.sender import Sender

    left = nth

    def reached(name: str) -> None:
        nonlocal left
        if name == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), how)

    setattr(OpenRequest, "reach", lambda _, name: reached(name))  # noqa: B010
    Sweeper.reached = staticmethod(lambda name: reached(f"sweep {name}"))
    Sender.reached = staticmethod(lambda name: reached(f"webhook {name}"))


def _start(order: Mapping[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _run_gateway(order)
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def _poll(pid: int) -> dict[str, int | None]:
    found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
    frozen = bool(found) and os.WIFSTOPPED(status)
    return {"code": os.waitstatus_to_exitcode(status) if found and not frozen else None, "frozen": frozen}


def main() -> None:
    """Take orders until standard input ends; then end what still runs."""
    import gateway.server  # noqa: F401 - loaded once, shared by every fork

    running: set[int] = set()
    try:
        for line in sys.stdin:
            order = json.loads(line)
            print(json.dumps({**_carried_out(order, running), "number": order["number"]}), flush=True)
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)


def _carried_out(order: Mapping[str, Any], running: set[int]) -> dict[str, int | None]:
    if order["do"] == "start":
        pid = _start(order)
        running.add(pid)
        return {"pid": pid}
    answer = _poll(order["pid"])
    if answer["code"] is not None:
        running.discard(order["pid"])
    return answer


if __name__ == "__main__":
    main()
