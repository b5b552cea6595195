"""Several worker processes on one port: one revocation holds for all, a dead one is replaced, SIGTERM ends all."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import aiohttp
import pytest

from tests.fakes import FakeOpenRouter
from tests.gateway.process import ROOT, environment, gateway_process
from tests.gateway.stack import PATIENCE_SECONDS, Stack, question
from tests.servers import free_ports


def workers_of(pid: int) -> set[int]:
    """Return the worker processes of a supervisor: its children, by /proc."""
    workers = set()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it may end after it was listed
            if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
                workers.add(int(child))
    return workers


@pytest.mark.skipif(sys.platform != "linux", reason="workers are told by /proc")
async def test_two_workers_share_a_port_and_a_revocation(
    redis_url: str, stack: Stack, openrouter: FakeOpenRouter
) -> None:
    """Every worker answers alike; one that dies is started again; the shutdown is clean."""
    variables = environment(redis_url, openrouter.url, WEB_CONCURRENCY="2", PORT=str(free_ports(1)[0]))
    async with gateway_process(variables) as gateway, asyncio.timeout(4 * PATIENCE_SECONDS):
        await gateway.until("listening")

        async def ask() -> int:
            async with (
                aiohttp.ClientSession() as session,
                session.post(f"{gateway.url}/v1/chat/completions", json=question(), headers=stack.as_user()) as answer,
            ):
                await answer.read()
                return answer.status

        assert {await ask() for _ in range(12)} == {200}
        await stack.gateway.services.connections.revoke(stack.budget())
        assert {await ask() for _ in range(12)} == {402}
        workers = workers_of(gateway.process.pid)
        assert len(workers) == 2
        os.kill(min(workers), signal.SIGKILL)
        died = await gateway.until("worker_died")
        assert died["exit_code"] == -signal.SIGKILL
        await gateway.until("listening")
        assert len(workers_of(gateway.process.pid)) == 2
        code, errors = await gateway.end()
    assert (code, errors) == (0, "")
    assert sum('"stopped"' in line for line in gateway.lines) == 2


async def test_sigterm_while_the_workers_start_is_a_clean_end(redis_url: str) -> None:
    """Nothing was served yet, so nothing went wrong."""
    variables = environment(redis_url, WEB_CONCURRENCY="2", PORT=str(free_ports(1)[0]))
    async with gateway_process(variables) as gateway:
        # One worker listens, the other may still be starting.
        assert (await gateway.end())[0] == 0


async def test_a_taken_port_ends_the_supervisor_with_a_line_that_says_so(redis_url: str) -> None:
    """A restart cannot help and is not tried: one line with the reason, exit 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        variables = environment(redis_url, "http://127.0.0.1:9", WEB_CONCURRENCY="2", PORT=port)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", env=variables, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL, stderr=PIPE
        )
        async with asyncio.timeout(4 * PATIENCE_SECONDS):
            _, errors = await process.communicate()
    assert process.returncode == 1
    assert "gateway: " in errors.decode()
    assert "Traceback" not in errors.decode()
