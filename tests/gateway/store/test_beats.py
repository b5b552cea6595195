"""Each connection is checked before it carries a command, and beats continue after any failure."""

import asyncio
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from gateway import keys
from gateway.errors import Unavailable
from gateway.store.cluster import slot_of
from gateway.store.connection import pack
from gateway.store.server import Server
from gateway.store.store import Store
from tests.gateway.store.conftest import PATIENT_MS
from tests.servers import ValkeyServer

SECONDS = 15
KEY = "some:key"


def server_of(store: Store) -> Server:
    return store._routes.masters[0]


@pytest.mark.parametrize("fault", [KeyError(5), AttributeError("writelines"), OSError("no route")])
async def test_whatever_goes_wrong_on_the_way_is_an_outage_that_ends(patient: Store, fault: Exception) -> None:
    """Some faults are not of the network's own kind; beats go on all the same."""
    way: Any = server_of(patient)
    find = way.find

    async def fail() -> None:
        raise fault

    way.find = fail
    way.drop()
    with capture_logs() as lines:
        for _ in range(5):
            with pytest.raises(Unavailable):
                await patient.call("GET", KEY)
        way.find = find
        async with asyncio.timeout(SECONDS):
            await patient.opened()
    assert [line["event"] for line in lines] == ["store_away", "store_back"]
    assert await patient.call("GET", KEY) is None


async def test_no_command_is_let_out_to_a_redis_that_is_not_ours(server: ValkeyServer, patient: Store) -> None:
    """It was found out while calls and posts waited for a connection: they never leave."""
    with redis.Redis.from_url(server.url) as operator:
        operator.flushall()
        server_of(patient).drop()
        waiting = [asyncio.ensure_future(patient.call("SET", KEY, "too late")) for _ in range(20)]
        posted = asyncio.ensure_future(patient.post((slot_of(KEY), pack(("SET", KEY, "too late")), b"")))
        for call in waiting:
            with pytest.raises(Unavailable):
                await call
        assert not await posted
        for _ in range(3):
            with pytest.raises(Unavailable):
                await patient.call("SET", KEY, "too late")
        assert operator.get(KEY) is None
        await patient.beat(accept=True)
        async with asyncio.timeout(SECONDS):
            await patient.opened()
        # A post is kept until it may leave.
        assert await patient.drained(SECONDS)
        assert operator.get(KEY) == b"too late"


async def test_a_connection_that_broke_costs_no_call(server: ValkeyServer, patient: Store) -> None:
    """No log line either: pending and new calls are sent on the next connection."""
    with redis.Redis.from_url(server.url) as operator, capture_logs() as lines:
        for _ in range(10):
            calls = [asyncio.ensure_future(patient.run("rate", ["r"], [1000, 60_000, str(n)])) for n in range(50)]
            await asyncio.sleep(0)
            operator.client_kill_filter(_type="normal", skipme=True)
            await asyncio.gather(*calls, *(patient.call("GET", KEY) for _ in range(50)))
        assert operator.zcard("r") == 50
    assert lines == []


async def test_a_silent_connection_is_made_anew_without_an_outage(server: ValkeyServer) -> None:
    """Its machine may be gone; only a second silent connection is an outage."""
    store = await Store.open(server.url, deadline_ms=60_000)
    first = server_of(store).pipe
    try:
        with capture_logs() as lines:
            server.freeze()
            async with asyncio.timeout(SECONDS):
                while server_of(store).pipe is first:
                    await asyncio.sleep(0.01)
            assert lines == []
            async with asyncio.timeout(SECONDS):
                while not server_of(store).is_away:
                    await asyncio.sleep(0.01)
            server.thaw()
            async with asyncio.timeout(SECONDS):
                await store.opened()
        assert [line["event"] for line in lines] == ["store_away", "store_back"]
    finally:
        await store.close()


async def test_a_process_needs_one_place_and_takes_none_while_it_holds_one(server: ValkeyServer) -> None:
    """With every place taken it is away, and back as soon as one is free; bursts need no more than one."""
    with redis.Redis.from_url(server.url) as operator:
        store = await Store.open(server.url, deadline_ms=PATIENT_MS)
        others = [redis.Redis.from_url(server.url) for _ in range(4)]
        try:
            await asyncio.gather(*(store.run("rate", ["r"], [100, 60_000, str(number)]) for number in range(48)))
            mine = [client for client in operator.client_list() if client["name"] == "wattfare"]
            assert len(mine) == 1
            operator.config_set("maxclients", 4)
            for other in others[:2]:
                other.ping()
            with capture_logs() as lines:
                operator.client_kill_filter(_id=mine[0]["id"])
                others[2].ping()  # takes the place, or comes too late for it
                for _ in range(20):
                    operator.ping()
                    await asyncio.sleep(0.01)
                for other in others:
                    other.close()
                async with asyncio.timeout(SECONDS):
                    await store.opened()
            assert [line["event"] for line in lines] in ([], ["store_away", "store_back"])
            assert await store.call("GET", KEY) is None
        finally:
            await store.close()
            for other in others:
                other.close()


async def test_a_beat_counts_on_under_its_key(server: ValkeyServer, patient: Store) -> None:
    """About four times a second, regardless of other commands."""
    with redis.Redis.from_url(server.url) as operator:
        seen = int(operator.hget(keys.INSTANCE, "beat") or 0)
        async with asyncio.timeout(SECONDS):
            while int(operator.hget(keys.INSTANCE, "beat") or 0) < seen + 3:
                await patient.call("GET", KEY)
