"""Photograph every state of the consent site, light and dark, into `screenshots/`: `make screenshots`.

A state that needs a fault gets it from the browser's side: the answer of the server is replaced on its way.
"""

import asyncio
import json
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from playwright.async_api import Browser, BrowserContext, Route, async_playwright

from consent_web.site import Site
from gateway.keys import Budget, request_id
from gateway.ledger import Settlement
from gateway.pricing import WorstCase
from scripts.studio import APP_ORIGIN, FOLDER, POPUP, Studio, a_site

NARROW = (320, 600)
DESK = (1100, 900)
PHONE = (360, 740)

FAULTS = (
    *("origin", "malformed", "auth", "spent", "elsewhere", "expired", "answered", "closed", "cookies", "cooldown"),
    *("rate_limited", "unavailable", "unknown"),
)
WARNINGS = ("unchecked", "no_credit", "free", "low", "unlimited")
FUNDING_FAULTS = ("denied", "code", "key_refused", "key_management", "away")


async def popup_faults(studio: Studio) -> None:
    """What the popup shows instead of the question."""
    page = studio.page
    for reason in FAULTS:
        await studio.refuse(reason)
        await studio.visit(studio.consent_url())
        await page.wait_for_selector(f"[data-state={reason}]")
        await studio.shoot(f"popup-fault-{reason}")
        await studio.normal()
    await page.route("**/consent/attempts*", lambda route: route.abort())
    await studio.visit(studio.consent_url())
    await page.wait_for_selector("[data-state=offline]")
    await studio.shoot("popup-fault-offline")
    await studio.normal()
    await page.route("**/consent.js", lambda route: route.abort())
    await studio.visit(studio.consent_url())
    await studio.shoot("popup-opening")
    await page.evaluate("document.documentElement.className = 'sandboxed'")
    await studio.shoot("popup-sandboxed")
    await studio.normal()
    await studio.visit(f"{studio.site.origin}/consent")
    await page.wait_for_selector("[data-state=no_opener]")
    await studio.shoot("popup-no-opener")


async def popup_without_answer(studio: Studio) -> None:
    """An opener that never answers: checking, then giving up; and one that stands in a frame."""
    page = studio.page
    url = studio.consent_url().replace("m=redirect", "m=popup")
    await page.route(
        f"{APP_ORIGIN}/**", lambda route: route.fulfill(body="<iframe></iframe>", content_type="text/html")
    )
    await page.goto(f"{APP_ORIGIN}/")
    for opener, states in (("window", ("verifying", "no_answer")), ("frames[0]", ("framed",))):
        async with page.context.expect_page() as opened:
            await page.evaluate(f"url => void {opener}.open(url)", url)
        popup = await opened.value
        await popup.set_viewport_size({"width": POPUP[0], "height": POPUP[1]})
        for state in states:
            await popup.wait_for_selector(f"[data-state={state}]")
            await replace(studio, page=popup).shoot(f"popup-{state}")
        await popup.close()


async def popup_paying(studio: Studio) -> None:
    """Step 1 of 2 and the windows it opens."""
    page = studio.page
    await studio.visit(studio.consent_url())
    await page.get_by_role("link", name="Continue with OpenRouter").wait_for()
    await studio.shoot("popup-no-funding")
    await page.get_by_role("button", name="Paste an OpenRouter key").click()
    await studio.shoot("popup-paste-key")
    await page.get_by_label("OpenRouter key").fill("sk-proj-nothing-of-openrouter")
    await page.get_by_role("button", name="Use this key").click()
    await page.get_by_role("alert").wait_for()
    await studio.shoot("popup-paste-key-refused")
    for fault in FUNDING_FAULTS:
        await studio.alter(lambda body, fault=fault: body.update(fault=fault))  # type: ignore[misc]
        await studio.visit(studio.consent_url())
        await page.get_by_role("alert").wait_for()
        await studio.shoot(f"popup-funding-{fault}")
        await studio.normal()
    await studio.visit(studio.consent_url())
    async with page.context.expect_page() as opened:
        await page.get_by_role("link", name="Continue with OpenRouter").click()
    window = await opened.value
    await page.wait_for_selector("[data-state=funding-elsewhere]")
    await studio.shoot("popup-funding-elsewhere")
    await window.close()
    await page.route(
        "**/fund/start", lambda route: route.abort() if route.request.method == "POST" else route.continue_()
    )
    await studio.visit(f"{studio.site.origin}/fund/start")
    await page.wait_for_selector("[data-state=offline]")
    await studio.shoot("fund-start-offline")
    await studio.normal()
    await studio.visit(f"{studio.site.origin}/fund/callback/{'x' * 43}?code=1")
    await page.wait_for_selector("[data-state=funding]")
    await studio.shoot("fund-callback-failed")


async def popup_question(studio: Studio) -> None:
    """The question in all its forms, and how it ends."""
    page = studio.page
    await studio.visit(studio.consent_url())
    await page.get_by_role("button", name="Paste an OpenRouter key").click()
    await page.get_by_label("OpenRouter key").fill(f"sk-or-v1-limit14.20-{secrets.token_hex(16)}")
    await page.get_by_role("button", name="Use this key").click()
    allow = page.locator("#allow[aria-disabled=false]")
    await allow.wait_for()
    await studio.shoot("popup-review")
    await (await studio.at(NARROW)).shoot("popup-review", full=True)
    await studio.at(POPUP)
    await page.get_by_label("Other").check(force=True)
    await studio.shoot("popup-review-other")
    await page.get_by_label("Amount in US dollars").fill("0.2")
    await page.mouse.move(10, 10)
    await allow.click()
    await studio.shoot("popup-review-other-refused")
    changes: dict[str, Callable[[dict[str, object]], None]] = {
        "label": lambda body: _put(body, "text", account="For your Acme Notes account bob@example.com."),
        "connected": lambda body: body.update(
            current={"state": "active", "cap": "$10.00", "spent": "$3.42", "spentExact": "3.42"}
        ),
        "hostile": lambda body: _put(body, "app", name="Nötes & <b>Friends</b> International Limit…"),
    }
    changes |= {
        f"warning-{name}": lambda body, name=name: _put(body, "funding", warning=name)  # type: ignore[misc]
        for name in WARNINGS
    }
    for name, change in changes.items():
        await studio.alter(change)
        await studio.visit(studio.consent_url())
        await allow.wait_for()
        await studio.shoot(f"popup-review-{name}")
        await studio.normal()
    for name, limit in (("test", None), ("test-cap", 20)):
        await studio.visit(studio.consent_url(mode="test", limit_usd=limit))
        await allow.wait_for()
        await studio.shoot(f"popup-review-{name}")


async def popup_endings(studio: Studio) -> None:
    """Saving, approved, denied, going back to the app."""
    page = studio.page
    status = {"connected": True, "limits": {"monthlyUsd": 20}, "usage": {"monthlyUsd": 0}, "remainingUsd": 20}
    for state in ("approved", "denied"):
        result = {"outcome": state, "status": status}
        await studio.alter(lambda body, state=state, result=result: body.update(state=state, result=result))  # type: ignore[misc]
        await studio.visit(studio.consent_url(mode="test"))
        await page.wait_for_selector(f"[data-state={state}]")
        await studio.shoot(f"popup-{state}")
        await studio.normal()
    await studio.visit(studio.consent_url(mode="test"))
    await page.locator("#allow[aria-disabled=false]").wait_for()

    async def answer_late(_: Route) -> None:
        await asyncio.sleep(0.3)

    await page.route("**/approve", answer_late)
    await page.mouse.move(20, 20)
    await page.locator("#allow").click()
    await studio.shoot("popup-saving")
    await studio.normal()
    await studio.alter(lambda body: body.update(state="held", redirect="https://notes.acme.example/"))
    # An answer without a page: the popup stays as it is on its way.
    await page.route(f"{APP_ORIGIN}/**", lambda route: route.fulfill(status=204))
    await studio.visit(studio.consent_url(mode="test"))
    await page.wait_for_selector("[data-state=returning]")
    await studio.shoot("popup-returning")
    await studio.normal()


def _put(body: dict[str, object], part: str, **changes: object) -> None:
    inner = body[part]
    if isinstance(inner, dict):
        inner.update(changes)


async def dashboard(studio: Studio) -> None:
    """Every page of the dashboard, wide and narrow."""
    page, origin = studio.page, studio.site.origin

    async def both(name: str, path: str | None = None) -> None:
        for size in (DESK, PHONE):
            sized = await studio.at(size)
            if path is not None:
                await page.goto(origin + path)
            await sized.shoot(name, full=True)

    first = page.locator(".apps .name").first
    await both("board-home", "/")
    ref = str(await first.get_attribute("href")).rpartition("/")[2]
    for name, path in (
        ("board-app", f"/apps/{ref}"),
        ("board-confirm-stop-app", f"/apps/{ref}/revoke"),
        ("board-confirm-stop-all", "/stop"),
        ("board-funding", "/funding"),
        ("board-confirm-remove-key", "/funding/remove"),
        ("board-not-found", "/nowhere"),
    ):
        await both(name, path)
    await page.goto(f"{origin}/apps/{ref}")
    await page.get_by_text("As a table").click()
    await both("board-app-table")
    for typed, name in (("ten", "board-app-cap-refused"), ("200", "board-confirm-raise")):
        await page.goto(f"{origin}/apps/{ref}")
        await page.get_by_label("US dollars").fill(typed)
        await page.get_by_role("button", name="Save").click()
        await both(name)
    await page.goto(f"{origin}/apps/{ref}")
    await page.get_by_role("button", name="Pause").click()
    await both("board-app-paused")
    await page.get_by_role("button", name="Resume").click()
    await page.goto(f"{origin}/funding/remove")
    await page.get_by_role("button", name="Remove the key now").click()
    await both("board-funding-none")
    await page.goto(f"{origin}/apps/{ref}/revoke")
    await page.get_by_role("button", name="Stop it now").click()
    await both("board-app-stopped")
    await page.context.clear_cookies()
    await both("board-stranger", "/")


async def connect(studio: Studio, names: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """Connect apps by the popup and let them spend: name → (cap, nano-USD by request)."""
    page, site = studio.page, studio.site
    for number, (name, (cap, costs)) in enumerate(names.items()):
        keys = await site.apps.create(name, [APP_ORIGIN])
        one = replace(studio, app_id=keys["appId"])
        await page.route(f"{APP_ORIGIN}/**", lambda route: route.fulfill(body="ok"))
        await page.route("**/approve", lambda route: route.continue_())
        await one.visit(one.consent_url(user="bob"))
        if number == 0:
            await page.get_by_role("button", name="Paste an OpenRouter key").click()
            await page.get_by_label("OpenRouter key").fill(f"sk-or-v1-limit40-{secrets.token_hex(16)}")
            await page.get_by_role("button", name="Use this key").click()
        await page.locator("#allow[aria-disabled=false]").wait_for()
        await page.get_by_label("Other").check(force=True)
        await page.get_by_label("Amount in US dollars").fill(cap)
        await page.mouse.move(5 + number, 5)
        await page.locator("#allow").click()
        await page.wait_for_url(f"{APP_ORIGIN}/**")
        await _redeem_and_spend(site, keys["appId"], costs)
        await one.normal()


async def _redeem_and_spend(site: Site, app_id: str, costs: tuple[int, ...]) -> None:
    """Make the sleeping approval active, as the app's page would, and book requests over the last days."""
    async for key in site.store.each_key("wf:attempt:*"):
        raw: dict[bytes, bytes] = await site.store.call("HGETALL", key)
        asked = json.loads(raw[b"asked"])
        if asked["app_id"] == app_id and raw[b"state"] == b"held":
            # The studio has no verifier: it opens the connection by the decision it finds.
            attempt = await site.attempts.find(key.rpartition(":")[2], raw[b"browser"].decode())
            if attempt is not None:
                await site.attempts._connect(attempt)  # noqa: SLF001 - a studio, not a payer
                await _spend(site, attempt.asked.budget, costs)


async def _spend(site: Site, budget: Budget, costs: tuple[int, ...]) -> None:
    account = budget.account(site.store.salt)
    for number, cost in enumerate(costs):
        name = request_id(account, secrets.token_bytes(12))
        worst = WorstCase(fixed_nano=cost, per_token_zepto=0, max_tokens=16)
        model = ("anthropic/claude-sonnet-4.5", "openai/gpt-5-mini", "google/gemini-2.5-flash")[number % 3]
        await site.ledger.admit(budget, name, worst, model=model, estimate_nano=cost)
        settled = Settlement("settled", cost, f"gen-{secrets.token_hex(8)}", model, 420 + number * 37, 180, "works")
        await site.ledger.settle(budget, name, settled)
        day = await site.store.call("HKEYS", budget.days)
        if number and day:
            # Older days, so that the chart has something to show.
            await site.store.call("HINCRBY", budget.days, int(day[0]) - (number * 5) % 23, cost)


async def _window(browser: Browser, scheme: str, *, script: bool = True) -> BrowserContext:
    return await browser.new_context(
        viewport={"width": POPUP[0], "height": POPUP[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
        java_script_enabled=script,
    )


async def _photograph(site: Site, browser: Browser, scheme: str) -> None:
    keys = await site.apps.create("Acme Notes", [APP_ORIGIN])
    steps: tuple[Callable[[Studio], Awaitable[None]], ...] = (
        popup_faults,
        popup_without_answer,
        popup_paying,
        popup_question,
        popup_endings,
    )
    for step in steps:
        context = await _window(browser, scheme)
        studio = Studio(site, keys["appId"], await context.new_page(), scheme)
        await studio.normal()
        await step(studio)
        await context.close()
    context = await _window(browser, scheme, script=False)
    studio = Studio(site, keys["appId"], await context.new_page(), scheme)
    await studio.visit(studio.consent_url())
    await studio.shoot("popup-noscript")
    await context.close()
    context = await _window(browser, scheme)
    studio = Studio(site, keys["appId"], await context.new_page(), scheme)
    spent = {
        "Acme Notes": ("20", (4_210_000_000, 1_830_450_000, 980_000_017, 350_000_000, 2_100_000_000, 730_000_000)),
        "Paper Reader": ("10", (2_150_000_000, 1_400_000_000, 999_000_000)),
        "Tiny Tool": ("0.50", (123,)),
        "Unused": ("2", ()),
    }
    await connect(studio, spent)
    await dashboard(studio)
    await context.close()


async def main() -> None:
    """Make every photograph anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as folder:
        async with a_site(Path(folder)) as site, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            for scheme in ("light", "dark"):
                await _photograph(site, browser, scheme)
            await browser.close()
    print(f"{len(list(FOLDER.iterdir()))} photographs in {FOLDER.name}/")


if __name__ == "__main__":
    asyncio.run(main())
