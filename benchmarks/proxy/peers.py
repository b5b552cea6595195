"""LiteLLM as a further contender (`make bench-peers`), in a virtual environment of its own under .wattfare/.

It runs without a database, that is, without budgets and a ledger, so it does less than the other contenders.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmarks.proxy.checkout import HERE
from benchmarks.proxy.contender import Contender
from benchmarks.proxy.probe import ask, body_of
from benchmarks.proxy.processes import BenchFailed, family, running, wait_until_listening
from tests.servers import free_ports

if TYPE_CHECKING:
    from benchmarks.proxy.bench import Bench

VERSION = "1.106.12"
_NAME = "LiteLLM"
_KEY, _UPSTREAM_KEY = "sk-bench-litellm", "bench-litellm"
_INSTALL_SECONDS = 900
_START_SECONDS = 180
# Warm-up: it imports many modules at the first requests.
_WARM_UP = 50
_PATH = "/v1/chat/completions"


@contextlib.contextmanager
def peers(bench: "Bench") -> Iterator[list[Contender]]:
    """Yield LiteLLM's proxy if the options include it. Raises BenchFailed."""
    if not bench.options.with_peers:
        yield []
        return
    port = free_ports(1)[0]
    config, log = bench.folder / "litellm.yaml", bench.folder / "litellm.log"
    # JSON is YAML.
    config.write_text(json.dumps(_config(f"{bench.upstream.url}/api/v1")))
    command = [_installed(), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    environment = {
        "PATH": f"{HERE / '.venv/bin'}:/usr/bin:/bin",
        "HOME": str(bench.folder),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
    }
    command += ["--telemetry", "False"]
    with running(command, core=bench.cores.service, log=log, environment=environment) as process:
        wait_until_listening(port, process, log, _START_SECONDS)
        for stream in (False, True):
            for _ in range(_WARM_UP):
                ask(port, body_of(stream=stream), key=_KEY, path=_PATH)
        yield [Contender(_NAME, port, _KEY, _UPSTREAM_KEY, family(process.pid), is_exact=False, path=_PATH)]


def _config(upstream: str) -> dict[str, object]:
    route = {"model": "openai/bench/model", "api_base": upstream, "api_key": _UPSTREAM_KEY}
    return {
        "model_list": [{"model_name": "bench/model", "litellm_params": route}],
        "general_settings": {"master_key": _KEY},
        "litellm_settings": {"num_retries": 0, "request_timeout": 60},
    }


def _installed() -> str:
    """Return LiteLLM's command, installing it if needed. Raises BenchFailed."""
    place = HERE / ".wattfare" / f"litellm-{VERSION}"
    binary = place / "bin" / "litellm"
    if not binary.exists():
        print(f"installing LiteLLM {VERSION} into {place.relative_to(HERE)}", flush=True)
        python = str(place / "bin" / "python")
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:")
        for command in ((sys.executable, "-m", "venv", "--clear", str(place)), (*pip, f"litellm[proxy]=={VERSION}")):
            done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
            if done.returncode:
                raise BenchFailed(f"LiteLLM could not be installed: {done.stderr[-2000:]}")
    return str(binary)
