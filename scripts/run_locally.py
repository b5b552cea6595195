"""`make run`: runs gateway, consent site, sandbox, demo and an embedded store locally, then prints their addresses.

Rule: the addresses are printed only when all of them answer.
"""

import errno
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from types import FrameType

from gateway.environment import SettingsError
from scripts.settings import ROOT, RunSettings
from scripts.shared_run import publish_run

# The path of each service that tells whether it is ready.
_PAGES = {"GATEWAY_PORT": "/readyz", "CONSENT_PORT": "/readyz", "SANDBOX_PORT": "/api/v1/models", "DEMO_PORT": "/"}
_NAMES = {"GATEWAY_PORT": "gateway", "CONSENT_PORT": "consent site", "SANDBOX_PORT": "sandbox", "DEMO_PORT": "demo app"}
_POLL_SECONDS = 0.1
_ASK_SECONDS = 2.0


def main() -> int:
    """Start everything and wait until it ends; return the exit code. A taken port prints one line and returns 1."""
    try:
        settings = RunSettings.load(is_terminal=sys.stdout.isatty())
        taken = [name for name, port in settings.ports.items() if _is_taken(port)]
        if taken:
            raise SettingsError(" ".join(_taken_message(name, settings.ports[name]) for name in taken))
        with publish_run(settings.data_dir, settings.environ):
            return _run(settings)
    except (SettingsError, OSError) as refused:
        print(f"run: {refused}", file=sys.stderr)
        return 1


def _run(settings: RunSettings) -> int:
    print(f"Starting Wattfare; its data lies in {settings.data_dir}. Ctrl-C ends it.", flush=True)
    command = [sys.executable, "-m", "honcho", "-f", "Procfile.dev", "start"]
    environ = {**settings.environ, "PATH": f"{sys.prefix}/bin:{settings.environ.get('PATH', '')}"}
    with subprocess.Popen(command, cwd=ROOT, env=environ) as running:
        received = []

        def forward(number: int, _: FrameType | None) -> None:
            received.append(number)
            # A terminal's Ctrl-C already reaches every process.
            if number == signal.SIGTERM:
                running.terminate()

        signal.signal(signal.SIGTERM, forward)
        signal.signal(signal.SIGINT, forward)
        waiting = dict(settings.ports)
        while waiting and running.poll() is None:
            waiting = {name: port for name, port in waiting.items() if not _answers(name, port)}
            time.sleep(_POLL_SECONDS)
        if not waiting:
            print(_addresses(settings), flush=True)
        code = running.wait()
    return 0 if received else code


def _addresses(settings: RunSettings) -> str:
    url = {name: f"http://127.0.0.1:{port}" for name, port in settings.ports.items()}
    base = settings.environ["OPENROUTER_BASE_URL"]
    is_free = base == url["SANDBOX_PORT"]
    sandbox = "stands in for OpenRouter: nothing costs anything" if is_free else f"unused: calls go to {base}"
    lines = [
        "",
        f"  start here    {url['GATEWAY_PORT']}   (the gateway; its page links to all of this)",
        f"  demo app      {url['DEMO_PORT']}   (connect a budget, then chat)",
        f"  consent site  {url['CONSENT_PORT']}   (popup and dashboard)",
        f"  sandbox       {url['SANDBOX_PORT']}   ({sandbox})",
        "",
        '  Next, in another terminal: make create-app ARGS="--name Acme --origin http://127.0.0.1:3000"',
        "",
    ]
    return "\n".join(lines)


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        # As the services do: permits a port that recently closed connections still occupy in TIME_WAIT.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as refused:
            if refused.errno in (errno.EADDRINUSE, errno.EACCES):
                return True
            raise
    return False


def _taken_message(name: str, port: int) -> str:
    other = port + 10_000 if port < 50_000 else port - 10_000
    return f"Port {port} for the {_NAMES[name]} is taken; choose another: make run {name}={other}."


def _answers(name: str, port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{_PAGES[name]}", timeout=_ASK_SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


if __name__ == "__main__":
    sys.exit(main())
