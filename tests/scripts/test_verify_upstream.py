"""The ledger compared with a key's usage at OpenRouter."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.ledger.outcomes import Settlement
from gateway.services import Services
from scripts.verify import exit_code
from tests.gateway.process import command, environment
from tests.scripts.books import BUDGET, DAY_MS, KEY, checked, connect, opened, spend, write_entry

pytestmark = pytest.mark.each_store


@contextlib.asynccontextmanager
async def usage_answers(usage: object, status: int = 200) -> AsyncIterator[str]:
    """A fake OpenRouter that only returns a key's usage."""

    async def key(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {KEY}"
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


async def spend_long_ago(services: Services) -> None:
    """Spend 400 + 300 nano with one key, and 900 by estimate."""
    await connect(services)
    await spend(services, "old", Settlement("settled", 5000))
    await connect(services)  # Another key since: what the first one paid for is not its debt.
    await spend(services, "a", Settlement("settled", 400))
    await spend(services, "b", Settlement("estimated", 900), Settlement("settled", 300))
    await spend(services, "c", Settlement("estimated", 900))
    entries = await services.ledger.entries(BUDGET)
    await services.store.call("DEL", BUDGET.ledger)
    for entry in entries:
        settled_ms, _, number = entry["entry"].partition("-")
        await write_entry(services, BUDGET, entry, name=f"{int(settled_ms) - DAY_MS}-{number}")


async def compared(redis_url: str, folder: Path, usage: object, status: int = 200) -> Any:
    async with usage_answers(usage, status) as url, opened(redis_url, folder, url) as services:
        await spend_long_ago(services)
        return await checked(services, against_upstream=True)


@pytest.mark.parametrize(
    ("usage", "verdict"), [(7e-07, "equal"), (1.5e-06, "equal"), (5, "more"), (6.97e-07, "less"), (0, "less")]
)
async def test_openrouter_must_know_of_all_we_booked(
    redis_url: str, tmp_path: Path, usage: float, verdict: str
) -> None:
    """More may be used elsewhere; less than the ledger's stated costs is a difference but for a nano of rounding."""
    answer = await compared(redis_url, tmp_path, usage)
    assert (answer["ok"], exit_code(answer)) == ((False, 1) if verdict == "less" else (True, 0))
    (upstream,) = answer["upstream"]
    assert (upstream["ledger_usd"], upstream["upstream_usd"], upstream["verdict"]) == (7e-07, usage, verdict)
    assert answer["upstream_keys"] == {verdict: 1}
    assert upstream["difference_usd"] == pytest.approx(usage - 7e-07, abs=1e-12)
    assert upstream["estimated_usd"] == 9e-07


@pytest.mark.parametrize(("usage", "status"), [(None, 200), ("x", 200), (1, 401)])
async def test_an_openrouter_that_does_not_say_is_neither_ok_nor_a_difference(
    redis_url: str, tmp_path: Path, usage: object, status: int
) -> None:
    """It is distinguished from an equal key, also by the exit code."""
    answer = await compared(redis_url, tmp_path, usage, status)
    assert (answer["ok"], exit_code(answer)) == (False, 3)
    assert answer["upstream_keys"] == {"not compared": 1}
    assert "note" in answer["upstream"][0]
    assert answer["upstream"][0]["difference_usd"] is None


async def test_the_operator_reads_both_words_and_the_difference_of_each_key(redis_url: str, tmp_path: Path) -> None:
    """On a line for each key, and in JSON; never the key itself."""
    async with usage_answers(9e-07) as url:
        async with opened(redis_url, tmp_path, url) as services:
            await spend_long_ago(services)
            account = BUDGET.account(services.store.salt)
        variables = environment(redis_url, url)
        code, told, _ = await command("scripts.verify", "--against-upstream", variables=variables)
        _, document, _ = await command("scripts.verify", "--against-upstream", "--json", variables=variables)
    assert code == 0
    amounts = "ledger_usd: 0.0000007, estimated_usd: 0.0000009, upstream_usd: 0.0000009, difference_usd: 0.0000002"
    assert f"upstream:\n  accounts: {account}, {amounts}, verdict: equal\n" in told
    (upstream,) = json.loads(document)["upstream"]
    assert (upstream["accounts"], upstream["difference_usd"]) == ([account], 2e-07)
    assert KEY not in told + document


async def test_the_operator_reads_each_difference_on_a_line(redis_url: str, tmp_path: Path) -> None:
    """The command exits 1."""
    async with opened(redis_url, tmp_path) as services:
        await connect(services)
        await services.store.call("HINCRBY", BUDGET.budget, "held_nano", 1)
        await services.store.call("HINCRBY", BUDGET.budget, "booked_nano", 2)
    code, told, _ = await command("scripts.verify", variables=environment(redis_url))
    assert code == 1
    assert len(told.partition("differences:\n")[2].splitlines()) == 2
