"""What only a browser shows of wallets: a secret that other ports cannot read, and the ways to prove and to choose."""

# ruff: noqa: N802 - the names carry the checklist's ids

import pytest
from playwright.async_api import BrowserContext, Page, expect

from gateway.services import Services
from tests.browser import payer
from tests.browser.app_site import AppSite

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def connected(page: Page, app_site: AppSite, user: str) -> str:
    """Connect a user by a key of their own, which is returned."""
    key = f"sk-or-v1-limit20-{user}"
    await payer.visit(page, app_site, user)
    assert (await payer.connect_by_key(page, key))["connected"] is True
    return key


async def test_W07_no_other_port_reads_the_secret_and_without_it_the_payer_proves_again(
    context: BrowserContext, page: Page, app_site: AppSite, user: str
) -> None:
    """The gateway's port of the same host has the cookies and no secret; a cookie alone brings no Allow."""
    key = await connected(page, app_site, user)
    other = await context.new_page()
    read = "localStorage.getItem('wattfare-secret')"
    await other.goto(f"{app_site.stack.consent}/funding")
    assert len(await other.evaluate(read)) == 43
    await other.goto(app_site.stack.gateway)
    assert await other.evaluate(read) is None
    # Another browser into which the cookies were planted: its own secret is a different one.
    await other.goto(f"{app_site.stack.consent}/funding")
    await other.evaluate("localStorage.clear()")
    await payer.visit(page, app_site, f"{user}-more")
    popup = await payer.press_connect(page)
    await payer.paste_key(popup, f"{key}-else")
    await expect(popup.get_by_role("alert").filter(has_text="····")).to_be_visible()
    await expect(payer.allow_button(popup)).to_have_count(0)
    await popup.get_by_label("OpenRouter key", exact=True).fill(key)
    await popup.get_by_role("button", name="Start another budget with this key").click()
    await payer.press_allow(popup)
    assert (await payer.outcome(page))["connected"] is True
    await other.goto(app_site.stack.consent)
    await expect(other.locator("[href$='/revoke']")).to_have_count(2)


async def test_W08_more_than_the_default_asks_for_a_proof_in_the_popup(
    page: Page, app_site: AppSite, services: Services, user: str
) -> None:
    """Allow for $50 leads to a proof of ownership and back to the question, where it counts at once."""
    key = await connected(page, app_site, user)
    async for name in services.store.each_key("wf:wallet:*:proof:*"):
        await services.store.call("DEL", name)
    await payer.visit(page, app_site, f"{user}-more")
    popup = await payer.press_connect(page)
    for is_proved in (False, True):
        await popup.get_by_label("Other").check(force=True)
        await popup.get_by_role("textbox").fill("50")
        await payer.press_allow(popup)
        if not is_proved:
            await expect(popup.get_by_text("prove that you are who pays")).to_be_visible()
            await payer.paste_key(popup, key)
    outcome = await payer.outcome(page)
    assert outcome["limits"] == {"monthlyUsd": 50}


async def test_W04_another_account_is_asked_about_in_its_window(page: Page, app_site: AppSite, user: str) -> None:
    """Replacing the key while OpenRouter has another account logged in: both choices are offered, the app is kept."""
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    first = "user_" + user.replace("-", "")
    await payer.authorize(popup, first)
    await payer.press_allow(popup)
    assert (await payer.outcome(page))["connected"] is True
    await page.goto(f"{app_site.stack.consent}/funding")
    before = await page.get_by_text("····").first.text_content()
    await page.get_by_role("link", name="Replace with OpenRouter").click()
    await page.get_by_label("Account").fill(f"{first}second")
    await page.get_by_role("button", name="Authorize").click()
    await expect(page.get_by_role("heading", name="Which budget do you mean?")).to_be_visible()
    await page.get_by_role("button", name="Keep this budget, pay with the new key").click()
    await page.wait_for_url("**/funding")
    assert await page.get_by_text("····").first.text_content() != before
    await page.goto(app_site.stack.consent)
    await expect(page.locator("[href$='/revoke']")).to_have_count(1)


async def test_W08_a_passkey_raises_a_cap(page: Page, app_site: AppSite, services: Services, user: str) -> None:
    """With Chromium's authenticator: a passkey registered on the dashboard proves ownership, and the cap is raised."""
    await connected(page, app_site, user)
    tool = await page.context.new_cdp_session(page)
    await tool.send("WebAuthn.enable")
    kind = {"protocol": "ctap2", "transport": "internal", "automaticPresenceSimulation": True}
    able = {"hasResidentKey": True, "hasUserVerification": True, "isUserVerified": True}
    await tool.send("WebAuthn.addVirtualAuthenticator", {"options": {**kind, **able}})
    await page.goto(f"{app_site.stack.consent}/passkeys")
    await page.get_by_role("button", name="Add a passkey").click()
    await expect(page.get_by_role("button", name="Remove")).to_have_count(1)
    async for name in services.store.each_key("wf:wallet:*:proof:*"):
        await services.store.call("DEL", name)
    await page.goto(app_site.stack.consent)
    await page.locator("a[href^='/apps/']").first.click()
    for is_proved in (False, True):
        await page.get_by_label("US dollars in 30 days").fill("50")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("button", name="Raise to $50").click()
        if not is_proved:
            await page.get_by_role("button", name="Use your passkey").click()
            await page.wait_for_url("**/apps/*")
    await expect(page.get_by_label("US dollars in 30 days")).to_have_value("50.00")
