"""`python -m sandbox` says where it listens, and SIGTERM ends it with 0."""

import os
import signal
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def _start(port: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sandbox"],
        cwd=_ROOT,
        env={**os.environ, "HOST": "127.0.0.1", "PORT": port},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_sigterm_exits_0() -> None:
    """Once it has said its address, a signal ends it cleanly."""
    with _start("0") as process:
        assert process.stdout is not None
        assert "http://127.0.0.1:" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_malformed_setting_is_one_line() -> None:
    """It names the variable and exits 1."""
    with _start("many") as process:
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said.count("\n")) == (1, 1)
    assert "PORT" in said
