"""Cross-Origin-Opener-Policy on either side (V1-V5, V7), and redirect mode as the alternative."""

# ruff: noqa: N802 (the numbers of the checklist are written as they stand there)

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.browser import payer
from tests.browser.app_site import AppSite

pytestmark = pytest.mark.asyncio(loop_scope="session")

HARMLESS = ["same-origin-allow-popups", "noopener-allow-popups", "restrict-properties"]


@pytest.mark.parametrize("coop", HARMLESS)
async def test_F03_V1_a_policy_that_allows_popups_keeps_the_opener(
    page: Page, app_site: AppSite, user: str, coop: str
) -> None:
    """With these policies the popup has its opener and the approval arrives by message."""
    await payer.visit(page, app_site, user, mode="test", coop=coop)
    popup = await payer.press_connect(page)
    await payer.press_allow(popup)
    assert (await payer.outcome(page))["connected"] is True


@pytest.mark.parametrize("coep", ["", "require-corp"])
async def test_F03_V2_an_isolated_page_leaves_and_comes_back(
    page: Page, app_site: AppSite, user: str, coep: str
) -> None:
    """COOP same-origin isolates the popup: the app's page redirects to the consent page and returns connected."""
    headers = {"coop": "same-origin", **({"coep": coep} if coep else {})}
    await payer.visit(page, app_site, user, **headers)
    await page.evaluate("history.replaceState(null, '', location.href + '&kept=1#chapter-2')")
    before = page.url
    await page.click("#connect")
    await page.wait_for_url(f"{app_site.stack.consent}/consent")
    await payer.paste_key(page)
    await payer.press_allow(page)
    await page.wait_for_url(re.compile("kept=1#chapter-2$"))
    assert page.url == before
    assert (await payer.outcome(page))["connected"] is True
    assert ["change", True] in await page.evaluate("events")
    assert (await app_site.chat(user))[0] == 200


async def test_F03_V2_popup_mode_says_why_it_cannot(page: Page, app_site: AppSite, user: str) -> None:
    """Where only a popup is allowed, a page that is cut off gets `coop_isolated`, not a false denial."""
    await payer.visit(page, app_site, user, coop="same-origin", connect="popup")
    popup = await payer.press_connect(page)
    await expect(popup.get_by_role("heading", name="This window lost its app")).to_be_visible()
    assert await payer.allow_button(popup).count() == 0
    assert (await payer.outcome(page))["error"] == "coop_isolated"


async def test_F03_V3_the_consent_page_sends_no_policy(page: Page, app_site: AppSite) -> None:
    """The popup's own page must not cut itself off; every other page of its site does."""
    consent = await page.goto(f"{app_site.stack.consent}/consent")
    elsewhere = await page.goto(f"{app_site.stack.consent}/nowhere")
    assert consent is not None
    assert elsewhere is not None
    assert "cross-origin-opener-policy" not in consent.headers
    assert elsewhere.headers["cross-origin-opener-policy"] == "same-origin"


async def test_F03_V4_a_popup_that_was_cut_off_cannot_approve(page: Page, app_site: AppSite, user: str) -> None:
    """A popup navigated over a page with COOP loses its opener for good: no Allow, and the server's outcome counts."""
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await payer.allow_button(popup).wait_for()
    await payer.go(popup, f"{app_site.stack.openrouter}/auth?callback_url=http://localhost:1/")
    await payer.go(popup, f"{app_site.stack.consent}/consent")
    assert not await payer.has_opener(popup)
    await expect(popup.get_by_role("heading", name="This window lost its app")).to_be_visible()
    assert await payer.allow_button(popup).count() == 0
    assert (await payer.outcome(page))["reason"] == "closed"
    assert (await app_site.status(user, mode="test"))["connected"] is False


async def test_F03_V5_funding_in_a_second_window_keeps_the_opener(page: Page, app_site: AppSite, user: str) -> None:
    """OpenRouter's page sends COOP and has no opener itself; the popup that opened it still has its opener."""
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    async with popup.context.expect_page() as opened:
        await popup.get_by_role("link", name="Continue with OpenRouter").click()
    window = await opened.value
    await window.get_by_role("button", name="Authorize").wait_for()
    assert not await payer.has_opener(window)
    async with window.expect_event("close"):
        await window.get_by_role("button", name="Authorize").click()
    await payer.allow_button(popup).wait_for()
    assert await payer.has_opener(popup)
    assert await page.evaluate("opened[0].closed") is False


async def test_F03_V7_document_isolation_keeps_popups(page: Page, app_site: AppSite, user: str) -> None:
    """The header we advise for SharedArrayBuffer: the page is isolated, and a popup works."""
    await payer.visit(page, app_site, user, mode="test", connect="popup", dip="isolate-and-credentialless")
    assert await page.evaluate("crossOriginIsolated") is True
    await payer.press_allow(await payer.press_connect(page))
    assert (await payer.outcome(page))["connected"] is True


async def test_a_no_by_redirect_is_a_value(page: Page, app_site: AppSite, user: str) -> None:
    """Deny in redirect mode returns with the reason, and the URL is cleaned up."""
    await payer.visit(page, app_site, user, connect="redirect")
    before = page.url
    await page.click("#connect")
    await page.get_by_role("button", name="Cancel").click()
    await page.wait_for_url(before)
    found = await payer.outcome(page)
    assert (found["connected"], found["reason"], found["resumed"]) == (False, "denied", True)


async def test_coming_back_by_the_back_button_is_a_close(page: Page, app_site: AppSite, user: str) -> None:
    """Back from the consent page without an answer: the app works as before, nothing is connected."""
    await payer.visit(page, app_site, user, connect="redirect")
    await page.click("#connect")
    await page.get_by_role("heading", name="would like to use").wait_for()
    await page.go_back()
    await page.wait_for_function("globalThis.ready")
    assert (await page.evaluate("wattfare.status()"))["connected"] is False


async def test_a_mailed_link_activates_nothing(
    browser: Browser, context: BrowserContext, app_site: AppSite, user: str
) -> None:
    """An attacker starts a redirect for their own account and mails its URL: the victim's approval connects nobody."""
    attacker = await context.new_page()
    # With another consent URL, this URL remains readable.
    await payer.visit(attacker, app_site, user, connect="redirect", consent=app_site.evil)
    await attacker.click("#connect")
    await attacker.wait_for_url("**/consent#**")
    mailed = attacker.url.replace(app_site.evil, app_site.stack.consent)
    victim_profile = await browser.new_context()
    victim = await victim_profile.new_page()
    await victim.goto(mailed)
    await payer.paste_key(victim)
    await payer.press_allow(victim)
    await victim.wait_for_url(f"{app_site.origin}/**")
    found = await payer.outcome(victim)
    assert (found["error"], found["resumed"]) == ("invalid_request", True)
    assert "wattfare_" not in victim.url
    # Nor can the attacker redeem it: their tab has the verifier but not the code.
    nonce = parse_qs(urlsplit(mailed).fragment)["n"][0]
    await attacker.goto(app_site.url(user=user, wattfare_attempt=nonce, wattfare_code="x" * 43))
    assert (await payer.outcome(attacker))["error"] == "auth"
    assert (await app_site.status(user))["connected"] is False
    assert (await app_site.chat(user))[0] == 402
    await victim_profile.close()
