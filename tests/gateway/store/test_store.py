"""Redis down, frozen, restarted, emptied or older: calls end in time, and no spend is reset."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from gateway import keys
from gateway.errors import Unavailable
from gateway.store.store import Store
from tests.gateway.store.conftest import PATIENT_MS
from tests.lateness import watched
from tests.servers import ValkeyServer

DEADLINE_MS = 100
# What the calls themselves take: 500 of them end in one turn.
SLACK_SECONDS = 0.1
KEY = "some:key"
# What was written survives a killed process without waiting for the disk.
FAST = ("--appendfsync", "no", "--enable-debug-command", "yes")


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """A Valkey of this test's own, that keeps its data."""
    with ValkeyServer(durable=True, options=FAST) as running:
        yield running


@pytest.fixture
async def store(server: ValkeyServer) -> AsyncIterator[Store]:
    """A store on it, with the deadline of production."""
    opened = await Store.open(server.url, deadline_ms=DEADLINE_MS)
    try:
        yield opened
    finally:
        await opened.close()


async def is_unavailable(store: Store) -> bool:
    try:
        await store.call("GET", KEY)
    except Unavailable:
        return True
    return False


async def closed(store: Store) -> None:
    """Wait until the store has noticed that something is wrong."""
    async with asyncio.timeout(10):
        while store.is_open:
            await asyncio.sleep(0.01)


async def opened(store: Store) -> None:
    async with asyncio.timeout(10):
        await store.opened()


async def rate(store: Store, name: str) -> int:
    wait: int = await store.run("rate", [name], [10, 60_000, "call"])
    return wait


async def test_a_frozen_redis_is_unavailable_within_the_deadline(server: ValkeyServer, store: Store) -> None:
    """The first call waits a deadline, later ones do not wait; thawed, it works again and mixes up no answers."""
    await store.call("SET", KEY, "mine")
    server.freeze()
    with capture_logs() as lines:
        async with watched() as late:
            started = time.monotonic()
            assert await is_unavailable(store)
            first = time.monotonic() - started
            assert all([await is_unavailable(store) for _ in range(200)])
            later = time.monotonic() - started - first
        server.thaw()
        await opened(store)
    assert DEADLINE_MS / 1000 <= first < DEADLINE_MS / 1000 + SLACK_SECONDS + late.seconds
    assert later < SLACK_SECONDS + late.seconds
    assert [line["event"] for line in lines] == ["store_away", "store_back"]
    assert await asyncio.gather(*(store.call("ECHO", str(number)) for number in range(100))) == [
        str(number).encode() for number in range(100)
    ]
    assert await store.call("GET", KEY) == b"mine"


async def test_all_calls_of_a_freeze_end_together(server: ValkeyServer, store: Store) -> None:
    """500 calls behind some that were answered before it froze: none waits for another's deadline."""
    await asyncio.gather(*(store.call("GET", KEY) for _ in range(200)))
    server.freeze()
    async with watched() as late:
        calls = [asyncio.ensure_future(is_unavailable(store)) for _ in range(500)]
        started = time.monotonic()
        outcomes = await asyncio.gather(*calls)
        took = time.monotonic() - started
    server.thaw()
    assert all(outcomes)
    assert took < DEADLINE_MS / 1000 + SLACK_SECONDS + late.seconds


async def test_posting_never_raises_and_never_hangs(server: ValkeyServer, store: Store) -> None:
    """With Redis frozen, down or refusing, a post returns; it arrives once Redis is back."""
    await store.post("rate", ["posted"], [10, 60_000, "a"])
    async with asyncio.timeout(5):
        while not await store.call("EXISTS", "posted"):
            await asyncio.sleep(0.01)
    server.freeze()
    started = time.monotonic()
    await asyncio.gather(*(store.post("rate", ["posted"], [10, 60_000, str(number)]) for number in range(300)))
    assert time.monotonic() - started < 1
    server.kill()
    await store.post("rate", ["posted"], [10, 60_000, "b"])
    await closed(store)
    await store.post("rate", ["posted"], [10, 60_000, "c"])


async def test_posts_are_not_dropped_for_want_of_a_connection(patient: Store) -> None:
    """A burst larger than the number of connections: a mark that is lost may be a cent that is lost."""
    await asyncio.gather(*(patient.post("rate", ["posted"], [10_000, 60_000, str(number)]) for number in range(400)))
    async with asyncio.timeout(10):
        while await patient.call("ZCARD", "posted") < 400:
            await asyncio.sleep(0.01)


async def test_a_redis_that_restarts_with_its_data_is_the_same(server: ValkeyServer, patient: Store) -> None:
    """Killed and started again: the same epoch, no operator, one line for the outage and one for its end."""
    salt = patient.salt
    await patient.call("SET", KEY, "kept")
    with capture_logs() as lines:
        server.kill()
        assert await is_unavailable(patient)
        assert await is_unavailable(patient)
        server.start()
        await opened(patient)
    assert await patient.call("GET", KEY) == b"kept"
    assert await rate(patient, "calls") == 0
    assert patient.salt == salt
    assert [line["event"] for line in lines] == ["store_away", "store_back"]


async def test_a_redis_that_restarts_between_two_calls_is_not_noticed(server: ValkeyServer, patient: Store) -> None:
    """A connection that died is made anew within the call."""
    await patient.call("SET", KEY, "kept")
    server.kill()
    server.start()
    async with asyncio.timeout(10):
        while await is_unavailable(patient):
            await asyncio.sleep(0.01)
    assert await patient.call("GET", KEY) == b"kept"


async def test_a_redis_that_came_back_empty_is_refused(server: ValkeyServer, patient: Store) -> None:
    """Every call is refused, on every process, until an operator accepts the Redis."""
    await patient.call("SET", KEY, "lost")
    other = await Store.open(server.url, deadline_ms=PATIENT_MS)
    try:
        server.kill()
        shutil.rmtree(server.folder / "appendonlydir")
        with capture_logs() as lines:
            server.start()
            await asyncio.gather(closed(patient), closed(other))
            await asyncio.sleep(0.5)
            assert await is_unavailable(patient)
            assert await is_unavailable(other)
            assert "empty" in patient.why_closed
            with pytest.raises(Unavailable):
                await patient.run("rate", ["calls"], [10, 60_000, "call"])
            assert not await patient.post("rate", ["calls"], [10, 60_000, "call"])
        assert len([line for line in lines if line["event"] == "store_refused"]) == 2
        await other.beat(accept=True)
        await asyncio.gather(opened(patient), opened(other))
        assert await patient.drained(10)
        # What was posted is kept, and arrives when Redis is one to write to.
        assert sorted(await patient.call("KEYS", "*")) == [b"calls", keys.INSTANCE.encode()]
    finally:
        await other.close()


async def test_an_emptied_redis_is_refused_at_the_next_beat(server: ValkeyServer, patient: Store) -> None:
    """FLUSHALL is found while every connection stays open."""
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    await closed(patient)
    assert await is_unavailable(patient)
    assert "empty" in patient.why_closed


@pytest.mark.parametrize("starter", [False, True], ids=["alone", "beside a process that never knew it newer"])
async def test_an_older_copy_is_refused_for_good(
    server: ValkeyServer, patient: Store, tmp_path: Path, starter: bool
) -> None:
    """Its beats pass the known number and other processes start: it stays refused until accepted."""
    await patient.call("SET", KEY, "old")
    server.kill()
    copy = tmp_path / "copy"
    shutil.copytree(server.folder / "appendonlydir", copy)
    server.start()
    await opened(patient)
    await patient.beat()
    await patient.beat()
    await patient.beat()
    known = next(iter(patient.memory.values()))[1]
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    shutil.copytree(copy, server.folder / "appendonlydir")
    server.start()
    await closed(patient)
    late = await Store.open(server.url, deadline_ms=PATIENT_MS) if starter else patient
    try:
        with redis.Redis.from_url(server.url) as client:
            async with asyncio.timeout(20):
                while int(client.hget(keys.INSTANCE, "beat") or 0) < int(known) + 3:
                    await asyncio.sleep(0.05)
        for each in {patient, late}:
            await closed(each)
            assert await is_unavailable(each)
            assert "older" in each.why_closed
        await patient.beat(accept=True)
        await asyncio.gather(opened(patient), opened(late))
        assert await patient.call("GET", KEY) == b"old"
    finally:
        await late.close()


async def test_an_acceptance_counts_once(server: ValkeyServer, patient: Store, tmp_path: Path) -> None:
    """A copy from between two acceptances was accepted too, but earlier: it is refused as any other older one."""
    await patient.beat(accept=True)
    await patient.call("SET", KEY, "10")
    server.kill()
    copy = tmp_path / "copy"
    shutil.copytree(server.folder / "appendonlydir", copy)
    server.start()
    await opened(patient)
    await patient.call("SET", KEY, "900")
    await patient.beat(accept=True)
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    shutil.copytree(copy, server.folder / "appendonlydir")
    server.start()
    await closed(patient)
    with redis.Redis.from_url(server.url) as client:
        seen = int(client.hget(keys.INSTANCE, "beat") or 0)
        async with asyncio.timeout(10):
            while int(client.hget(keys.INSTANCE, "beat") or 0) < seen + 2:
                assert await is_unavailable(patient)
                await asyncio.sleep(0)
    assert "another" in patient.why_closed
    await patient.beat(accept=True)
    await opened(patient)
    assert await patient.call("GET", KEY) == b"10"


async def test_another_redis_is_refused_by_a_process_that_remembers(server: ValkeyServer, patient: Store) -> None:
    """What a process knew outlives it in its state file."""
    memory = {key: ["another epoch", 5] for key in patient.memory}
    late = await Store.open(server.url, deadline_ms=PATIENT_MS, memory=memory)  # type: ignore[arg-type]
    try:
        await closed(late)
        assert await is_unavailable(late)
        assert not await is_unavailable(patient)
    finally:
        await late.close()


async def test_a_redis_that_is_away_at_the_start_is_met_when_it_comes(server: ValkeyServer) -> None:
    """A process starts without Redis, logs that, and works as soon as Redis is up."""
    server.stop()
    late = await Store.open(server.url, deadline_ms=DEADLINE_MS)
    try:
        assert not late.is_open
        assert await is_unavailable(late)
        server.start()
        await opened(late)
        assert not await is_unavailable(late)
    finally:
        await late.close()


async def test_a_redis_that_is_busy_for_longer_than_the_deadline_is_away_and_soon_back(
    server: ValkeyServer, store: Store
) -> None:
    """600 ms without a reply are an outage: calls fail in time, and it ends soon after."""
    loop = asyncio.get_running_loop()
    with redis.Redis.from_url(server.url) as client:
        sleeping = loop.run_in_executor(None, client.execute_command, "DEBUG", "SLEEP", "0.6")
        await asyncio.sleep(0.05)
        assert await is_unavailable(store)
        await sleeping
    await opened(store)
    assert not await is_unavailable(store)


async def test_a_busy_process_is_no_outage(store: Store) -> None:
    """Answers that waited in the socket while the loop did other work for three deadlines are taken in."""
    await asyncio.gather(*(store.call("GET", KEY) for _ in range(500)))

    async def hog() -> None:
        for _ in range(3):
            time.sleep(3 * DEADLINE_MS / 1000)  # noqa: ASYNC251 - the point
            await asyncio.sleep(0)

    with capture_logs() as lines:
        *outcomes, _ = await asyncio.gather(*(is_unavailable(store) for _ in range(500)), hog())
    assert not any(outcomes)
    assert lines == []


@pytest.mark.parametrize("setting", [("REPLICAOF", "127.0.0.1", "1"), ("CONFIG", "SET", "maxmemory", "1")])
async def test_a_server_that_may_not_write_is_away(
    server: ValkeyServer, patient: Store, setting: tuple[str, ...]
) -> None:
    """A master that became a replica (READONLY, MASTERDOWN), a full one (OOM): 503, and no bug of ours."""
    with redis.Redis.from_url(server.url) as client:
        client.execute_command(*setting)
        # A script whose first write needs memory; a script that frees memory first is executed completely.
        with pytest.raises(Unavailable):
            await patient.run("begin", ["some:attempt"], ["browser", "{}", 1000, 1000])
        undo = ("REPLICAOF", "NO", "ONE") if setting[0] == "REPLICAOF" else ("CONFIG", "SET", "maxmemory", "0")
        client.execute_command(*undo)
    await opened(patient)
    assert await rate(patient, "calls") == 0


async def test_scripts_are_sent_again_to_a_server_that_forgot_them(server: ValkeyServer, patient: Store) -> None:
    """By a call and by a post alike."""
    with redis.Redis.from_url(server.url) as client:
        assert await rate(patient, "calls") == 0
        client.script_flush()
        assert await rate(patient, "calls") == 0
        client.script_flush()
        await patient.post("rate", ["posted"], [10, 60_000, "a"])
        async with asyncio.timeout(5):
            while not await patient.call("EXISTS", "posted"):
                await asyncio.sleep(0.01)


async def test_a_script_runs_behind_what_was_posted_on_another_key(server: ValkeyServer, patient: Store) -> None:
    """Also if the post must be repeated because the server had lost its script."""
    assert patient.is_single
    shard, names = keys.open_shard(0), ["{b}:budget", "{b}:days"]
    for is_forgotten in (False, True):
        with redis.Redis.from_url(server.url) as client:
            client.delete(shard)
            if is_forgotten:
                client.script_flush()
        listed: list[object] = []
        assert patient.keep("index", [shard], ["add", "budget", 1000], listed.append)
        await patient.run("standing", names, behind=shard)
        assert listed == [1]


async def test_a_mark_is_there_though_its_sender_dies_at_once(server: ValkeyServer, patient: Store) -> None:
    """A server without the script would have answered NOSCRIPT, with no process left to load it."""
    with redis.Redis.from_url(server.url) as client:
        client.set("{b}:hold", "open" + "\n" * 14)
        end = time.monotonic() + 5
        assert await patient.post("attach", ["{b}:hold"], ["gen-1"])
        # The event loop is blocked from here on, as in a killed process.
        while b"gen-1" not in client.get("{b}:hold"):
            assert time.monotonic() < end


async def test_every_key_is_found(patient: Store) -> None:
    """For the operator's tools."""
    for number in range(700):
        await patient.call("SET", f"found:{number}", "")
    assert {key async for key in patient.each_key("found:*")} == {f"found:{number}" for number in range(700)}


async def test_each_server_tells_of_itself(patient: Store) -> None:
    """By the names of INFO; a single server needs no name of its own."""
    (told,) = await patient.about("memory")
    assert (told["name"], told["maxmemory_policy"]) == ("", "noeviction")


async def test_a_beat_that_is_refused_does_not_end_the_beating(server: ValkeyServer, patient: Store) -> None:
    """A Redis that may not run scripts for a while is away for that while, and every later outage ends too."""
    with redis.Redis.from_url(server.url) as operator:
        operator.execute_command("ACL", "SETUSER", "default", "-evalsha", "-eval")
        with pytest.raises(Unavailable):
            await patient.beat()
        assert not patient.is_open
        operator.execute_command("ACL", "SETUSER", "default", "+@all")
        async with asyncio.timeout(10):
            await patient.opened()
        seen = int(operator.hget(keys.INSTANCE, "beat") or 0)
        async with asyncio.timeout(10):
            while int(operator.hget(keys.INSTANCE, "beat") or 0) <= seen:
                await asyncio.sleep(0)
