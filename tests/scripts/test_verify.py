"""What verify finds, and what it must not take for a fault."""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.connections import Approval
from gateway.keys import Budget, wallet_budgets
from gateway.ledger import Settlement
from gateway.pricing import WorstCase
from gateway.services import Services, open_services
from gateway.settings import Settings
from scripts.verify import verify
from tests.gateway.stack import RINGS

BUDGET = Budget("live", "app2222222222222222", "a:b}{c/ü")
OTHER = Budget("test", "app2222222222222222", "bob")
DAY_MS = 86_400_000

pytestmark = pytest.mark.each_store


@contextlib.asynccontextmanager
async def usage_answers(usage: object, status: int = 200) -> AsyncIterator[str]:
    """An OpenRouter that knows one thing: what a key has used."""

    async def key(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer sk-or-v1-ada"
        return web.json_response({"data": {"usage": usage, "byok_usage": 0}}, status=status)

    app = web.Application()
    app.router.add_get("/api/v1/key", key)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def opened(redis_url: str, folder: Path, upstream: str = "http://127.0.0.1:1") -> AsyncIterator[Services]:
    variables = {"REDIS_URL": redis_url, "OPENROUTER_BASE_URL": upstream, "WATTFARE_DATA_DIR": str(folder)}
    settings = Settings.load({**RINGS, **variables, "WATTFARE_REDIS_DEADLINE_MS": "5000"})
    async with open_services(settings) as services:
        yield services


async def connect(services: Services, budget: Budget = BUDGET) -> None:
    key = "sk-or-v1-ada" if budget.mode == "live" else None
    await services.connections.approve(budget, Approval(10**10, key))


async def spend(services: Services, request_id: str, *settlements: Settlement, budget: Budget = BUDGET) -> None:
    await services.ledger.admit(budget, request_id, WorstCase(1000, 0, 1), model="m", estimate_nano=1)
    for settlement in settlements:
        await services.ledger.settle(budget, request_id, settlement)


async def checked(services: Services, *, against_upstream: bool = False) -> Any:
    return await verify(services, argparse.Namespace(against_upstream=against_upstream))


@pytest.fixture
async def services(redis_url: str, tmp_path: Path) -> AsyncIterator[Services]:
    """Two budgets with some history: settled, estimated and corrected, voided, over the hold, open."""
    async with opened(redis_url, tmp_path) as running:
        await connect(running)
        await connect(running, OTHER)
        await spend(running, "a", Settlement("settled", 400))
        await spend(running, "b", Settlement("estimated", 900), Settlement("settled", 300))
        await spend(running, "c", Settlement("void"))
        await spend(running, "d", Settlement("settled", 5000))
        await spend(running, "e")
        await spend(running, "f", Settlement("settled", 7), budget=OTHER)
        yield running


async def test_books_that_add_up(services: Services) -> None:
    """The totals are told, over every budget of both modes; a user's own id is not."""
    answer = await checked(services)
    assert answer == {
        "ok": True,
        "budgets": 2,
        "entries": 6,
        "open_holds": 1,
        "booked_usd": 5.707e-06,
        "spent_usd": 5.707e-06,
        "held_usd": 1e-06,
        "differences": [],
    }


@pytest.mark.parametrize(
    ("command", "what", "stored", "computed"),
    [
        (("HINCRBY", BUDGET.budget, "held_nano", 1), "held_nano", 1001, 1000),
        (("HINCRBY", BUDGET.budget, "window_nano", -1), "window_nano", 5699, 5700),
        (("HINCRBY", BUDGET.budget, "booked_nano", 5), "booked_nano", 5705, 5700),
        (("DEL", BUDGET.days), "day", 0, 5700),
        (("DEL", BUDGET.hold("e")), "held_nano", 1000, 0),
        (("ZADD", BUDGET.due, 1, "a"), "a is due but not open", 1, 0),
    ],
    ids=["held", "window", "booked", "days", "hold", "due"],
)
async def test_each_sum_that_is_off_is_named(
    services: Services, command: tuple[str | int, ...], what: str, stored: int, computed: int
) -> None:
    """By app and account, with what is stored and what it should be."""
    await services.store.call(str(command[0]), *command[1:])
    answer = await checked(services)
    assert answer["ok"] is False
    found = next(each for each in answer["differences"] if each["what"].startswith(what))
    assert (found["stored_nano"], found["computed_nano"]) == (stored, computed)
    assert (found["app"], found["mode"]) == (BUDGET.app_id, "live")
    assert found["account"] == BUDGET.account(services.store.salt)


async def test_a_doubled_entry_is_named(services: Services) -> None:
    """A request that was booked twice shows in its own sum, not only in the day's."""
    entry = (await services.ledger.entries(BUDGET))[0]
    fields = [part for name, value in entry.items() if name != "entry" for part in (name, value)]
    await services.store.call("XADD", BUDGET.ledger, "*", *fields)
    answer = await checked(services)
    assert {"a is booked at", "booked_nano"} <= {each["what"] for each in answer["differences"]}


@pytest.mark.parametrize("left", [BUDGET.days, BUDGET.ledger, BUDGET.due])
async def test_a_lost_budget_is_named(services: Services, left: str) -> None:
    """By whatever is left of it: nobody else would miss it."""
    for key in {BUDGET.budget, BUDGET.days, BUDGET.ledger, BUDGET.due} - {left}:
        await services.store.call("DEL", key)
    answer = await checked(services)
    assert answer["budgets"] == 2
    (found,) = [each for each in answer["differences"] if each["what"] == "the budget itself is lost"]
    assert found["account"] == BUDGET.account(services.store.salt)


async def test_a_user_who_was_barred_before_connecting_is_no_lost_budget(services: Services) -> None:
    """There is a hash that counts revocations, and nothing else; wallets have keys that look alike."""
    never = Budget("live", BUDGET.app_id, "never")
    await services.store.run("change", [never.budget], ["bar", ""])
    await services.store.call("HSET", wallet_budgets("w"), never.name, "device")
    answer = await checked(services)
    assert (answer["budgets"], answer["differences"]) == (3, [])


async def test_what_the_ledger_trimmed_raises_no_alarm(services: Services) -> None:
    """Entries older than the ledger's life are gone, their days too; the lifetime sum is then not compared."""
    await services.store.call("XTRIM", BUDGET.ledger, "MAXLEN", 0)
    today = (await services.ledger.audit(BUDGET)).today
    days = await services.ledger.days(BUDGET)
    await services.store.call("DEL", BUDGET.days)
    await services.store.call("HSET", BUDGET.days, today - 90, days[today])
    await services.store.call("HSET", BUDGET.budget, "window_nano", 0)
    assert (await checked(services))["differences"] == []


async def test_a_budget_in_use_raises_no_alarm(services: Services) -> None:
    """Requests come and go while it reads, over more entries than one reading takes."""
    done = asyncio.Event()

    async def use(lane: int) -> None:
        number = 0
        while not done.is_set():
            await spend(services, f"{lane}-{number}", Settlement("estimated", 9), Settlement("settled", 7))
            number += 1

    async with asyncio.TaskGroup() as users:
        for lane in range(8):
            users.create_task(use(lane))
        readings = 0
        while readings < 10 or len(await services.ledger.entries(BUDGET, most=1500)) < 1500:
            answer = await checked(services)
            assert answer["differences"] == []
            readings += 1
        done.set()


async def compared(redis_url: str, folder: Path, usage: object, status: int = 200) -> Any:
    """Spend 400 + 300 nano with one key, long ago, and ask OpenRouter."""
    async with usage_answers(usage, status) as url, opened(redis_url, folder, url) as services:
        await connect(services)
        await spend(services, "old", Settlement("settled", 5000))
        await connect(services)  # Another key since: what the first one paid for is not its debt.
        await spend(services, "a", Settlement("settled", 400))
        await spend(services, "b", Settlement("estimated", 900), Settlement("settled", 300))
        await spend(services, "c", Settlement("estimated", 900))
        for entry in await services.ledger.entries(BUDGET):
            fields = {**entry, "settled_ms": str(int(entry["settled_ms"]) - DAY_MS)}
            name = fields.pop("entry")
            await services.store.call("XDEL", BUDGET.ledger, name)
            await services.store.call("XADD", BUDGET.ledger, "*", *[part for pair in fields.items() for part in pair])
        return await checked(services, against_upstream=True)


@pytest.mark.parametrize(("usage", "is_ok"), [(7e-07, True), (5, True), (6.97e-07, False), (0, False)])
async def test_openrouter_must_know_of_all_we_booked(redis_url: str, tmp_path: Path, usage: float, is_ok: bool) -> None:
    """More may be used elsewhere; less than the ledger's stated costs is a difference but for a nano of rounding."""
    answer = await compared(redis_url, tmp_path, usage)
    assert answer["ok"] is is_ok
    (upstream,) = answer["upstream"]
    assert (upstream["ledger_usd"], upstream["upstream_usd"], upstream["ok"]) == (7e-07, usage, is_ok)


@pytest.mark.parametrize(("usage", "status"), [(None, 200), ("x", 200), (1, 401)])
async def test_an_openrouter_that_does_not_say_is_no_difference(
    redis_url: str, tmp_path: Path, usage: object, status: int
) -> None:
    """It is told apart from a key that adds up."""
    answer = await compared(redis_url, tmp_path, usage, status)
    assert answer["ok"] is True
    assert "note" in answer["upstream"][0]
