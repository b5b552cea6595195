"""`python -m sandbox` prints its address, and exits with 0 on SIGTERM."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.servers import free_ports

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


def test_sigterm_exits_0_though_a_stream_is_open() -> None:
    """After it has printed its address, a signal ends it cleanly, even with an open stream."""
    [port] = free_ports(1)
    question = b'{"model":"sandbox/silent","stream":true,"messages":[{"role":"user","content":"Hello"}]}'
    headers = {"Authorization": "Bearer sk-or-v1-someone"}
    with _start(str(port)) as process:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        listener = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        with contextlib.closing(listener):
            listener.request("POST", "/api/v1/chat/completions", question, headers)
            assert listener.getresponse().readline() == b": OPENROUTER PROCESSING\n"
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_malformed_setting_is_one_line() -> None:
    """It names the variable and exits 1."""
    with _start("many") as process:
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said.count("\n")) == (1, 1)
    assert "PORT" in said
