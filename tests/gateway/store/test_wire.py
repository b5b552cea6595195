"""One command on its way: its deadline, its place in the room, and what becomes of it when its caller leaves."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
from redis.exceptions import RedisClusterException
from structlog.testing import capture_logs

from gateway.errors import Unavailable
from gateway.store.store import Store
from gateway.store.topology import Node
from tests.clusters import ValkeyCluster
from tests.lateness import watched
from tests.servers import ValkeyServer

DEADLINE_MS = 100
SLACK_SECONDS = 0.1
SECONDS = 15
KEY = "some:key"


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """A Valkey of this test's own."""
    with ValkeyServer() as running:
        yield running


@pytest.fixture
async def store(server: ValkeyServer) -> AsyncIterator[Store]:
    """A store on it."""
    opened = await Store.open(server.url, deadline_ms=DEADLINE_MS)
    yield opened
    await opened.close()


def node_of(store: Store, key: str = KEY) -> Node:
    return store._topology.node(key)


async def room_is_whole(node: Node) -> None:
    """Take every place, which is there to be had only when nobody else has one."""
    async with asyncio.timeout(SECONDS):
        for _ in range(64):
            await node.room.acquire()
    assert node.room.locked()
    for _ in range(64):
        node.room.release()


async def test_callers_who_leave_in_a_freeze_leave_the_room_whole(server: ValkeyServer, store: Store) -> None:
    """Their calls end when the server is found away, though nobody waits for them any more."""
    await asyncio.gather(*(store.call("GET", KEY) for _ in range(100)))
    server.freeze()
    callers = [asyncio.create_task(store.call("GET", KEY)) for _ in range(64)]
    while not node_of(store).room.locked():
        await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await room_is_whole(node_of(store))
    server.thaw()
    async with asyncio.timeout(SECONDS):
        await store.opened()
    assert await store.call("GET", KEY) is None


async def test_a_post_to_a_frozen_master_is_over_within_the_deadline(cluster: ValkeyCluster) -> None:
    """Connecting and writing are within it; what nobody answered gives its place back."""
    store = await Store.open(cluster.url, deadline_ms=DEADLINE_MS)
    frozen = cluster.nodes[cluster.owner(KEY)]
    try:
        frozen.freeze()
        async with watched() as late:
            started = time.monotonic()
            await asyncio.gather(*(store.post("rate", [KEY], [1000, 60_000, str(number)]) for number in range(30)))
            took = time.monotonic() - started
        assert took < DEADLINE_MS / 1000 + SLACK_SECONDS + late.seconds
        await room_is_whole(node_of(store))
    finally:
        frozen.thaw()
        await store.close()


@pytest.mark.parametrize("fault", [KeyError(5), AttributeError("writelines"), RedisClusterException("no node")])
async def test_whatever_redis_py_raises_is_an_outage_that_ends(store: Store, fault: Exception) -> None:
    """Some of its errors are not of its own kind; beats go on all the same."""
    client: Any = node_of(store).client
    execute = client.execute_command

    async def fail(*_: object) -> None:
        raise fault

    client.execute_command = fail
    with capture_logs() as lines:
        for _ in range(5):
            with pytest.raises(Unavailable):
                await store.call("GET", KEY)
        client.execute_command = execute
        async with asyncio.timeout(SECONDS):
            await store.opened()
    assert [line["event"] for line in lines] == ["store_away", "store_back"]
    assert await store.call("GET", KEY) is None


async def test_a_call_that_waited_for_room_is_not_let_out_to_a_redis_that_is_not_ours(
    server: ValkeyServer, store: Store
) -> None:
    """It was found out while the call waited: the call never leaves."""
    node = node_of(store)
    for _ in range(64):
        await node.room.acquire()
    waiting = asyncio.create_task(store.call("SET", KEY, "too late"))
    with redis.Redis.from_url(server.url) as operator:
        operator.flushall()
        await store.beat()
        for _ in range(64):
            node.room.release()
        with pytest.raises(Unavailable):
            await waiting
        assert operator.get(KEY) is None


async def test_a_command_that_is_wrong_says_so_and_is_no_outage(store: Store) -> None:
    """The caller's own fault is the caller's to read."""
    await store.call("SET", KEY, "a string")
    with capture_logs() as lines, pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await store.call("HGETALL", KEY)
    assert lines == []
