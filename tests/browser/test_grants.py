"""One-time grants by the SDK: no session, only the publishable key, and the token only by message."""

# ruff: noqa: N802 - the names carry the checklist's ids

import re
import time

import pytest
from playwright.async_api import BrowserContext, Page, expect

from gateway.payers.grants import grant_of
from gateway.services import Services
from tests.browser import fakes, payer
from tests.browser.app_site import AppSite, Json

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def ask(context: BrowserContext, site: AppSite, user: str) -> tuple[Page, Page]:
    """Press Grant; return the app's page and the window."""
    page = await context.new_page()
    await payer.visit(page, site, user)
    async with page.expect_popup() as opened:
        await page.click("#grant")
    popup = await opened.value
    await popup.wait_for_function("globalThis.answer")
    return page, popup


async def test_a_grant_needs_no_session(context: BrowserContext, app_site: AppSite, user: str) -> None:
    """The URL contains key, nonce and amounts but no token; the grant token arrives by message."""
    await fakes.replace_consent(context, app_site)
    tokens: list[str] = []
    context.on("request", lambda request: tokens.append(request.url) if "/token" in request.url else None)
    page, popup = await ask(context, app_site, user)
    asked: Json = await popup.evaluate("Object.fromEntries(asked)")
    nonce = asked.pop("n")
    assert asked == {"v": "1", "k": app_site.stack.keys["publishableKey"], "t": "grant", "r": "3", "u": "0.5"}
    answer = await popup.evaluate("answer")
    assert answer == {"ns": "wattfare", "v": 1, "type": "opener", "nonce": nonce, "session": None}
    await popup.evaluate("finish({ outcome: 'approved', grantToken: 'gr_live_x', expiresAt: 1800000000 })")
    assert await payer.outcome(page) == {"grantToken": "gr_live_x", "expiresAt": 1800000000}
    assert tokens == []


@pytest.mark.parametrize(("end", "reason"), [("finish({ outcome: 'denied' })", "denied"), ("close()", "closed")])
async def test_no_grant_is_a_value_that_says_why(
    context: BrowserContext, app_site: AppSite, user: str, end: str, reason: str
) -> None:
    """A no and a closed window resolve, as in `connect()`."""
    await fakes.replace_consent(context, app_site)
    page, popup = await ask(context, app_site, user)
    await popup.evaluate(end)
    assert await payer.outcome(page) == {"grantToken": None, "expiresAt": None, "reason": reason}


async def test_a_yes_without_its_token_is_an_error(context: BrowserContext, app_site: AppSite, user: str) -> None:
    """There is a grant that nobody can spend."""
    await fakes.replace_consent(context, app_site)
    page, popup = await ask(context, app_site, user)
    await popup.evaluate("finish({ outcome: 'approved' })")
    found = await payer.outcome(page)
    assert (found["error"], found["name"], found["retries"]) == ("grant_invalid", "WattfareGrantError", True)


async def press_grant(page: Page) -> Page:
    """Click Grant and return the window that opens."""
    async with page.expect_popup() as opened:
        await page.click("#grant")
    return await opened.value


async def redeem(site: AppSite, token: str, *, mode: str = "live") -> tuple[int, Json]:
    """Call a model through the app's backend, paid by the grant."""
    body = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 40}
    return await site.post("chat/completions", body, keys=site.stack.keys, mode=mode, x_wattfare_grant=token)


async def test_from_a_publishable_key_to_a_metered_answer_to_the_dashboard(
    context: BrowserContext, app_site: AppSite, services: Services
) -> None:
    """The page has no session and no backend call before it has the token; the token is in no URL and no history."""
    urls: list[str] = []
    context.on("request", lambda request: urls.append(request.url))
    page = await context.new_page()
    await payer.visit(page, app_site, "nobody", session="none")
    popup = await press_grant(page)
    await payer.paste_key(popup, "sk-or-v1-limit20-grants")
    await expect(popup.get_by_role("heading", level=1)).to_contain_text(
        re.compile(r"up to 3 requests paid by you, at most \$0\.50, until \d\d:\d\d.{0,3} (today|tomorrow)")
    )
    await expect(payer.allow_button(popup)).to_have_text("Allow up to $0.50")
    await payer.allow(popup)
    granted = await payer.outcome(page)
    token = granted["grantToken"]
    assert re.fullmatch("gr_live_[0-9a-f]{64}", token)
    assert 3500 < granted["expiresAt"] - time.time() < 3700
    answers = [await redeem(app_site, token) for _ in range(4)]
    assert [status for status, _ in answers] == [200, 200, 200, 402]
    assert answers[3][1]["error"]["code"] == "grant_invalid"
    assert [url for url in urls if token in url or "/token" in url] == []
    budget = grant_of(token, "live", app_site.stack.keys["appId"])
    spent = (await services.ledger.standing(budget)).spent_nano
    assert spent > 0
    await page.goto(app_site.stack.consent)
    once = page.get_by_role("region", name="One-time")
    await expect(once).to_contain_text("Acme Notes")
    await expect(once).to_contain_text("3 of 3 requests")
    [kept] = [line for line in await services.connections.receipts(budget) if line["event"] == "approved"]
    assert "up to 3 requests paid by you, at most $0.50, until" in kept["text"]


async def test_closing_the_window_is_a_no(context: BrowserContext, app_site: AppSite) -> None:
    """The server, queried with the publishable key, has an unanswered attempt."""
    page = await context.new_page()
    await payer.visit(page, app_site, "nobody", session="none")
    popup = await press_grant(page)
    await popup.get_by_role("button", name="Paste an OpenRouter key").wait_for()
    await popup.close()
    assert await payer.outcome(page) == {"grantToken": None, "expiresAt": None, "reason": "closed"}


async def test_a_test_key_asks_nobody_and_costs_nothing(context: BrowserContext, app_site: AppSite) -> None:
    """The window approves by itself after it has verified its opener."""
    page = await context.new_page()
    await payer.visit(page, app_site, "nobody", session="none", mode="test")
    await press_grant(page)
    token = (await payer.outcome(page))["grantToken"]
    assert token.startswith("gr_test_")
    assert [(await redeem(app_site, token, mode="test"))[0] for _ in range(4)] == [200, 200, 200, 402]


async def test_P10_a_page_that_is_not_registered_gets_no_allow_button(
    context: BrowserContext, app_site: AppSite
) -> None:
    """The verified origin is the only proof of a grant: a page elsewhere with the same key is turned away."""
    page = await context.new_page()
    await payer.visit(page, app_site, "nobody", session="none", host=app_site.evil)
    popup = await press_grant(page)
    await expect(popup.locator("[data-state=origin]")).to_be_visible()
    await expect(payer.allow_button(popup)).to_have_count(0)
    await payer.close_window(popup)
    assert (await payer.outcome(page))["reason"] == "origin"


async def test_a_yes_with_a_broken_status_is_asked_again(context: BrowserContext, app_site: AppSite, user: str) -> None:
    """A result without a usable status is not passed on: the SDK queries the server."""
    await fakes.replace_consent(context, app_site)
    page = await context.new_page()
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await popup.wait_for_function("globalThis.answer")
    await popup.evaluate("finish({ outcome: 'approved', status: { connected: 'yes' } })")
    assert (await payer.outcome(page))["connected"] is False


async def test_the_server_decides_when_no_message_comes(context: BrowserContext, app_site: AppSite, user: str) -> None:
    """A window closes without a message, after a denial that only the server received."""
    await fakes.replace_consent(context, app_site, attempt='{"state":"denied"}')
    page = await context.new_page()
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await popup.wait_for_function("globalThis.answer")
    await popup.close()
    assert (await payer.outcome(page))["reason"] == "denied"
