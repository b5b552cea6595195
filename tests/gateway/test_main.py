"""`python -m gateway`: a value that is missing or malformed is one line that names the variable."""

import socket
from pathlib import Path

import pytest

from tests.gateway.process import command, environment
from tests.servers import ValkeyServer

_REDIS = "redis://127.0.0.1:1/0"
_PRODUCTION = {"WATTFARE_ENV": "production", "WATTFARE_PUBLIC_URL": "https://api.example"}
_PRODUCTION |= {"WATTFARE_CONSENT_URL": "https://consent.example"}


@pytest.mark.parametrize(
    ("missing", "changed"),
    [
        ("REDIS_URL", {}),
        ("WATTFARE_MASTER_KEYS", {}),
        ("WATTFARE_JWT_KEYS", {}),
        ("WATTFARE_PUBLIC_URL", {}),
        ("WATTFARE_CONSENT_URL", {"WATTFARE_CONSENT_URL": "https://api.example"}),
        ("PORT", {"PORT": "many"}),
        ("WEB_CONCURRENCY", {"WEB_CONCURRENCY": "0"}),
    ],
)
async def test_it_refuses_to_start_in_one_line(tmp_path: Path, missing: str, changed: dict[str, str]) -> None:
    """Exit code 1; the variable is named, no value is repeated."""
    variables = environment(_REDIS, **_PRODUCTION)
    variables.pop(missing, None)
    code, out, errors = await command("gateway", variables={**variables, **changed}, cwd=tmp_path)
    assert (code, out) == (1, "")
    assert errors.count("\n") == 1
    assert missing in errors
    assert variables["WATTFARE_MASTER_KEYS" if missing != "WATTFARE_MASTER_KEYS" else "WATTFARE_JWT_KEYS"] not in errors


async def test_a_port_in_use_is_one_line(redis_url: str) -> None:
    """The line names the port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, _, errors = await command("gateway", variables=environment(redis_url, PORT=port))
    assert code == 1
    assert errors.count("\n") == 1
    assert port in errors


async def test_a_redis_that_may_evict_ends_the_start_in_one_line() -> None:
    """A full Redis would silently evict holds and days of spend."""
    with ValkeyServer(options=("--maxmemory-policy", "allkeys-lru")) as evicting:
        for module in ("gateway", "consent_web", "gateway.sweeper"):
            code, out, errors = await command(module, variables=environment(evicting.url))
            assert (code, out, errors.count("\n")) == (1, "", 1)
            assert errors.startswith(f"{module}: REDIS_URL names a Redis that may evict")
