"""The store's resources: connections, tasks, timers, and the server's certificate."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import uvloop
from structlog.testing import capture_logs

from gateway import keys
from gateway.errors import Unavailable
from gateway.store.store import Store
from tests.gateway.store.conftest import PATIENT_MS
from tests.servers import ValkeyServer
from tests.tls import open_relay

KEY = "some:key"


def test_on_the_loop_of_production_a_mark_is_there_before_its_poster_goes_on() -> None:
    """By default uvloop defers small writes to the end of its turn."""

    async def post(url: str) -> None:
        store = await Store.open(url, deadline_ms=PATIENT_MS)
        with redis.Redis.from_url(url) as client:
            for number in range(20):
                assert await store.post("rate", [f"posted:{number}"], [10, 60_000, "a"])
                end = time.monotonic() + 5
                while not client.exists(f"posted:{number}"):
                    assert time.monotonic() < end
        await store.close()

    with ValkeyServer(tcp=True) as server:
        for url in (server.url, server.tcp_url):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(post(url))


async def test_no_call_costs_a_task_or_a_timer(patient: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call costs one future, a post one more for the kernel's acknowledgement; one timer watches all of them."""
    loop, mine = asyncio.get_running_loop(), asyncio.current_task()
    made: list[str] = []
    for name in ("create_task", "call_later", "call_at"):
        whole = getattr(loop, name)

        def counted(*given: Any, name: str = name, whole: Callable[..., Any] = whole, **more: Any) -> Any:
            owner = getattr(given[-1] if name == "create_task" else given[1], "__qualname__", "")
            # The watch and the beats go on meanwhile: in tasks of their own, but for the watch.
            is_ours = asyncio.current_task() in (None, mine)
            if is_ours and "Server._" not in owner and "Beats._" not in owner and "Timeout._" not in owner:
                made.append(f"{name} {owner}")
            return whole(*given, **more)

        monkeypatch.setattr(loop, name, counted)
    started = time.monotonic()
    for number in range(100):
        await patient.run("rate", ["some:rate"], [1000, 60_000, str(number)])
        await patient.post("rate", ["some:rate"], [1000, 60_000, str(number)])
        await patient.call("GET", KEY)
    # What looks for a Cluster's changes sleeps ten times a second.
    assert len(made) <= 2 + 10 * (time.monotonic() - started), made


async def test_over_tls_the_server_is_asked_who_it_is(server: ValkeyServer, tmp_path: Path) -> None:
    """The signer is configured by a file; an unknown certificate is accepted only if so configured."""
    async with open_relay(server.folder / "s", tmp_path) as relay:
        url = f"rediss://127.0.0.1:{relay.port}"
        for trust in ({"ca_file": relay.ca_file}, {"is_self_signed": True}):
            store = await Store.open(url, deadline_ms=PATIENT_MS, **trust)
            assert store.is_open
            await store.call("SET", KEY, "x" * 300_000)
            assert await store.call("STRLEN", KEY) == 300_000
            assert await store.post("rate", ["posted"], [10, 60_000, "a"])
            assert await store.drained(5)
            await store.close()
        with capture_logs() as lines:
            store = await Store.open(url, deadline_ms=PATIENT_MS)
        assert not store.is_open
        with pytest.raises(Unavailable):
            await store.call("GET", KEY)
        assert [line.get("reason") for line in lines] == ["SSLCertVerificationError"]
        await store.close()


async def test_two_workers_and_a_burst_live_with_twenty_clients() -> None:
    """A process needs two connections under any load: one for commands, one subscribed to cuts."""
    with ValkeyServer(options=("--maxclients", "20")) as server, redis.Redis.from_url(server.url) as operator:
        stores = [await Store.open(server.url, deadline_ms=PATIENT_MS) for _ in range(2)]
        ears = [await store.listener(keys.CUTS) for store in stores]
        with capture_logs() as lines:
            for _ in range(20):
                calls = [store.run("rate", ["r"], [1000, 60_000, str(n)]) for n in range(48) for store in stores]
                await asyncio.gather(*calls)
                operator.client_kill_filter(_type="normal", skipme=True)
        assert lines == []
        assert [client["name"] for client in operator.client_list()].count("wattfare") <= 4
        for closing in (*ears,):
            closing.close()
        for store in stores:
            await store.close()
