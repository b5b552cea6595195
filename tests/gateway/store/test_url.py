"""A REDIS_URL becomes the right clients; nothing is connected by that."""

import pytest
from redis.asyncio import Redis

from gateway.store import url as redisurl
from gateway.store.topology import Cluster, One


def _client(url: str) -> Redis:
    way = redisurl.topology(url)
    assert isinstance(way, One)
    return way.node("any").client


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:7000/3", {"host": "h", "port": 7000, "db": 3}),
        ("redis://ada:p%40ss@h/0", {"username": "ada", "password": "p@ss"}),
        ("unix:///run/x.sock", {"path": "/run/x.sock"}),
    ],
)
async def test_a_single_server(url: str, expected: dict[str, object]) -> None:
    """Host, port, database, user and password, or a socket."""
    client = _client(url)
    assert isinstance(client, Redis)
    given = client.connection_pool.connection_kwargs
    assert {name: given[name] for name in expected} == expected
    assert given["socket_timeout"] is None
    await client.aclose()


async def test_a_server_over_tls() -> None:
    """`rediss` means TLS."""
    client = _client("rediss://h:6380")
    assert isinstance(client, Redis)
    assert client.connection_pool.connection_class.__name__ == "SSLConnection"
    await client.aclose()


async def test_a_cluster() -> None:
    """Each host of the list is a place to start from."""
    cluster = redisurl.topology("redis+cluster://ada:p%40ss@one:7000,two:7001")
    assert isinstance(cluster, Cluster)
    assert set(cluster.nodes) == {"one:7000", "two:7001"}
    given = cluster.masters[0].pool.connection_kwargs
    assert (given["username"], given["password"], given["socket_timeout"]) == ("ada", "p@ss", None)
    await cluster.close()


async def test_a_sentinel_group() -> None:
    """Hosts, then the master's name."""
    client = _client("redis+sentinel://:p%40ss@one:26379,[::1]:26380/mymaster")
    assert isinstance(client, Redis)
    pool = client.connection_pool
    assert pool.service_name == "mymaster"  # type: ignore[attr-defined]
    assert pool.connection_kwargs["password"] == "p@ss"
    await client.aclose()
