"""The command line of the sweeper's process; `ledger/test_sweeper.py` tests its work."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from tests.gateway.process import ROOT, environment
from tests.gateway.stack import PATIENCE_SECONDS
from tests.gateway.webhooks.receiver import Receiver
from tests.scripts.books import BUDGET, connect, opened


async def test_a_sweeper_that_cannot_start_says_why_in_one_line() -> None:
    """Exit code 1 and the variable's name."""
    variables = environment("nonsense://", "http://127.0.0.1:1")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.sweeper", cwd=ROOT, env=variables, stdout=PIPE, stderr=PIPE
    )
    out, errors = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert (process.returncode, out, errors.count(b"\n")) == (1, b"", 1)
    assert b"REDIS_URL" in errors


async def test_a_sweeper_alone_delivers_webhooks(redis_url: str, tmp_path: Path) -> None:
    """Where the gateways do not sweep, it sends what happened; SIGTERM ends it in order."""
    async with Receiver().running() as receiver, opened(redis_url, tmp_path) as services:
        receiver.secret = await services.endpoints.set(BUDGET.app_id, receiver.url) or ""
        await connect(services)
        variables = environment(redis_url, WATTFARE_WEBHOOK_LOOPBACK="on")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.sweeper", cwd=ROOT, env=variables, stdout=PIPE, stderr=PIPE
        )
        try:
            [received] = await receiver.until(1)
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert received.said == ("connection.created", "a:b}{c/ü")
    assert (process.returncode, errors) == (0, b"")
