"""A REDIS_URL becomes a client: one server, a Sentinel group or a Cluster."""

from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

_CONNECT_SECONDS = 2.0
# One more try meets the connection that a restarted Redis closed; more would outlast a request's deadline.
_TRIES = 1


def client(url: str) -> "Redis | RedisCluster":
    """Return a client for `url`. Schemes: redis, rediss, unix, redis+cluster, redis+sentinel (hosts/master-name)."""
    parts = urlsplit(url)
    if parts.scheme == "redis+cluster":
        return RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in _hosts(parts.netloc)],
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            socket_timeout=None,
            socket_connect_timeout=_CONNECT_SECONDS,
            protocol=2,
        )
    if parts.scheme == "redis+sentinel":
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            _hosts(parts.netloc), sentinel_kwargs={"socket_timeout": _CONNECT_SECONDS}
        )
        group: Redis = sentinel.master_for(
            parts.path.strip("/"),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            retry=Retry(NoBackoff(), _TRIES),
            socket_timeout=None,
            socket_connect_timeout=_CONNECT_SECONDS,
            protocol=2,
        )
        return group
    single: Redis = Redis.from_url(
        url,
        retry=Retry(NoBackoff(), _TRIES),
        socket_timeout=None,
        socket_connect_timeout=_CONNECT_SECONDS,
        protocol=2,
    )
    return single


def _hosts(netloc: str) -> list[tuple[str, int]]:
    hosts = netloc.rpartition("@")[2].split(",")
    return [(host.rpartition(":")[0].strip("[]"), int(host.rpartition(":")[2])) for host in hosts]
