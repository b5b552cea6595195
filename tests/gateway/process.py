"""A gateway, or an operator's command, as a process of its own, as an operator starts it."""

import asyncio
import contextlib
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.gateway.stack import PATIENCE_SECONDS, RINGS

ROOT = Path(__file__).parents[2]


def environment(redis_url: str | None = None, upstream_url: str = "http://127.0.0.1:1", **more: str) -> dict[str, str]:
    """The variables of a process that shares nothing with this one but the stores."""
    named = {**RINGS, "OPENROUTER_BASE_URL": upstream_url, "WATTFARE_REDIS_DEADLINE_MS": "2000", "PORT": "0", **more}
    return {
        **named,
        **({"REDIS_URL": redis_url} if redis_url else {}),
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin",
    }


@dataclass
class GatewayProcess:
    """A running `python -m gateway`; `lines` holds what it has logged so far."""

    process: Process
    port: int = 0
    lines: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def until(self, event: str) -> dict[str, Any]:
        """Read its log up to the first line of this event."""
        assert self.process.stdout is not None
        async with asyncio.timeout(2 * PATIENCE_SECONDS):
            while line := (await self.process.stdout.readline()).decode():
                self.lines.append(line)
                said = json.loads(line)
                if said["event"] == event:
                    assert isinstance(said, dict)
                    return said
        raise AssertionError(f"it ended without {event}: {self.lines}")

    async def end(self) -> tuple[int, str]:
        """SIGTERM; return its exit code and all of its standard error."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and all of its standard error."""
        async with asyncio.timeout(2 * PATIENCE_SECONDS):
            out, errors = await self.process.communicate()
        self.lines += out.decode().splitlines()
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()


@contextlib.asynccontextmanager
async def gateway_process(variables: dict[str, str], *, cwd: Path = ROOT) -> AsyncIterator[GatewayProcess]:
    """Start a gateway and wait until it listens; end it afterwards in any case."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", env=variables, cwd=cwd, stdout=PIPE, stderr=PIPE, limit=2**20
    )
    running = GatewayProcess(process)
    try:
        running.port = int((await running.until("listening"))["port"])
        yield running
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.communicate()


async def command(module: str, *arguments: str, variables: dict[str, str], cwd: Path = ROOT) -> tuple[int, str, str]:
    """Run `python -m module`; return its exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, env=variables, cwd=cwd, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()
