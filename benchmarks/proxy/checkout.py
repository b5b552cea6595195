"""The gateway of a checkout, run as in production: metering, holds, ledger and logs (to a file) on.

Everything of it runs as a command in that checkout and by its own interpreter, so that versions can be compared.
"""

import base64
import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.proxy.contender import Contender
from benchmarks.proxy.processes import BenchFailed, Cores, family, on_core, running, wait_until_listening
from benchmarks.proxy.stand_in import COST_NANO, StandIn
from tests.servers import ValkeyServer, free_ports

HERE = Path(__file__).parents[2]
_SEED = Path(__file__).with_name("seed.py")
# Persistence as in the embedded server, without rewrites, which would be counted as the cost of some requests.
REDIS_OPTIONS = ("--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0")
# Redis shares its core with the load here and may be late, so the deadline is longer than production's 75 ms.
_REDIS_DEADLINE_MS = 5000
_COMMAND_SECONDS = 900
_START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Installation:
    """One checkout with its own Redis, an app and connected users."""

    name: str
    root: Path
    folder: Path
    store: ValkeyServer
    upstream: StandIn
    cores: Cores
    environment: Mapping[str, str]
    app_id: str
    secret_key: str
    funding_key: str

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, name: str, root: Path, *, users: int, folder: Path, upstream: StandIn, cores: Cores
    ) -> Iterator["Installation"]:
        """Yield an installation whose users u0 … are connected."""
        with contextlib.ExitStack() as stack:
            with on_core(cores.other):
                store = stack.enter_context(ValkeyServer(tcp=True, options=REDIS_OPTIONS))
            environment = _environment(store, upstream)
            command = ["-m", "scripts.create_app", "--name", "Bench", "--origin", "https://app.example"]
            app = _command(root, environment, *command)
            key = f"sk-or-v1-{name.replace(' ', '-')}-{secrets.token_hex(4)}"
            made = cls(name, root, folder, store, upstream, cores, environment, app["appId"], app["secretKey"], key)
            made.connect(users)
            yield made

    def connect(self, users: int, *, first: int = 0) -> None:
        """Connect the users u`first` … u`users` - 1."""
        numbers = ("--first", str(first), "--users", str(users))
        keys = ("--app", self.app_id, "--openrouter-key", self.funding_key)
        # On the service's core, which is idle meanwhile; Redis is busy on the other one.
        with on_core(self.cores.service):
            _command(self.root, self.environment, "-P", str(_SEED), *keys, *numbers)

    @contextlib.contextmanager
    def gateway(self, *, workers: int = 1, tls: bool = False) -> Iterator[Contender]:
        """Yield its running gateway. `tls`: use TLS to upstream."""
        port = free_ports(1)[0]
        log = self.folder / f"{self.name}-{port}.log"
        environment = {**self.environment, "PORT": str(port), "WEB_CONCURRENCY": str(workers)}
        if tls:
            environment |= {
                "OPENROUTER_BASE_URL": self.upstream.tls_url,
                "SSL_CERT_FILE": str(self.upstream.certificate),
            }
        command = [_python(self.root), "-m", "gateway"]
        with running(command, core=self.cores.service, log=log, cwd=self.root, environment=environment) as process:
            wait_until_listening(port, process, log)
            _wait_for_workers(log, workers)
            yield Contender(
                name=self.name,
                port=port,
                key=self.secret_key,
                upstream_key=self.funding_key,
                pids=family(process.pid),
                redis_pids=[self.store.pid],
                check=self.check,
            )

    def check(self) -> None:
        """Recompute every balance, and compare the booked cost with upstream's count. Raises BenchFailed."""
        found = _command(self.root, self.environment, "-m", "scripts.verify", may_fail=True)
        served = self.upstream.served(self.funding_key)
        booked = round(float(found["spent_usd"]) * 1e9)
        if not found["ok"] or found["open_holds"] or found["entries"] != served or booked != served * COST_NANO:
            summary = {name: value for name, value in found.items() if name != "differences"}
            raise BenchFailed(
                f"{self.name}: upstream served {served} for {served * COST_NANO} nano-USD, verify: {summary}"
            )


def _wait_for_workers(log: Path, workers: int) -> None:
    """Wait until each worker has logged that it listens; a probe of the shared port would prove only one."""
    give_up = time.monotonic() + _START_SECONDS
    while log.read_text().count('"listening"') < workers:
        if time.monotonic() > give_up:
            raise BenchFailed(f"not all of {workers} workers listen: {log.read_text()[-2000:]}")
        time.sleep(0.05)


def _environment(store: ValkeyServer, upstream: StandIn) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", ""),
        "WATTFARE_ENV": "production",
        "WATTFARE_PUBLIC_URL": "https://gateway.example",
        "WATTFARE_CONSENT_URL": "https://consent.example",
        "WATTFARE_MASTER_KEYS": _ring(),
        "WATTFARE_JWT_KEYS": _ring(),
        "WATTFARE_LOG_LEVEL": "info",
        "WATTFARE_DRAIN_SECONDS": "5",
        "WATTFARE_REDIS_DEADLINE_MS": str(_REDIS_DEADLINE_MS),
        "REDIS_URL": store.tcp_url,
        "OPENROUTER_BASE_URL": upstream.url,
    }


def _ring() -> str:
    return f"k1:{base64.b64encode(secrets.token_bytes(32)).decode()}"


def _python(root: Path) -> str:
    own = root / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def _command(root: Path, environment: Mapping[str, str], *words: str, may_fail: bool = False) -> dict[str, Any]:
    """Run a command of a checkout; return its JSON answer. Raises BenchFailed."""
    # The folder comes first: the virtual environment's path file may name another checkout.
    done = subprocess.run(
        [_python(root), *words, "--json"],
        cwd=root,
        env={**environment, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS,
        check=False,
    )
    if not done.stdout or (done.returncode and not may_fail):
        raise BenchFailed(f"{' '.join(words[:2])} in {root}: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
