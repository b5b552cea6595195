"""Fixtures that any test may use, and the stores they run on."""

import gc
from collections.abc import Callable, Iterator

import pytest
import redis

from tests.clusters import ValkeyCluster
from tests.servers import ValkeyServer, open_client


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--each-store` runs every test that uses a store on each kind of it, marked or not."""
    parser.addoption("--each-store", action="store_true", help="run each test that uses a store on a Cluster too")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked `each_store` (whatever moves money) on a single Valkey and on a Cluster."""
    is_asked = metafunc.config.getoption("--each-store") or metafunc.definition.get_closest_marker("each_store")
    if is_asked and "redis_url" in metafunc.fixturenames:
        metafunc.parametrize("redis_url", ["valkey", "cluster"], indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests with their own time limit first: they take longest, and all workers then end at about one time."""

    def limit_seconds(item: pytest.Item) -> float:
        marker = item.get_closest_marker("timeout")
        return float(marker.args[0]) if marker is not None else 0.0

    items.sort(key=limit_seconds, reverse=True)


def pytest_collection_finish() -> None:
    """Exempt half a million objects of modules and test items, which live to the end, from garbage collection."""
    gc.collect()
    gc.freeze()
    # Python's default of 700 ran it 3,564 times in 471 tests of requests; this runs it 1,491 times.
    gc.set_threshold(5000)


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """A real Valkey for this test process alone. Shared by its tests: leave it running; for faults, start your own."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture(scope="session")
def cluster() -> Iterator[ValkeyCluster]:
    """A real Cluster of three masters for this test process alone, shared by its tests as `valkey` is."""
    with ValkeyCluster(replicas=False) as running:
        yield running


@pytest.fixture(scope="session")
def emptied() -> Iterator[Callable[[str], None]]:
    """Empties a store by its URL, over connections that are kept: a client of a Cluster takes 13 ms of CPU to open."""
    clients: dict[str, redis.Redis | redis.RedisCluster] = {}

    def flush(url: str) -> None:
        if url not in clients:
            clients[url] = open_client(url)
        clients[url].flushall()

    yield flush
    for client in clients.values():
        client.close()


@pytest.fixture
def redis_url(request: pytest.FixtureRequest, emptied: Callable[[str], None]) -> str:
    """The URL of an empty real store: one Valkey, but for a test that is marked `each_store`."""
    url: str = request.getfixturevalue(getattr(request, "param", "valkey")).url
    emptied(url)
    return url
