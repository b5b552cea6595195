"""One-time grants as the SDK asks for them: no session, the publishable key alone, and a token only by message."""

import pytest
from playwright.async_api import BrowserContext, Page

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
    """The address holds key, nonce and amounts and no token; the grant token comes by message."""
    await fakes.replace_consent(context, app_site)
    tokens: list[str] = []
    context.on("request", lambda request: tokens.append(request.url) if "/token" in request.url else None)
    page, popup = await ask(context, app_site, user)
    asked: Json = await popup.evaluate("Object.fromEntries(asked)")
    nonce = asked.pop("n")
    assert asked == {"v": "1", "k": app_site.stack.keys["publishableKey"], "t": "grant", "r": "3", "u": "0.5"}
    assert await popup.evaluate("answer") == {"ns": "wattfare", "v": 1, "type": "opener", "nonce": nonce}
    await popup.evaluate("finish({ outcome: 'approved', grantToken: 'gr_live_x', expiresAt: 1800000000 })")
    assert await payer.outcome(page) == {"grantToken": "gr_live_x", "expiresAt": 1800000000}
    assert tokens == []


@pytest.mark.parametrize(
    ("end", "code", "name"),
    [
        ("finish({ outcome: 'denied' })", "denied", "WattfareError"),
        ("finish({ outcome: 'approved' })", "grant_invalid", "WattfareGrantError"),
        ("close()", "popup_closed", "WattfareError"),
    ],
)
async def test_no_grant_is_an_error(
    context: BrowserContext, app_site: AppSite, user: str, end: str, code: str, name: str
) -> None:
    """A no, a lost token and a closed window are told apart."""
    await fakes.replace_consent(context, app_site)
    page, popup = await ask(context, app_site, user)
    await popup.evaluate(end)
    found = await payer.outcome(page)
    assert (found["error"], found["name"], found["retries"]) == (code, name, True)


async def test_a_yes_with_a_broken_status_is_asked_again(context: BrowserContext, app_site: AppSite, user: str) -> None:
    """A connect result without a usable status is not passed on: the SDK asks the server."""
    await fakes.replace_consent(context, app_site)
    page = await context.new_page()
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await popup.wait_for_function("globalThis.answer")
    await popup.evaluate("finish({ outcome: 'approved', status: { connected: 'yes' } })")
    assert (await payer.outcome(page))["connected"] is False


async def test_the_server_decides_when_no_message_comes(context: BrowserContext, app_site: AppSite, user: str) -> None:
    """A window that closes without a word, after a no that only the server heard."""
    await fakes.replace_consent(context, app_site, attempt='{"state":"denied"}')
    page = await context.new_page()
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await popup.wait_for_function("globalThis.answer")
    await popup.close()
    assert (await payer.outcome(page))["reason"] == "denied"
