"""Parsing of REDIS_URL."""

import ssl

import pytest

from gateway import redis_url
from gateway.redis_url import RedisUrl


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:7000/3", RedisUrl("single", (("h", 7000),), db=3)),
        ("redis://h", RedisUrl("single", (("h", 6379),))),
        ("redis://h/?db=2", RedisUrl("single", (("h", 6379),), db=2)),
        ("redis://ada:p%40ss@h/0", RedisUrl("single", (("h", 6379),), username="ada", password="p@ss")),
        ("redis://:pass@[::1]:7000", RedisUrl("single", (("::1", 7000),), password="pass")),
        ("unix:///run/x.sock", RedisUrl("single", (), "/run/x.sock")),
        ("unix://:pass@/run/x.sock?db=2", RedisUrl("single", (), "/run/x.sock", password="pass", db=2)),
        ("rediss://h:6380", RedisUrl("single", (("h", 6380),), is_tls=True)),
        ("rediss://h?ssl_cert_reqs=none", RedisUrl("single", (("h", 6379),), is_tls=True, is_self_signed=True)),
        ("rediss://h?ssl_ca_certs=/ca.pem", RedisUrl("single", (("h", 6379),), is_tls=True, ca_file="/ca.pem")),
        ("redis+cluster://h:1,h:2", RedisUrl("cluster", (("h", 1), ("h", 2)))),
        (
            "rediss+cluster://ada:p%40ss@one:7000,two:7001/",
            RedisUrl("cluster", (("one", 7000), ("two", 7001)), username="ada", password="p@ss", is_tls=True),
        ),
        (
            "redis+sentinel://:p%40ss@one:26379,[::1]:26380/mymaster",
            RedisUrl("sentinel", (("one", 26379), ("::1", 26380)), password="p@ss", master_name="mymaster"),
        ),
    ],
)
def test_each_form_is_read(url: str, expected: RedisUrl) -> None:
    """Hosts and ports, database, user and password, a socket, a Cluster's nodes, a group's Sentinels."""
    assert redis_url.parse(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:",
        "redis://one,two",
        "redis://h/1/2",
        "redis://h?what=1",
        "rediss://h?ssl_cert_reqs=perhaps",
        "redis+cluster://h:1,h",
        "redis+cluster://h:1,",
        "redis+cluster://h:1/1",
        "redis+sentinel://h:1/",
        "redis://[::1",
        "redis://a b",
    ],
)
def test_what_is_malformed_is_refused(url: str) -> None:
    """And not repeated, because it may hold a password."""
    with pytest.raises(ValueError) as refused:
        redis_url.parse(url.replace("://", "://:hunter2@"))
    assert "hunter2" not in str(refused.value)


def test_tls_asks_who_the_server_is_unless_told_otherwise() -> None:
    """A self-signed certificate needs an explicit option: encrypted, but not verified."""
    assert redis_url.parse("redis://h").tls() is None
    strict, lax = redis_url.parse("rediss://h").tls(), redis_url.parse("rediss://h?ssl_cert_reqs=none").tls()
    assert strict is not None
    assert lax is not None
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_NONE, False)


def test_no_password_is_shown() -> None:
    """Not even in a traceback."""
    assert "hunter2" not in repr(redis_url.parse("redis://:hunter2@h"))
