"""The command line of the sweeper's process; `ledger/test_sweeper.py` tests its work."""

import asyncio
import sys
from asyncio.subprocess import PIPE

from tests.gateway.process import ROOT, environment
from tests.gateway.stack import PATIENCE_SECONDS


async def test_a_sweeper_that_cannot_start_says_why_in_one_line() -> None:
    """Exit code 1 and the variable's name."""
    variables = environment("nonsense://", "http://127.0.0.1:1")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.sweeper", cwd=ROOT, env=variables, stdout=PIPE, stderr=PIPE
    )
    out, errors = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert (process.returncode, out, errors.count(b"\n")) == (1, b"", 1)
    assert b"REDIS_URL" in errors
