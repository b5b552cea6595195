"""Fixtures that any test may use."""

from collections.abc import Iterator

import pytest
import redis

from tests.servers import ValkeyServer


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """A real Valkey for this test process alone. Shared by its tests: leave it running; for faults, start your own."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def redis_url(valkey: ValkeyServer) -> str:
    """The URL of an empty real Valkey."""
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    return valkey.url
