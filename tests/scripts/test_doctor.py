"""The doctor: a deployment that is well, and each fault that is planted in one."""

import argparse
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis
from aiohttp import web

from gateway import keys
from gateway.errors import Unavailable
from gateway.key_rings import KeyRing
from gateway.keys import Budget
from gateway.payers.connections import Approval
from gateway.sealing import Sealer
from gateway.server import open_gateway
from gateway.services import Services
from gateway.settings import Settings
from scripts import doctor_public, doctor_store
from scripts.doctor import doctor
from scripts.doctor_store import MOST_CLOCK_SKEW_MS, clock_finding
from scripts.findings import Check
from tests.consent_web.world import World, a_world
from tests.gateway.process import command, environment
from tests.gateway.stack import listening
from tests.servers import ValkeyServer
from tests.tls import open_relay

NOBODY = "http://127.0.0.1:1"


@contextlib.asynccontextmanager
async def _deployment(server: ValkeyServer, folder: Path) -> AsyncIterator[tuple[World, Services]]:
    """Gateway and consent site at what stand for their public URLs, and the stores as the doctor opens them."""
    async with (
        a_world(server.url, folder) as world,
        open_gateway(world.services.settings) as gateway,
        listening(gateway) as port,
    ):
        settings = replace(world.services.settings, public_url=f"http://127.0.0.1:{port}")
        yield world, replace(world.services, settings=settings)


@pytest.fixture
def server() -> Any:
    """A Valkey with persistence."""
    with ValkeyServer(durable=True) as running:
        yield running


async def _examined(services: Services) -> Any:
    return await doctor(services, argparse.Namespace(before_start=False))


async def _faults(check: Check, services: Services) -> list[str]:
    """Return a check's faults; each says what to do."""
    found = [finding async for finding in check(services) if finding.is_fault]
    assert all(finding.result and finding.mend for finding in found)
    return [finding.what for finding in found]


async def test_a_deployment_that_is_well_has_nothing_to_mend(server: ValkeyServer, tmp_path: Path) -> None:
    """Twice: what the first look leaves behind is no fault to the second. A stream is seen to come in pieces."""
    async with _deployment(server, tmp_path) as (_, services):
        await _examined(services)
        answer = await _examined(services)
        assert [row for row in answer["checks"] if not row["ok"]] == []
        assert answer["ok"]
        checked = {row["check"].split(" ")[0] for row in answer["checks"]}
        assert {
            "redis",
            "persistence",
            "eviction",
            "clock",
            "price",
            "sweeper",
            "webhooks",
            "stream",
            "consent",
        } <= checked


Redis = redis.Redis


def _forget_on_restart(client: Redis) -> None:
    client.config_set("appendonly", "no")


def _evict(client: Redis) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")


def _fill(client: Redis) -> None:
    client.config_set("maxmemory", client.info("memory")["used_memory"])


def _crowd(client: Redis) -> None:
    client.config_set("maxclients", client.info("clients")["connected_clients"])


def _age_prices(client: Redis) -> None:
    client.hset(keys.PRICES, "fetched_ms", 1)


def _lose_prices(client: Redis) -> None:
    client.delete(keys.PRICES)


def _leave_unswept(client: Redis) -> None:
    client.zadd(keys.open_shard(3), {"wf:live:{a:b}": 1})


def _leave_undelivered(client: Redis) -> None:
    client.zadd(keys.event_shard(3), {"wf:live:{a:b}": 1})


def _lose_an_endpoint(client: Redis) -> None:
    client.hset(keys.app("appx"), mapping={"name": "X", "origins": '["https://x.example"]'})
    client.sadd(keys.APPS, "appx")
    client.hset(keys.webhook("appx"), mapping={"url": "https://x.example/", "secret": "k:sealed", "since_ms": 0})


def _register_without_origin(client: Redis) -> None:
    client.hset(keys.app("appx"), mapping={"name": "X", "origins": "[]", "return_urls": "[]"})
    client.sadd(keys.APPS, "appx")


@pytest.mark.parametrize(
    ("plant", "check", "what"),
    [
        (_forget_on_restart, doctor_store.servers, "persistence"),
        (_evict, doctor_store.servers, "eviction"),
        (_fill, doctor_store.servers, "memory"),
        (_crowd, doctor_store.servers, "connections"),
        (_age_prices, doctor_store.prices, "price list"),
        (_lose_prices, doctor_store.prices, "price list"),
        (_leave_unswept, doctor_store.sweeper, "sweeper"),
        (_leave_undelivered, doctor_store.webhooks, "webhooks"),
        (_lose_an_endpoint, doctor_store.webhooks, "webhooks"),
        (_register_without_origin, doctor_store.apps, "origins"),
    ],
)
async def test_a_fault_of_redis_is_found(
    server: ValkeyServer, tmp_path: Path, plant: Callable[[Redis], None], check: Check, what: str
) -> None:
    """It is named, with what mends it."""
    async with a_world(server.url, tmp_path) as world:
        with redis.Redis.from_url(server.url) as client:
            client.hset(keys.PRICES, "fetched_ms", time.time_ns() // 1_000_000)
            assert await _faults(check, world.services) == []
            plant(client)
            assert await _faults(check, world.services) == [what]
            client.config_set("maxmemory", 0)


async def test_a_redis_that_is_away_or_came_back_empty_is_found(server: ValkeyServer, tmp_path: Path) -> None:
    """What needs it is left out; the rest is looked at all the same."""
    async with a_world(server.url, tmp_path) as world:
        settings = replace(world.services.settings, public_url="http://no.such.host.invalid")
        services = replace(world.services, settings=settings)
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        with contextlib.suppress(Unavailable):
            await services.store.beat()
        assert await _faults(doctor_store.store, services) == ["redis"]
        answer = await _examined(services)
        assert {row["check"] for row in answer["checks"] if not row["ok"]} == {"redis", "name of WATTFARE_PUBLIC_URL"}
        await services.store.beat(accept=True)
        server.kill()
        with contextlib.suppress(Unavailable):
            await services.store.beat()
        assert await _faults(doctor_store.store, services) == ["redis"]
        server.start()


async def test_a_lost_master_key_is_found_and_an_older_one_told(server: ValkeyServer, tmp_path: Path) -> None:
    """Without naming users."""
    async with a_world(server.url, tmp_path) as world:
        budget = Budget.of_user("live", world.app_id, "eve")
        await world.services.connections.approve(budget, Approval(10**9, "sk-or-v1-x"))
        assert await _faults(doctor_store.rings, world.services) == []
        old, new = world.services.settings.master_keys.newest, ("k2", b"2" * 32)
        both = replace(world.services, sealer=Sealer(KeyRing((new, old))))
        (told,) = [finding async for finding in doctor_store.rings(both)]
        assert "rotate_master_key" in told.result
        assert await _faults(doctor_store.rings, replace(both, sealer=Sealer(KeyRing((new,))))) == ["key rings"]


def test_clocks_that_differ_are_found() -> None:
    """Whichever is ahead."""
    assert not clock_finding(-MOST_CLOCK_SKEW_MS).is_fault
    assert "behind" in clock_finding(-MOST_CLOCK_SKEW_MS - 1).result
    assert "ahead" in clock_finding(60_000).result
    assert clock_finding(60_000).mend


async def test_public_urls_that_lead_nowhere_or_astray_are_found(server: ValkeyServer, tmp_path: Path) -> None:
    """Unknown name, no server, the other service, a certificate that browsers refuse, no OpenRouter."""
    async with a_world(server.url, tmp_path) as world, open_relay(server.folder / "s", tmp_path) as relay:

        def told(**changed: str) -> Services:
            settings: Settings = replace(world.services.settings, **changed)  # type: ignore[arg-type]
            return replace(world.services, settings=settings)

        lost = told(consent_url="https://no.such.host.invalid")
        assert await _faults(doctor_public.names, lost) == ["name of WATTFARE_CONSENT_URL"]
        refused = told(public_url=f"https://127.0.0.1:{relay.port}")
        assert await _faults(doctor_public.names, refused) == ["certificate of WATTFARE_PUBLIC_URL"]
        closed = told(public_url="https://127.0.0.1:1")
        assert await _faults(doctor_public.names, closed) == ["certificate of WATTFARE_PUBLIC_URL"]
        swapped = told(public_url=world.base, consent_url=NOBODY)
        assert await _faults(doctor_public.services_answer, swapped) == ["gateway", "consent site"]
        assert await _faults(doctor_public.openrouter, told(openrouter_base_url=NOBODY)) == ["openrouter"]
        assert await _faults(doctor_public.stream, told(public_url=NOBODY)) == ["stream"]


async def test_a_proxy_that_keeps_answers_back_is_found(server: ValkeyServer, tmp_path: Path) -> None:
    """It passes everything on, but only when it has all of it."""
    async with _deployment(server, tmp_path) as (_, services), aiohttp.ClientSession() as session:

        async def keep_back(request: web.Request) -> web.Response:
            url = services.settings.public_url + request.path
            headers = {name: request.headers[name] for name in ("Authorization", "x-wattfare-user", "Content-Type")}
            async with session.post(url, data=await request.read(), headers=headers) as answer:
                return web.Response(body=await answer.read(), content_type="text/event-stream")

        app = web.Application()
        app.router.add_post("/{path:.*}", keep_back)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            behind = replace(services.settings, public_url=f"http://127.0.0.1:{runner.addresses[0][1]}")
            assert await _faults(doctor_public.stream, replace(services, settings=behind)) == ["stream"]
        finally:
            await runner.cleanup()


async def test_a_release_is_refused_where_redis_could_forget(server: ValkeyServer) -> None:
    """Before anything runs: exit 1, a line for each thing that was looked at, and what to do."""
    variables = environment(server.url)
    code, out, errors = await command("scripts.doctor", "--before-start", variables=variables)
    assert (code, errors, out.splitlines()[-1]) == (0, "", "All is well.")
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory-policy", "volatile-ttl")
    code, out, _ = await command("scripts.doctor", "--before-start", variables=variables)
    assert code == 1
    assert (
        "FAULT  eviction: maxmemory-policy volatile-ttl may drop holds and spend\n       set it to noeviction\n" in out
    )
    assert out.splitlines()[-1] == "1 to mend."
