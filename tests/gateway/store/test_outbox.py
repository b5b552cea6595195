"""What was posted is kept, repeated and kept in order, whatever happens to connections, scripts and slots."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from gateway.errors import Unavailable
from gateway.store import outbox
from gateway.store.cluster import slot_of
from gateway.store.connection import pack
from gateway.store.scripts import Call, Script
from gateway.store.store import Store
from tests.clusters import ValkeyCluster, ask
from tests.servers import ValkeyServer

PATIENT_MS = 2000
SECONDS = 20
# Notes each argument once, in the order of their first coming; a repeat changes nothing.
NOTE = """
if redis.call('SADD', KEYS[2], ARGV[1]) == 1 then redis.call('RPUSH', KEYS[1], ARGV[1]) end
return redis.call('LLEN', KEYS[1])
"""
# Returns what was noted.
READ = "return redis.call('LRANGE', KEYS[1], 0, -1)"


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """A Valkey of this test's own, that keeps its data."""
    with ValkeyServer(durable=True) as running:
        yield running


@pytest.fixture
async def store(server: ValkeyServer) -> AsyncIterator[Store]:
    """A store on it."""
    async with opened(server.url) as store:
        yield store


@contextlib.asynccontextmanager
async def opened(url: str, deadline_ms: int = PATIENT_MS) -> AsyncIterator[Store]:
    """A store with the two scripts of this file, from its next connection on."""
    store = await Store.open(url, deadline_ms=deadline_ms)
    for name, text in (("note", NOTE), ("read", READ)):
        sha = await store.call("SCRIPT", "LOAD", text)
        store._scripts[name] = Script(text, sha.decode(), pack(("SCRIPT", "LOAD", text)))
    try:
        yield store
    finally:
        await store.close()


def command(name: str, key: str, *words: str) -> Call:
    """A command without a script."""
    return slot_of(key), pack((name, key, *words)), b""


def note(store: Store, budget: str, number: int, **more: Any) -> "asyncio.Future[bool]":
    """Post one note of a budget."""
    return asyncio.ensure_future(store.post("note", [f"{{{budget}}}", f"{{{budget}}}:seen"], [number], **more))


async def noted(store: Store, budget: str) -> list[int]:
    return [int(number) for number in await store.run("read", [f"{{{budget}}}"])]


async def test_a_run_sees_what_was_posted_before_it(store: Store) -> None:
    """Without waiting in between; each post's reply is delivered once."""
    replies: list[int] = []
    posts = [note(store, "b", number, on_reply=replies.append) for number in range(50)]
    await asyncio.sleep(0)
    assert await noted(store, "b") == list(range(50))
    assert all(await asyncio.gather(*posts))
    assert replies == list(range(1, 51))
    assert (store.pending, await store.drained(0)) == (0, True)


async def test_order_outlives_a_killed_connection(server: ValkeyServer, store: Store) -> None:
    """Unacknowledged posts are repeated before later ones, and a run follows all of them."""
    with redis.Redis.from_url(server.url) as operator:
        for round_ in range(20):
            budget = f"b{round_}"
            posts = [note(store, budget, number) for number in range(100)]
            await asyncio.sleep(0)
            operator.client_kill_filter(_type="normal", skipme=True)
            for number in range(100, 200):
                posts.append(note(store, budget, number))
                await asyncio.sleep(0)
            assert await noted(store, budget) == list(range(200))
            await asyncio.gather(*posts)
    assert await store.drained(SECONDS)


async def test_what_was_posted_in_an_outage_arrives_after_it_in_order(server: ValkeyServer, store: Store) -> None:
    """The post reports that it was not sent; a later run still sees its effect."""
    assert await note(store, "b", 0)
    server.kill()
    with pytest.raises(Unavailable):
        await store.call("GET", "k")
    assert not any([await note(store, budget, number) for number in range(1, 30) for budget in ("b", "c")])
    assert not await store.drained(0.01)
    server.start()
    async with asyncio.timeout(SECONDS):
        await store.opened()
    assert await noted(store, "b") == list(range(30))
    assert await noted(store, "c") == list(range(1, 30))
    assert await store.drained(SECONDS)
    assert await note(store, "b", 30)


async def test_a_post_that_is_sent_in_the_turn_it_had_to_wait_is_sent(store: Store) -> None:
    """Its server opens before the loop's next turn, when a task that waits for it would begin."""
    [server] = store._routes.masters
    told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    server.is_open = False
    store.post_then(store.packed("note", ["{b}", "{b}:seen"], [1]), told.set_result)
    server.is_open = True
    store._outbox.go_on()
    assert await told
    assert await noted(store, "b") == [1]


async def test_a_frozen_redis_answers_late_and_nothing_is_lost(server: ValkeyServer) -> None:
    """Posts in the socket are acknowledged after the freeze; later ones follow."""
    async with opened(server.url, deadline_ms=100) as store:
        server.freeze()
        assert await note(store, "b", 0)
        with capture_logs():
            for number in range(1, 10):
                with pytest.raises(Unavailable):
                    await store.call("GET", "k")
                assert not await note(store, "b", number)
            server.thaw()
            async with asyncio.timeout(SECONDS):
                await store.opened()
        assert await noted(store, "b") == list(range(10))
        assert await store.drained(SECONDS)


async def test_order_outlives_scripts_that_were_forgotten(server: ValkeyServer, store: Store) -> None:
    """Some posts get NOSCRIPT; posts of a known script must not overtake them."""
    with redis.Redis.from_url(server.url) as operator:
        for round_ in range(20):
            budget = f"b{round_}"
            operator.script_flush()
            posts = [note(store, budget, number) for number in range(20)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            posts += [note(store, budget, number) for number in range(20, 40)]
            assert await noted(store, budget) == list(range(40))
            assert all(await asyncio.gather(*posts))


async def test_a_post_that_is_wrong_for_good_is_told_and_dropped(store: Store) -> None:
    """It does not block later posts; nor does a reply that its callback cannot handle."""

    def fail(_: object) -> None:
        raise KeyError

    with capture_logs() as lines:
        await store.post(command("SET", "{b}", "a string"), on_reply=fail)
        await note(store, "b", 1)
        await store.post(command("DEL", "{b}"))
        await store.post(command("RPUSH", "{b}", "2"))
        assert await noted(store, "b") == [2]
    assert [line["event"] for line in lines] == ["post_reply_failed", "post_refused"]
    assert store.pending == 0


async def test_what_an_answer_calls_for_is_drained_too(store: Store) -> None:
    """A post that is kept while the last one is answered is waited for like any other."""
    answers: list[int] = []

    def again(_: object) -> None:
        store.keep("note", ["{b}", "{b}:seen"], [2], lambda _: answers.append(2))

    store.keep("note", ["{b}", "{b}:seen"], [1], again)
    assert await store.drained(SECONDS)
    assert (answers, store.pending) == ([2], 0)


async def test_what_waits_is_bounded(server: ValkeyServer, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound posts are dropped, with one log line."""
    monkeypatch.setattr(outbox, "MOST_PENDING", 10)
    server.kill()
    with capture_logs() as lines:
        with pytest.raises(Unavailable):
            await store.call("GET", "k")
        for number in range(30):
            assert not await note(store, "b", number)
        assert store.pending == 10
        assert [line["event"] for line in lines].count("posts_left_to_sweeper") == 1
        server.start()
        async with asyncio.timeout(SECONDS):
            await store.opened()
    assert await noted(store, "b") == list(range(10))


async def test_order_outlives_slots_on_their_way(cluster: ValkeyCluster) -> None:
    """MOVED, ASK and TRYAGAIN meet posts that were sent together; each budget's come in order, wherever it is."""
    budgets = [f"b{number}" for number in range(3)]
    async with opened(cluster.url) as store:
        numbers = iter(range(100_000))
        sent: list[int] = []
        is_over = asyncio.Event()

        async def post() -> None:
            while not is_over.is_set():
                for _ in range(5):
                    number = next(numbers)
                    sent.append(number)
                    for budget in budgets:
                        note(store, budget, number)
                await asyncio.sleep(0.001)

        def move() -> None:
            for _ in range(3):
                for budget in budgets:
                    there = (cluster.owner(f"{{{budget}}}") + 1) % 3
                    cluster.begin_move(f"{{{budget}}}", there)
                    for name in (f"{{{budget}}}", f"{{{budget}}}:seen"):
                        cluster.carry(f"{{{budget}}}", there, name)
                    cluster.end_move(f"{{{budget}}}", there)

        posting = asyncio.ensure_future(post())
        with capture_logs() as lines:
            await asyncio.to_thread(move)
            is_over.set()
            await posting
            assert await store.drained(SECONDS)
            for budget in budgets:
                assert await noted(store, budget) == sent
        assert lines == []


async def test_posts_follow_a_master_to_its_replica() -> None:
    """Unacknowledged posts to a frozen master are sent to its replacement, in order."""
    with ValkeyCluster() as cluster:
        async with opened(cluster.url, deadline_ms=100) as store:
            budget = next(f"b{number}" for number in range(100) if cluster.owner(f"{{b{number}}}") == 1)
            await note(store, budget, 0)
            await asyncio.to_thread(ask, cluster.nodes[1], "WAIT", 1, 5000)
            cluster.nodes[1].freeze()
            with capture_logs():
                for number in range(1, 200):
                    note(store, budget, number)
                    await asyncio.sleep(0.01)
                assert await store.drained(SECONDS)
            assert await noted(store, budget) == list(range(200))
            cluster.nodes[1].thaw()
