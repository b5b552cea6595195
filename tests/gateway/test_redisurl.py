"""A REDIS_URL becomes the right client; nothing is connected by that."""

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from gateway import redisurl


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
    client = redisurl.client(url)
    assert isinstance(client, Redis)
    given = client.connection_pool.connection_kwargs
    assert {name: given[name] for name in expected} == expected
    assert given["socket_timeout"] is None
    await client.aclose()


async def test_a_server_over_tls() -> None:
    """`rediss` means TLS."""
    client = redisurl.client("rediss://h:6380")
    assert isinstance(client, Redis)
    assert client.connection_pool.connection_class.__name__ == "SSLConnection"
    await client.aclose()


async def test_a_cluster() -> None:
    """Each host of the list is a place to start from."""
    client = redisurl.client("redis+cluster://ada:p%40ss@one:7000,two:7001")
    assert isinstance(client, RedisCluster)
    assert {(node.host, node.port) for node in client.nodes_manager.startup_nodes.values()} == {
        ("one", 7000),
        ("two", 7001),
    }
    await client.aclose()


async def test_a_sentinel_group() -> None:
    """Hosts, then the master's name."""
    client = redisurl.client("redis+sentinel://:p%40ss@one:26379,[::1]:26380/mymaster")
    assert isinstance(client, Redis)
    pool = client.connection_pool
    assert pool.service_name == "mymaster"  # type: ignore[attr-defined]
    assert pool.connection_kwargs["password"] == "p@ss"
    await client.aclose()
