"""What people do in the browser, and what can be seen of it."""

import re

from playwright.async_api import Frame, Locator, Page, expect

from tests.browser.app_site import AppSite, Json

FUNDING_KEY = "sk-or-v1-limit20-browser"


async def visit(page: Page, site: AppSite, user: str, **query: str) -> None:
    """Open the app's page and wait until its script runs."""
    await page.goto(site.url(user=user, **query))
    await page.wait_for_function("globalThis.ready")


async def press_connect(page: Page) -> Page:
    """Click Connect and return the window that opens."""
    async with page.expect_popup() as opened:
        await page.click("#connect")
    return await opened.value


async def paste_key(popup: Page, key: str = FUNDING_KEY) -> None:
    """Pay with a pasted OpenRouter key."""
    await popup.get_by_role("button", name="Paste an OpenRouter key").click()
    await popup.get_by_label("OpenRouter key", exact=True).fill(key)
    await popup.get_by_role("button", name="Use this key").click()


async def authorize(popup: Page, account: str) -> None:
    """Pay by an authorization at OpenRouter, in its own window."""
    async with popup.context.expect_page() as opened:
        await popup.get_by_role("link", name="Continue with OpenRouter").click()
    window = await opened.value
    await window.get_by_label("Account").fill(account)
    await window.get_by_label("Limit").fill("20")
    async with window.expect_event("close"):
        await window.get_by_role("button", name="Authorize").click()


def allow_button(popup: Page) -> Locator:
    """Return the Allow button."""
    return popup.locator("[data-answer=allow]")


async def allow(popup: Page) -> None:
    """Press Allow when it is armed; the window closes itself."""
    async with popup.expect_event("close"):
        await press_allow(popup)


async def press_allow(popup: Page) -> None:
    """Press Allow without waiting for the outcome."""
    await expect(allow_button(popup)).to_have_attribute("aria-disabled", "false")
    await allow_button(popup).click()


async def deny(popup: Page) -> None:
    """Press Deny; the window closes itself."""
    async with popup.expect_event("close"):
        await popup.get_by_role("button", name=re.compile("^(Don’t allow|Cancel)$")).click()


async def close_window(popup: Page) -> None:
    """Press "Close window" by script: Playwright's own click would keep waiting in the closed window."""
    async with popup.expect_event("close"):
        button = popup.get_by_role("button", name="Close window")
        await button.evaluate("button => { setTimeout(() => button.click(), 0) }")


async def outcome(page: Page, count: int = 1) -> Json:
    """Wait for the app's `count`-th answer and return it."""
    await page.wait_for_function(f"globalThis.outcomes?.length >= {count}")
    found: Json = await page.evaluate(f"outcomes[{count - 1}]")
    return found


async def connect_by_key(page: Page, key: str = FUNDING_KEY) -> Json:
    """Connect as a first-time payer with a pasted key."""
    popup = await press_connect(page)
    await paste_key(popup, key)
    await press_allow(popup)
    return await outcome(page)


async def go(page: Page, url: str) -> None:
    """Navigate by script, because Playwright's goto would drop the opener."""
    async with page.expect_navigation():
        await page.evaluate("url => { setTimeout(() => { location.href = url }, 0) }", url)


async def has_opener(frame: Page | Frame) -> bool:
    return bool(await frame.evaluate("() => window.opener !== null"))
