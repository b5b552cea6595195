"""A REDIS_URL becomes the way to its servers: one server, a Sentinel group or a Cluster."""

from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from gateway.store.topology import Cluster, One, Topology

_CONNECT_SECONDS = 2.0
# One more try meets the connection that a restarted Redis closed; more would outlast a request's deadline.
_TRIES = 1
# Sentinels are asked one after the other: a silent one must not outlast the beat that asks.
_ASKING = {"socket_timeout": 0.3, "socket_connect_timeout": 0.3, "retry": Retry(NoBackoff(), 0)}


def topology(url: str) -> Topology:
    """Return the way to `url`. Schemes: redis, rediss, unix, redis+cluster, redis+sentinel (hosts/master-name)."""
    parts = urlsplit(url)
    if parts.scheme == "redis+cluster":
        credentials = _credentials(parts)
        return Cluster(_hosts(parts.netloc), lambda host, port: Redis(host=host, port=port, **credentials, **_manner()))
    if parts.scheme == "redis+sentinel":
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            _hosts(parts.netloc), sentinel_kwargs=_ASKING
        )
        group: Redis = sentinel.master_for(parts.path.strip("/"), **_credentials(parts), **_manner())
        return One(group, sentinel.sentinels)
    single: Redis = Redis.from_url(url, **_manner())
    return One(single)


def _manner() -> dict[str, Any]:
    # No socket timeout: the store knows when a server answers nobody.
    return {
        "retry": Retry(NoBackoff(), _TRIES),
        "socket_timeout": None,
        "socket_connect_timeout": _CONNECT_SECONDS,
        "protocol": 2,
    }


def _credentials(parts: SplitResult) -> dict[str, Any]:
    return {
        "username": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
    }


def _hosts(netloc: str) -> list[tuple[str, int]]:
    hosts = netloc.rpartition("@")[2].split(",")
    return [(host.rpartition(":")[0].strip("[]"), int(host.rpartition(":")[2])) for host in hosts]
