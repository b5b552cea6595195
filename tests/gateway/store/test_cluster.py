"""A Redis Cluster and the store: masters that freeze, die, join and are replaced, and migrating slots."""

import asyncio
import contextlib
import gc
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.errors import Unavailable
from gateway.store.connection import CLIENT_NAME
from gateway.store.store import Store
from tests.clusters import ValkeyCluster, ask
from tests.lateness import watched

DEADLINE_MS = 100
SLACK_SECONDS = 0.1
PATIENT_MS = 1000
SECONDS = 15


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Report an unclosed connection in this test rather than in the next one."""
    yield
    gc.collect()


# A master without slots remains a master.
_OPTIONS = ("--cluster-allow-replica-migration", "no")


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    """Three masters, later more: each test leaves every slot on a live master."""
    with ValkeyCluster(replicas=False, options=_OPTIONS) as running:
        yield running


@pytest.fixture
def mortal() -> Iterator[ValkeyCluster]:
    """Three masters for a test that kills them; they keep their data."""
    with ValkeyCluster(replicas=False, durable=True) as running:
        yield running


@pytest.fixture(scope="module")
def six_nodes() -> Iterator[ValkeyCluster]:
    """Three masters, each with a replica, in whichever roles the last test left them."""
    with ValkeyCluster() as running:
        yield running


@pytest.fixture
def replicated(six_nodes: ValkeyCluster) -> ValkeyCluster:
    """Three masters, each with a replica, in the roles they began with."""
    six_nodes.restore_roles()
    return six_nodes


@pytest.fixture
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """A store on whichever of them the test uses, with the deadline of production."""
    [name] = {"cluster", "mortal", "replicated"} & set(request.fixturenames)
    opened = await Store.open(request.getfixturevalue(name).url, deadline_ms=DEADLINE_MS)
    yield opened
    await opened.close()


def key_of(cluster: ValkeyCluster, master: int) -> str:
    return next(f"k{number}" for number in range(1000) if cluster.owner(f"k{number}") == master)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.01)


async def is_answered(store: Store, key: str) -> bool:
    try:
        await store.call("GET", key)
    except Unavailable:
        return False
    return True


async def answered(store: Store, *keys: str) -> None:
    async with asyncio.timeout(SECONDS):
        while not all([await is_answered(store, key) for key in keys]):
            await asyncio.sleep(0.01)


async def test_masters_that_all_die_and_come_back_are_met_again(mortal: ValkeyCluster, store: Store) -> None:
    """Every call meanwhile is unavailable at once, and nothing else; one line for each master's outage and its end."""
    keys = [key_of(mortal, number) for number in range(3)]
    for key in keys:
        await store.call("SET", key, "kept")
    with capture_logs() as lines:
        for node in mortal.nodes:
            node.kill()
        for _ in range(20):
            assert not any([await is_answered(store, key) for key in keys])
            await asyncio.sleep(0.01)
        # Missing information leaves the state unchanged.
        await store._routes.learn()
        assert len(store._routes.masters) == 3
        await asyncio.gather(*(asyncio.to_thread(node.start) for node in mortal.nodes))
        await answered(store, *keys)
        async with asyncio.timeout(SECONDS):
            await store.opened()
    assert sorted(line["event"] for line in lines) == ["store_away"] * 3 + ["store_back"] * 3
    assert len({line["server"] for line in lines}) == 3
    assert [await store.call("GET", key) for key in keys] == [b"kept"] * 3


async def test_a_cluster_that_is_away_at_the_start_is_met_when_it_comes(mortal: ValkeyCluster) -> None:
    """Also if the first of several hosts never comes up."""
    for node in mortal.nodes:
        node.kill()
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in mortal.nodes)
    late = await Store.open(f"redis+cluster://{hosts}", deadline_ms=DEADLINE_MS)
    try:
        assert not await is_answered(late, "k")
        await asyncio.gather(*(asyncio.to_thread(node.start) for node in mortal.nodes))
        async with asyncio.timeout(SECONDS):
            await late.opened()
        await answered(late, *(key_of(mortal, number) for number in range(3)))
    finally:
        await late.close()


async def test_a_frozen_replica_is_no_matter(replicated: ValkeyCluster, store: Store) -> None:
    """Not even if connections to the masters break and the topology is read again."""
    keys = [key_of(replicated, number) for number in range(3)]
    replicated.nodes[3].freeze()
    with capture_logs() as lines:
        for _ in range(5):
            for node in replicated.nodes[:3]:
                await asyncio.to_thread(ask, node, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert all([await is_answered(store, key) for key in keys])
            await store._routes.learn()
    assert lines == []
    replicated.nodes[3].thaw()
    await until(replicated.is_whole)


async def test_a_frozen_master_is_followed_to_its_replica_and_hurts_no_other(
    replicated: ValkeyCluster, store: Store
) -> None:
    """Its own users wait no longer than the deadline each; it is no longer away once another serves in its place."""
    keys = [key_of(replicated, number) for number in range(3)]
    for key in keys:
        await store.call("SET", key, "kept")
        await until(lambda: all("lag=0" in ask(node, "INFO", "replication") for node in replicated.nodes[:3]))
    with capture_logs() as lines:
        replicated.nodes[1].freeze()
        async with watched() as late:
            started = time.monotonic()
            assert not await is_answered(store, keys[1])
            took = time.monotonic() - started
        assert took < DEADLINE_MS / 1000 + SLACK_SECONDS + late.seconds
        await answered(store, *keys)
        async with asyncio.timeout(SECONDS):
            await store.opened()
    mine = [line["event"] for line in lines if line["server"] == f"127.0.0.1:{replicated.nodes[1].port}"]
    assert mine == ["store_away", "store_back"]
    replicated.nodes[1].thaw()
    assert [await store.call("GET", key) for key in keys] == [b"kept"] * 3


async def test_a_new_master_is_met_while_a_slot_is_on_its_way_to_it(cluster: ValkeyCluster, store: Store) -> None:
    """ASK names an unknown node; the node gets its own beat once it has a slot."""
    key = store._routes.beat_keys[0]
    await store.call("SET", f"{{{key}}}", "with it")
    fourth = await asyncio.to_thread(cluster.join)
    beaten = await store.call("HGET", key, "beat")
    cluster.begin_move(key, fourth)
    cluster.carry(key, fourth, key, f"{{{key}}}")
    assert int(await store.call("HGET", key, "beat")) >= int(beaten)
    assert await store.call("GET", f"{{{key}}}") == b"with it"
    await store.beat()
    cluster.end_move(key, fourth)
    await store.beat()
    assert store.is_open
    assert await store.call("GET", f"{{{key}}}") == b"with it"


async def test_a_master_with_no_numbered_key_is_lost_and_found_like_any(cluster: ValkeyCluster, store: Store) -> None:
    """One slot is all it has: it is beaten on a key in that slot, the same one for every process."""
    fourth = await asyncio.to_thread(cluster.join)
    await asyncio.to_thread(cluster.move, "user", fourth)
    await store.call("SET", "user", "kept")
    await store.beat()
    other = await Store.open(cluster.url, deadline_ms=PATIENT_MS)
    try:
        assert set(other.memory) == set(store.memory)
        assert len(store.memory) == len(store._routes.beat_keys) + 1
    finally:
        await other.close()
    cluster.nodes[fourth].freeze()
    assert not await is_answered(store, "user")
    assert not store.is_open
    cluster.nodes[fourth].thaw()
    async with asyncio.timeout(SECONDS):
        await store.opened()
    assert await store.call("GET", "user") == b"kept"


async def test_an_open_slot_hurts_nobody_else_and_is_no_outage(cluster: ValkeyCluster, store: Store) -> None:
    """A script whose keys are on two masters is unavailable meanwhile; a single key is read from its new node."""
    there = (cluster.owner("{open}a") + 1) % 3
    near = next(f"k{number}" for number in range(1000) if cluster.owner(f"k{number}") == cluster.owner("{open}a"))
    for name in ("{open}a", "{open}b", near):
        await store.call("SET", name, "kept")
    cluster.begin_move("{open}a", there)
    cluster.carry("{open}a", there, "{open}a")
    with capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(Unavailable):
                await store.call("MGET", "{open}a", "{open}b")
            # Many in one write: ASKING holds for the one command behind it.
            found = await asyncio.gather(*(store.call("GET", name) for name in ("{open}a", "{open}b", near) * 20))
            assert found == [b"kept"] * 60
        cluster.carry("{open}a", there, "{open}b")
        cluster.end_move("{open}a", there)
        assert await store.call("MGET", "{open}a", "{open}b") == [b"kept", b"kept"]
    assert lines == []


async def test_a_slot_that_nobody_holds_is_refused_alone(store: Store, cluster: ValkeyCluster) -> None:
    """The masters answer CLUSTERDOWN for it, which is not an outage of the masters."""
    for node in cluster.nodes:
        ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "no")
    orphan, near = key_of(cluster, 1), next(k for k in map("n{}".format, range(1000)) if cluster.owner(k) == 1)
    slot = ask(cluster.nodes[0], "CLUSTER", "KEYSLOT", orphan)
    for node in cluster.nodes:
        ask(node, "CLUSTER", "DELSLOTS", slot)
    with capture_logs() as lines:
        for _ in range(10):
            assert not await is_answered(store, orphan)
            assert await is_answered(store, near)
    assert lines == []
    await asyncio.to_thread(ask, cluster.nodes[1], "CLUSTER", "ADDSLOTS", slot)
    for node in cluster.nodes:
        ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "yes")
    await until(lambda: all("cluster_state:ok" in ask(node, "CLUSTER", "INFO") for node in cluster.nodes))


async def test_a_node_that_left_takes_its_connections_along(cluster: ValkeyCluster, store: Store) -> None:
    """A removed node gets no commands, and its connections are closed."""
    fourth = await asyncio.to_thread(cluster.join)
    await asyncio.to_thread(cluster.move, "user", fourth)
    await asyncio.gather(*(store.call("GET", "user") for _ in range(20)))
    assert f"name={CLIENT_NAME}" in ask(cluster.nodes[fourth], "CLIENT", "LIST")
    await asyncio.to_thread(cluster.move, "user", 0)
    for node in cluster.nodes[:fourth]:
        ask(node, "CLUSTER", "FORGET", cluster.name(cluster.nodes[fourth]))
    assert await is_answered(store, "user")
    await store._routes.learn()
    assert f"127.0.0.1:{cluster.nodes[fourth].port}" not in [server.name for server in store._routes.servers]
    await until(lambda: f"name={CLIENT_NAME}" not in ask(cluster.nodes[fourth], "CLIENT", "LIST"))


async def copied(cluster: ValkeyCluster, number: int, folder: Path) -> None:
    """Keep a copy of what one master holds now."""
    node = cluster.nodes[number]
    node.kill()
    shutil.copytree(node.folder / "appendonlydir", folder)
    await asyncio.to_thread(node.start)


async def swapped(cluster: ValkeyCluster, number: int, folder: Path | None) -> None:
    """Kill one master and start it with a copy, or with nothing."""
    node = cluster.nodes[number]
    node.kill()
    shutil.rmtree(node.folder / "appendonlydir")
    if folder is not None:
        shutil.copytree(folder, node.folder / "appendonlydir")
    await asyncio.to_thread(node.start)


@pytest.mark.parametrize("left", ["a copy", "nothing"])
async def test_one_master_that_came_back_older_or_empty_closes_the_store(
    mortal: ValkeyCluster, store: Store, tmp_path: Path, left: str
) -> None:
    """No call is answered by it, nor by another, from its return until the operator accepts it; then by all."""
    keys = [key_of(mortal, number) for number in range(3)]
    await store.call("SET", keys[1], "old")
    folder = tmp_path / "copy"
    await copied(mortal, 1, folder)
    await answered(store, *keys)
    await store.call("SET", keys[1], "new")
    await store.beat()
    await store.beat()
    found: list[bytes] = []

    async def call() -> None:
        while True:
            with contextlib.suppress(Unavailable):
                found.append(await store.call("GET", keys[1]))
            await asyncio.sleep(0)

    node = mortal.nodes[1]
    node.freeze()
    assert not await is_answered(store, keys[1])
    calling = asyncio.create_task(call())
    await swapped(mortal, 1, folder if left == "a copy" else None)
    word = "older" if left == "a copy" else "empty"
    async with asyncio.timeout(SECONDS):
        while word not in store.why_closed:
            await asyncio.sleep(0.01)
    assert not any([await is_answered(store, key) for key in keys])
    # Nor by a process that starts now and never knew it.
    other = await Store.open(mortal.url, deadline_ms=PATIENT_MS)
    try:
        assert word in other.why_closed
        async with asyncio.timeout(SECONDS):
            while not all("cluster_state:ok" in ask(each, "CLUSTER", "INFO") for each in mortal.nodes):
                await asyncio.sleep(0.01)
        calling.cancel()
        assert found == []
        await other.beat(accept=True)
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(store.opened(), other.opened())
    finally:
        await other.close()
    assert await store.call("GET", keys[1]) == (b"old" if left == "a copy" else None)
