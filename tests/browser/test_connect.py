"""Connecting from an app on another origin: first time, again, and what the app's backend can do afterwards."""

import pytest
from playwright.async_api import Page, expect

from tests.browser import payer
from tests.browser.app_site import AppSite

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_first_time_payer_authorizes_allows_and_pays(page: Page, app_site: AppSite, user: str) -> None:
    """Popup, OpenRouter in a second window, cap, Allow: the app's backend then calls a model and the spend is shown."""
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await payer.authorize(popup, "user_" + user.replace("-", ""))
    await payer.allow(popup)
    found = await payer.outcome(page)
    assert (found["connected"], found["limits"]) == (True, {"monthlyUsd": 5})
    status, answer = await app_site.chat(user)
    assert status == 200, answer
    now = await page.evaluate("wattfare.status()")
    assert now["usage"]["monthlyUsd"] > 0


async def test_a_returning_payer_only_says_yes(page: Page, app_site: AppSite, user: str) -> None:
    """A browser that funded one connection allows the next with one click, nothing typed."""
    await payer.visit(page, app_site, user)
    await payer.connect_by_key(page)
    await payer.visit(page, app_site, user + "-again")
    popup = await payer.press_connect(page)
    await payer.allow(popup)
    assert (await payer.outcome(page))["connected"] is True
    assert (await app_site.chat(user + "-again"))[0] == 200


async def test_test_mode_needs_one_click_and_no_key(page: Page, app_site: AppSite, user: str) -> None:
    """With a test key the popup says so, needs no funding, and the simulator answers."""
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await expect(popup.get_by_text("Test mode")).to_be_visible()
    await payer.allow(popup)
    assert (await payer.outcome(page))["connected"] is True
    assert (await app_site.chat(user, mode="test"))[0] == 200


async def test_a_no_is_a_value(page: Page, app_site: AppSite, user: str) -> None:
    """Deny resolves to the not-connected status with its reason; nothing is thrown."""
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await payer.deny(popup)
    assert await payer.outcome(page) == {
        "connected": False,
        "limits": None,
        "usage": {"monthlyUsd": 0},
        "remainingUsd": 0,
        "reason": "denied",
    }


async def test_disconnect_ends_the_connection(page: Page, app_site: AppSite, user: str) -> None:
    """After disconnect() the next request of the app's backend is refused."""
    await payer.visit(page, app_site, user)
    await payer.connect_by_key(page)
    await page.evaluate("wattfare.disconnect()")
    status, answer = await app_site.chat(user)
    assert (status, answer["error"]["code"]) == (402, "not_connected")
    assert ["change", False] in await page.evaluate("events")
