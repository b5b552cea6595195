"""Windows closed, blocked, opened twice, left overnight or offline: the SDK's outcome equals the server's."""

# ruff: noqa: N802 (the numbers of the checklist are written as they stand there)

import asyncio

import pytest
import redis.asyncio
from playwright.async_api import Browser, BrowserContext, Error, Page, Route, expect

from gateway import keys
from gateway.payers.attempts import KEPT_MS
from tests.browser import payer
from tests.browser.app_site import AppSite

pytestmark = pytest.mark.asyncio(loop_scope="session")

CLOSED = {"connected": False, "limits": None, "usage": {"monthlyUsd": 0}, "remainingUsd": 0, "reason": "closed"}


async def test_F01_a_blocked_window_can_be_opened_by_a_click(page: Page, app_site: AppSite, user: str) -> None:
    """Without a gesture connect() rejects as popup_blocked; retry() from a click works."""
    # Playwright's evaluate counts as a gesture, so nothing is evaluated until the call has failed.
    await page.add_init_script(
        """const timer = setInterval(() => {
          const button = document.getElementById('connect')
          if (globalThis.outcomes?.length) console.log('done', clearInterval(timer))
          else if (globalThis.ready && !promises[1]) button.dispatchEvent(new Event('click'))
        })"""
    )
    async with page.expect_console_message(lambda message: message.text.startswith("done")):
        await page.goto(app_site.url(user=user, mode="test"))
    found = await payer.outcome(page)
    assert (found["error"], found["name"], found["retries"]) == ("popup_blocked", "WattfareError", True)
    async with page.expect_popup() as opened:
        await page.click("#retry")
    await payer.press_allow(await opened.value)
    assert (await payer.outcome(page, 2))["connected"] is True


async def test_F02_closed_before_the_token_came(page: Page, app_site: AppSite, user: str) -> None:
    """A window closed while it shows "Opening…" ends as closed, and no request reaches the consent site."""
    app_site.late.clear()
    await payer.visit(page, app_site, user, **{"as": "late"})
    popup = await payer.press_connect(page)
    assert await popup.inner_text("body") == "Opening…"
    await popup.close()
    assert await payer.outcome(page) == CLOSED
    app_site.late.set()


async def test_F02_closed_before_it_was_verified(context: BrowserContext, app_site: AppSite, user: str) -> None:
    """A window closed while the consent page loads is closed."""
    page = await context.new_page()
    held = asyncio.Event()
    await context.route("**/consent", lambda _: held.set())
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await held.wait()
    await popup.close()
    assert await payer.outcome(page) == CLOSED


async def test_F02_closed_while_funding(page: Page, app_site: AppSite, user: str) -> None:
    """A window closed before it could pay is closed; nothing is connected."""
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await popup.get_by_role("heading", name="would like to use").wait_for()
    await popup.close()
    assert await payer.outcome(page) == CLOSED
    assert (await app_site.status(user))["connected"] is False


async def test_F02_closed_right_after_allow(context: BrowserContext, app_site: AppSite, user: str) -> None:
    """A window killed between the server's yes and its message: the SDK finds the approval at the server."""
    page = await context.new_page()
    approved = asyncio.Event()

    async def approve_and_hold(route: Route) -> None:
        await route.fetch()
        approved.set()

    await context.route("**/approve", approve_and_hold)
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await payer.press_allow(popup)
    await approved.wait()
    await popup.close()
    assert (await payer.outcome(page))["connected"] is True


async def test_F04_a_second_connect_is_the_first(page: Page, app_site: AppSite, user: str) -> None:
    """While the window is open, connect() again brings it to the front and returns the same promise: one window."""
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await page.click("#connect")
    assert await page.evaluate("promises.at(-1) === promises.at(-2)")
    assert await page.evaluate("opened.length") == 1
    await payer.press_allow(popup)
    assert (await payer.outcome(page, 2))["connected"] is True


async def test_F04_two_tabs_are_two_attempts(context: BrowserContext, app_site: AppSite, user: str) -> None:
    """Two tabs ask at once, the payer allows both, both resolve, and there is one connection."""
    tabs = [await context.new_page(), await context.new_page()]
    popups = []
    for tab in tabs:
        await payer.visit(tab, app_site, user, mode="test")
        popups.append(await payer.press_connect(tab))
    for popup in popups:
        await payer.press_allow(popup)
    assert [(await payer.outcome(tab))["connected"] for tab in tabs] == [True, True]


async def test_F05_offline_at_allow_loses_nothing(context: BrowserContext, app_site: AppSite, user: str) -> None:
    """Offline, Allow says so and keeps the choice; online again the same click works."""
    page = await context.new_page()
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await payer.paste_key(popup)
    await popup.get_by_role("radio", name="$2").first.check(force=True)
    await context.set_offline(True)
    await payer.press_allow(popup)
    await expect(popup.get_by_text("You seem to be offline")).to_be_visible()
    await context.set_offline(False)
    await payer.press_allow(popup)
    assert (await payer.outcome(page))["limits"] == {"monthlyUsd": 2}


async def test_F05_offline_is_a_typed_error(context: BrowserContext, app_site: AppSite, user: str) -> None:
    """status() without a network rejects as `network`, by class and by code."""
    page = await context.new_page()
    await payer.visit(page, app_site, user)
    await page.evaluate("wattfare.prepare()")
    await context.set_offline(True)
    found = await page.evaluate("wattfare.status().catch(({ name, code, status }) => [name, code, status])")
    assert found == ["WattfareNetworkError", "network", 0]
    await context.set_offline(False)


async def test_F06_a_yes_after_the_timeout_still_counts(page: Page, app_site: AppSite, user: str) -> None:
    """After ten minutes connect() rejects as `timeout`; a yes after that is a `change` event and shows in status()."""
    await page.clock.install()
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await payer.allow_button(popup).wait_for()
    await page.clock.fast_forward(600_001)
    found = await payer.outcome(page)
    assert (found["error"], found["retries"]) == ("timeout", True)
    await payer.press_allow(popup)
    await page.wait_for_function("events.some(([name, told]) => name === 'change' && told === true)")
    assert (await page.evaluate("wattfare.status()"))["connected"] is True


@pytest.mark.parametrize("answer", ["401", "500", "html"])
async def test_F07_a_failing_session_closes_the_window(page: Page, app_site: AppSite, user: str, answer: str) -> None:
    """A session endpoint that gives no token ends the call as session_failed, and the window with it."""
    await payer.visit(page, app_site, user, **{"as": answer})
    await payer.press_connect(page)
    found = await payer.outcome(page)
    assert (found["error"], found["retries"]) == ("session_failed", True)
    await page.wait_for_function("opened[0].closed")


async def test_F07_a_silent_session_shows_progress_then_fails(page: Page, app_site: AppSite, user: str) -> None:
    """While the session endpoint is slow the window shows progress; after ten seconds the call fails."""
    app_site.late.clear()
    await page.clock.install()
    await payer.visit(page, app_site, user, **{"as": "late"})
    popup = await payer.press_connect(page)
    assert await popup.inner_text("body") == "Opening…"
    await page.clock.fast_forward(10_001)
    assert (await payer.outcome(page))["error"] == "session_failed"
    app_site.late.set()


async def test_F08_on_a_phone_the_window_is_a_tab(browser: Browser, app_site: AppSite, user: str) -> None:
    """With a touch screen of 360×640 a tap opens, a tap allows: no pointer ever hovers."""
    phone = await browser.new_context(viewport={"width": 360, "height": 640}, is_mobile=True, has_touch=True)
    page = await phone.new_page()
    await payer.visit(page, app_site, user, mode="test")
    async with page.expect_popup() as opened:
        await page.tap("#connect")
    popup = await opened.value
    await expect(payer.allow_button(popup)).to_have_attribute("aria-disabled", "false")
    await payer.allow_button(popup).tap()
    assert (await payer.outcome(page))["connected"] is True
    await phone.close()


async def test_F11_a_window_left_over_night_has_expired(page: Page, app_site: AppSite, user: str) -> None:
    """An expired attempt shows a screen with a way back, and the app gets `expired`."""
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await payer.allow_button(popup).wait_for()
    attempt = await popup.evaluate("history.state.attempt")
    async with redis.asyncio.Redis.from_url(app_site.stack.redis_url) as store:
        await store.pexpire(keys.attempt(attempt), KEPT_MS - 1)
    await payer.press_allow(popup)
    await expect(popup.get_by_role("heading", name="This request has expired")).to_be_visible()
    await payer.close_window(popup)
    assert await payer.outcome(page) == {**CLOSED, "reason": "expired"}


async def test_F12_works_without_storage(context: BrowserContext, app_site: AppSite, user: str) -> None:
    """A browser that blocks storage on the app's page connects by popup all the same."""
    page = await context.new_page()
    refuse = "{ get() { throw new DOMException('blocked', 'SecurityError') } }"
    for name in ("sessionStorage", "localStorage"):
        await page.add_init_script(f"Object.defineProperty(window, '{name}', {refuse})")
    await payer.visit(page, app_site, user, mode="test")
    await payer.press_allow(await payer.press_connect(page))
    assert (await payer.outcome(page))["connected"] is True


async def test_a_reloaded_window_goes_on(page: Page, app_site: AppSite, user: str) -> None:
    """A reloaded consent page continues its attempt, still has its opener, and its approval arrives."""
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await payer.allow_button(popup).wait_for()
    await popup.evaluate("setTimeout(() => location.reload(), 0)")
    await popup.wait_for_event("load")
    await payer.press_allow(popup)
    assert (await payer.outcome(page))["connected"] is True


async def test_abort_closes_the_window(page: Page, app_site: AppSite, user: str) -> None:
    """An AbortSignal ends the call as `aborted` and closes the window."""
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    async with popup.expect_event("close"):
        await page.click("#abort")
    assert (await payer.outcome(page))["error"] == "aborted"


async def test_a_close_that_the_browser_forgot_is_said_again(page: Page, app_site: AppSite, user: str) -> None:
    """Chromium loses a close() in the moment the window changes to the consent site: the SDK closes until it counts."""
    app_site.late.clear()
    await payer.visit(page, app_site, user, **{"as": "late"})
    popup = await payer.press_connect(page)
    await page.evaluate(
        """() => {
          const [child] = opened, close = child.close.bind(child)
          globalThis.closes = 0
          child.close = () => ++closes > 1 && close()
        }"""
    )
    async with popup.expect_event("close"):
        await page.click("#abort")
    assert await page.evaluate("closes") > 1
    app_site.late.set()


async def test_after_a_no_the_payer_may_be_asked_again(page: Page, app_site: AppSite, user: str) -> None:
    """A token opens one window: the next connect() brings a new one, well before the first has expired."""
    await payer.visit(page, app_site, user, mode="test")
    await payer.deny(await payer.press_connect(page))
    assert (await payer.outcome(page))["reason"] == "denied"
    await payer.press_allow(await payer.press_connect(page))
    assert (await payer.outcome(page, 2))["connected"] is True


async def test_a_page_that_is_not_registered_hears_why_soon_after_closing(
    page: Page, app_site: AppSite, user: str
) -> None:
    """The window says that the page cannot be verified; after it was closed connect() returns that reason."""
    await payer.visit(page, app_site, user, host=app_site.evil)
    popup = await payer.press_connect(page)
    await popup.get_by_role("heading", name="This page cannot be verified").wait_for()
    await payer.close_window(popup)
    await page.wait_for_function("globalThis.outcomes?.length >= 1", timeout=5000)
    assert (await payer.outcome(page))["reason"] == "origin"
    with pytest.raises(Error, match="is not registered for this app"):
        await page.evaluate("wattfare.status()")
