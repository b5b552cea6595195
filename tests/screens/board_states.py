"""Every page of the dashboard, with apps that spent, may not spend, and have difficult names."""

import json
import secrets

from gateway import keys
from gateway.keys import Budget, request_id
from gateway.ledger.outcomes import Settlement
from gateway.ledger.worst_case import WorstCase
from gateway.payers.connections import Approval, Term
from gateway.services import Services
from tests.screens.popup_states import NAMES
from tests.screens.staging import APP_ORIGIN, DESK, Staging, Step

# name → (cap, nano-USD by request)
SPENT: dict[str, tuple[str, tuple[int, ...]]] = {
    "Acme Notes": ("20", (4_210_000_000, 1_830_450_000, 980_000_017, 350_000_000, 2_100_000_000, 730_000_000)),
    "Paper Reader": ("10", (2_150_000, 40_100, 23_000, 999_123, 1_400_000)),
    NAMES["long"]: ("0.50", (123,)),
    NAMES["hebrew"]: ("1000", ()),
}


async def board(staging: Staging) -> None:
    """Every page of the dashboard, from full to empty."""
    page, origin = staging.page, staging.site.origin
    await page.set_viewport_size({"width": DESK[0], "height": DESK[1]})
    await connect(staging, SPENT)
    await _grant(staging)

    async def show(name: str, path: str) -> None:
        await page.goto(origin + path)
        await staging.look(name)

    async def press(name: str, path: str, button: str) -> None:
        await page.goto(origin + path)
        await page.get_by_role("button", name=button).click()
        await staging.look(name)

    await show("board-home", "/")
    ref = str(await page.locator(".apps .name").first.get_attribute("href")).rpartition("/")[2]
    once = str(await page.locator("[aria-labelledby=grants] .name").first.get_attribute("href"))
    await show("board-app", f"/apps/{ref}")
    await page.get_by_text("As a table").click()
    await staging.look("board-app-table")
    for name, path in (
        ("board-grant", once),
        ("board-confirm-stop-grant", f"{once}/revoke"),
        ("board-confirm-stop-app", f"/apps/{ref}/revoke"),
        ("board-confirm-stop-all", "/stop"),
        ("board-funding", "/funding"),
        ("board-browsers", "/browsers"),
        ("board-passkeys", "/passkeys"),
        ("board-confirm-leave", "/leave"),
        ("board-confirm-remove-key", "/funding/remove"),
        ("board-not-found", "/nowhere"),
    ):
        await show(name, path)
    await page.get_by_role("link", name="Your AI budget").click()
    # A one-time grant of the same app may stand below.
    await page.locator("[aria-labelledby=apps]").get_by_role("link", name="Details of Donau").click()
    await staging.look("board-app-long-name")
    for typed, name in (("ten", "board-app-cap-refused"), ("200", "board-confirm-raise")):
        await page.goto(f"{origin}/apps/{ref}")
        await page.get_by_label("US dollars").fill(typed)
        await page.get_by_role("button", name="Save").click()
        await staging.look(name)
    await page.goto(f"{origin}/funding")
    await page.get_by_label("OpenRouter key").fill("nonsense")
    await page.get_by_role("button", name="Use this key").click()
    await page.get_by_role("alert").wait_for()
    await staging.look("board-funding-key-refused")
    await _allow(staging, await staging.of_app("Slow Starter"), "5", 1)
    await show("board-home-waiting", "/")
    await press("board-app-paused", f"/apps/{ref}", "Pause")
    await page.get_by_role("button", name="Resume").click()
    await press("board-funding-none", "/funding/remove", "Remove the key now")
    await show("board-home-no-funding", "/")
    await press("board-app-stopped", f"/apps/{ref}/revoke", "Stop it now")
    await page.context.clear_cookies()
    await show("board-stranger", "/")


BOARD_STEPS: tuple[Step, ...] = (board,)


async def connect(staging: Staging, spent: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """Connect apps through the popup and make them spend."""
    for number, (name, (cap, costs)) in enumerate(spent.items()):
        one = await staging.of_app(name)
        await _allow(staging, one, cap, number)
        await _redeem_and_spend(staging.world.services, one.app_id, costs)


async def _allow(staging: Staging, one: Staging, cap: str, number: int) -> None:
    """Allow an app a cap in redirect mode, so that its approval waits; the first one brings a key."""
    page = staging.page
    await page.route(f"{APP_ORIGIN}/**", lambda route: route.fulfill(body="ok"))
    await page.route("**/approve", lambda route: route.continue_())
    await one.visit(one.consent_url(user="bob"))
    if number == 0:
        await page.get_by_role("button", name="Paste an OpenRouter key").click()
        await page.get_by_label("OpenRouter key").fill(f"sk-or-v1-limit40-{secrets.token_hex(16)}")
        await page.get_by_role("button", name="Use this key").click()
    await page.locator("[data-answer=allow][aria-disabled=false]").wait_for()
    await page.get_by_label("Other").check(force=True)
    await page.get_by_label("Amount in US dollars").fill(cap)
    await page.mouse.move(5 + number, 5)
    await page.locator("[data-answer=allow][aria-disabled=false]").click()
    await page.wait_for_url(f"{APP_ORIGIN}/**")
    await one.normal()


async def _redeem_and_spend(services: Services, app_id: str, costs: tuple[int, ...]) -> None:
    """Make the sleeping approval active, as the app's page would, and book requests over the last days."""
    async for key in services.store.each_key("wf:attempt:*"):
        raw: dict[bytes, bytes] = await services.store.call("HGETALL", key)
        asked = json.loads(raw[b"asked"])
        if asked["app_id"] == app_id and raw[b"state"] == b"held":
            # No app's page has the verifier here: open the connection by the stored decision.
            attempt = await services.attempts.find(key.rpartition(":")[2], raw[b"browser"].decode())
            if attempt is not None:
                await services.attempts._connect(attempt)
                await _spend(services, attempt.requested.budget, costs)


async def _grant(staging: Staging) -> None:
    """Two one-time grants of the same wallet: one active, one used up."""
    services = staging.world.services
    connected, *_ = [key async for key in services.store.each_key("wf:live:*bob}:budget")]
    payer = await services.connections.find(Budget.parse(connected.removesuffix(":budget")))
    listed = keys.wallet_budgets(payer.wallet)
    entry, *_ = (await services.store.call("HGETALL", listed)).values()
    for requests in (3, 1):
        budget = Budget.of_grant("live", payer.budget.app_id, secrets.token_hex(32))
        await services.store.call("HSET", listed, budget.name, entry)
        yes = Approval(500_000_000, "sk-or-v1-limit40-grant", payer.wallet, APP_ORIGIN, term=Term(requests, 3_600_000))
        await services.connections.approve(budget, yes)
        await _spend(services, budget, (1_240_000,))


async def _spend(services: Services, budget: Budget, costs: tuple[int, ...]) -> None:
    account = budget.account(services.store.salt)
    for number, cost in enumerate(costs):
        name = request_id(account, secrets.token_bytes(12))
        # The second costs more than its hold, the third is an estimate so far.
        held = cost // 2 if number == 1 else cost
        worst = WorstCase(fixed_nano=held, per_token_zepto=0, max_tokens=16)
        model = ("anthropic/claude-sonnet-4.5", "openai/gpt-5-mini", "google/gemini-2.5-flash")[number % 3]
        await services.ledger.admit(budget, name, worst, model=model, estimate_nano=cost)
        settled = Settlement(
            "estimated" if number == 2 else "settled",
            cost,
            f"gen-{secrets.token_hex(8)}",
            model,
            420 + number * 37,
            180,
            "works",
        )
        await services.ledger.settle(budget, name, settled)
        day = await services.store.call("HKEYS", budget.days)
        if number and day:
            # Older days, so that the chart has something to show.
            await services.store.call("HINCRBY", budget.days, int(day[0]) - (number * 5) % 23, cost)
