"""Scripts on each kind of server."""

from collections.abc import Iterator

import fakeredis
import pytest
import redis

from tests.gateway.lua.direct import Scripts


@pytest.fixture(params=["valkey", "fakeredis"])
def scripts(request: pytest.FixtureRequest) -> Iterator[Scripts]:
    """The scripts on an empty server: each test runs on a real Valkey, and the same on fakeredis."""
    if request.param == "fakeredis":
        with fakeredis.FakeRedis(server=fakeredis.FakeServer()) as fake:
            yield Scripts(fake)
    else:
        with redis.Redis.from_url(request.getfixturevalue("redis_url")) as client:
            yield Scripts(client)


@pytest.fixture
def scripts_with_exponents(redis_url: str) -> Iterator[Scripts]:
    """The scripts on a server that gives round numbers to commands with an exponent."""
    with redis.Redis.from_url(redis_url) as client:
        yield Scripts(client, prints_exponents=True)
