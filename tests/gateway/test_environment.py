"""Environment variables: URLs of every kind, proxies and certificates."""

from pathlib import Path

import pytest

from tests.gateway.environments import RINGS, load, refusal
from tests.tls import Certificate


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://:p%40ss@10.0.0.1:6380/3",
        "rediss://user:pass@redis.example:6379/0?ssl_cert_reqs=required",
        "redis+cluster://127.0.0.1:7000",
        "redis+cluster://:pass@node.example:7000/",
        "redis+cluster://h:1,h:2",
        "redis+sentinel://127.0.0.1:26379/main",
        "redis+sentinel://:pass@s1:26379,s2:26379,[::1]:26379/main",
        "unix:///run/redis.sock",
        "unix://:pass@/run/redis.sock?db=2",
    ],
)
def test_each_form_of_redis_url_is_taken(url: str) -> None:
    """One server, TLS, Cluster, Sentinel, unix socket."""
    assert load(REDIS_URL=url).redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://hunter2@localhost:6379",
        "redis://",
        "redis://:hunter2@",
        "redis://localhost:hunter2",
        "redis://localhost/zero",
        "redis://:hun#ter2@localhost",
        "rediss://:hunter2@localhost?ssl_ca_certs=/nowhere",
        "redis+cluster://127.0.0.1",
        "redis+cluster://127.0.0.1:7000/1",
        "redis+sentinel://127.0.0.1:26379",
        "redis+sentinel://127.0.0.1/main",
        "redis+sentinel://127.0.0.1:26379,/main",
        "unix://",
        "unix://?db=1",
    ],
)
def test_a_malformed_redis_url_is_refused_without_repeating_it(url: str) -> None:
    """It may hold a password."""
    message = refusal({**RINGS, "REDIS_URL": url})
    assert message.startswith("REDIS_URL ")
    assert "hunter2" not in message


def test_a_redis_behind_tls_is_trusted_as_told(tmp_path: Path) -> None:
    """By a CA's file, or without a look; each is for TLS alone, and not both at once."""
    authority, broken = tmp_path / "ca.pem", tmp_path / "broken.pem"
    authority.write_text(Certificate.make().pem)
    broken.write_text("no certificate")
    tls = {**RINGS, "REDIS_URL": "rediss://redis.example"}
    trusting = load(**tls, WATTFARE_REDIS_CA_FILE=str(authority))
    assert (trusting.redis_ca_file, trusting.redis_self_signed) == (authority, False)
    assert load(**tls, WATTFARE_REDIS_SELF_SIGNED="on").redis_self_signed
    for name, value in (("WATTFARE_REDIS_CA_FILE", str(authority)), ("WATTFARE_REDIS_SELF_SIGNED", "on")):
        assert refusal({**RINGS, name: value}).startswith(f"{name} ")
        assert refusal({**RINGS, "REDIS_URL": "redis://h", name: value}).startswith(f"{name} ")
    assert refusal({**tls, "WATTFARE_REDIS_SELF_SIGNED": "perhaps"}).startswith("WATTFARE_REDIS_SELF_SIGNED ")
    for path in (broken, tmp_path / "absent"):
        assert refusal({**tls, "WATTFARE_REDIS_CA_FILE": str(path)}).startswith("WATTFARE_REDIS_CA_FILE ")
    both = {"WATTFARE_REDIS_CA_FILE": str(authority), "WATTFARE_REDIS_SELF_SIGNED": "on"}
    assert refusal({**tls, **both}).startswith("WATTFARE_REDIS_SELF_SIGNED ")


@pytest.mark.parametrize(
    ("no_proxy", "is_used"),
    [("", True), ("ai", False), ("openrouter.ai", False), (".openrouter.ai", False), ("a.test, *.ai:443", False),
     ("*", False), ("router.ai", True), ("x.openrouter.ai", True), (",", True)],
)  # fmt: skip
def test_a_proxy_stands_before_openrouter_unless_its_host_is_listed(no_proxy: str, is_used: bool) -> None:
    """HTTPS_PROXY is for https:// alone, so that the sandbox is reached as it is; NO_PROXY lists ends of host names."""
    proxy = "http://us:pass@proxy.example:3128"
    for name, no in (("HTTPS_PROXY", "NO_PROXY"), ("https_proxy", "no_proxy")):
        assert load(**{name: proxy, no: no_proxy}).upstream_proxy == (proxy if is_used else None)
    assert load(HTTPS_PROXY=proxy, OPENROUTER_BASE_URL="http://127.0.0.1:8082").upstream_proxy is None
    assert load().upstream_proxy is None
    assert "pass" not in repr(load(HTTPS_PROXY=proxy))


@pytest.mark.parametrize(
    "value", ["proxy.example:3128", "socks5://proxy.example", "https://proxy.example", "http://:3128"]
)
def test_a_proxy_that_is_none_is_refused(value: str) -> None:
    """One line that names the variable, and never the value, which may hold a password."""
    message = refusal({**RINGS, "HTTPS_PROXY": value})
    assert "HTTPS_PROXY" in message
    assert value not in message


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("https://openrouter.ai/api/v1", "https://openrouter.ai"),
        ("https://openrouter.ai/api/v1/", "https://openrouter.ai"),
        ("https://proxy.example/or/api/v1", "https://proxy.example/or"),
    ],
)
def test_the_apis_own_path_is_taken_off(given: str, base: str) -> None:
    """Clients' settings usually have OpenRouter's base URL with that path."""
    assert load(OPENROUTER_BASE_URL=given).openrouter_base_url == base


@pytest.mark.parametrize(
    "url",
    [
        "https://openrouter.ai/api",
        "https://openrouter.ai/v1",
        "https://www.openrouter.ai/docs",
        "https://proxy.example/api",
        "https://proxy.example/v1",
    ],
)
def test_a_path_that_openrouter_does_not_have_is_refused(url: str) -> None:
    """Each request would be a 404 there, and the first payer would find out."""
    assert refusal({**RINGS, "OPENROUTER_BASE_URL": url}).startswith("OPENROUTER_BASE_URL has a path")


def test_variables_may_stand_in_a_file(tmp_path: Path) -> None:
    """Where a running process can read them anew; with comments, quotes and `export`, as shells write them."""
    path = tmp_path / "env"
    path.write_text("# ours\n\nexport PORT='9'\nHOST=\"::\"\n")
    settings = load(WATTFARE_ENV_FILE=str(path), WEB_CONCURRENCY="3")
    assert (settings.port, settings.host, settings.workers) == (9, "::", 3)


@pytest.mark.parametrize("text", ["PORT", "PO RT=1", "PORT=1\nPORT=2", "WATTFARE_JWT_KEYS=hunter2"])
def test_a_file_that_says_it_twice_or_not_at_all_is_refused(tmp_path: Path, text: str) -> None:
    """What counts would be a guess; no value is repeated."""
    path = tmp_path / "env"
    path.write_text(text)
    message = refusal({**RINGS, "WATTFARE_ENV_FILE": str(path)})
    assert "WATTFARE_ENV_FILE" in message
    assert "hunter2" not in message
    assert refusal({**RINGS, "WATTFARE_ENV_FILE": str(tmp_path / "none")}).startswith("WATTFARE_ENV_FILE names a file")
