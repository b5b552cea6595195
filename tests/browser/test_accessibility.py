"""axe-core finds nothing in any state of the popup, in light and dark, at three widths."""

import json
from functools import cache

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser import attacker, payer
from tests.browser.app_site import AppSite
from tests.browser.stack import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="session")

WIDTHS = (320, 360, 420)
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
REFUSALS = [
    *("origin", "auth", "spent", "elsewhere", "expired", "answered", "closed", "cookies", "cooldown"),
    *("rate_limited", "unavailable", "malformed", "unknown"),
]


@cache
def axe() -> str:
    return (ROOT / "node_modules/axe-core/axe.min.js").read_text()


async def check(page: Page) -> None:
    """Fail on any violation and on sideways scrolling."""
    await page.evaluate(axe())
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme="light" if scheme == "light" else "dark", reduced_motion="reduce")
        for width in WIDTHS:
            await page.set_viewport_size({"width": width, "height": 640})
            found = await page.evaluate("tags => axe.run({ runOnly: tags })", TAGS)
            seen = [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in found["violations"]]
            assert seen == [], (scheme, width)
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width


async def test_paying(page: Page, app_site: AppSite, user: str) -> None:
    """No funding yet: the choice, the open key field, a refused key, and the wait for OpenRouter's window."""
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await popup.get_by_role("heading", name="How do you want to pay?").wait_for()
    await check(popup)
    await payer.paste_key(popup, "nonsense")
    await expect(popup.get_by_role("alert").first).to_be_visible()
    await check(popup)
    async with popup.context.expect_page():
        await popup.get_by_role("link", name="Continue with OpenRouter").click()
    await popup.get_by_role("heading", name="Finish at OpenRouter").wait_for()
    await check(popup)


async def test_deciding(page: Page, app_site: AppSite, user: str) -> None:
    """The question with its funding, another amount, a wrong amount, and the yes."""
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await payer.paste_key(popup)
    await expect(payer.allow_button(popup)).to_have_attribute("aria-disabled", "false")
    await check(popup)
    await popup.get_by_role("radio", name="Other").check(force=True)
    await popup.get_by_label("Amount in US dollars per month").fill("none")
    await check(popup)
    await popup.get_by_role("radio", name="$2").first.check(force=True)
    await popup.evaluate("window.close = () => {}")
    await payer.press_allow(popup)
    await popup.get_by_role("heading", name="is connected").wait_for()
    await check(popup)


async def test_test_mode(page: Page, app_site: AppSite, user: str) -> None:
    """The question under the test banner, before Allow is ready and after; and the no."""
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await payer.allow_button(popup).wait_for()
    await check(popup)
    await popup.evaluate("window.close = () => {}")
    await popup.get_by_role("button", name="Don’t allow").click()
    await popup.get_by_role("heading", name="Not allowed").wait_for()
    await check(popup)


@pytest.mark.parametrize("reason", REFUSALS)
async def test_refusals(page: Page, app_site: AppSite, user: str, reason: str) -> None:
    """Every screen that says why nothing can be decided."""

    async def refuse(route: Route) -> None:
        error = {"code": "invalid_request", "reason": reason, "message": "Here stands what happened and what to do."}
        await route.fulfill(status=403, content_type="application/json", body=json.dumps({"error": error}))

    await page.context.route("**/consent/attempts", refuse)
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await popup.locator(f"[data-state={reason}]").wait_for()
    await check(popup)


async def test_offline(page: Page, app_site: AppSite, user: str) -> None:
    """The screen without a network, which offers to try again."""
    await page.context.route("**/consent/attempts", lambda route: route.abort())
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await popup.locator("[data-state=offline]").wait_for()
    await check(popup)
    await page.context.unroute("**/consent/attempts")
    await popup.get_by_role("button", name="Try again").click()
    await payer.allow_button(popup).wait_for()


async def test_without_an_opener(page: Page, app_site: AppSite, user: str) -> None:
    """A consent page that nobody opened."""
    url, _ = await attacker.consent_url(app_site, user)
    await page.goto(url)
    await page.locator("[data-state=no_opener]").wait_for()
    await check(page)


async def test_without_an_answer(page: Page, app_site: AppSite, user: str) -> None:
    """While the opener is asked, and when nobody answered."""
    url, _ = await attacker.consent_url(app_site, user)
    await page.goto(app_site.stack.gateway)
    popup = await attacker.open_window(page, url)
    await popup.locator("[data-state=verifying]").wait_for()
    await popup.locator("[data-state=no_answer]").wait_for(timeout=7000)
    await check(popup)


async def test_the_keyboard_alone_decides(page: Page, app_site: AppSite, user: str) -> None:
    """Tab reaches everything in the order of the page, Escape approves nothing, and Enter on Allow connects."""
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await expect(payer.allow_button(popup)).to_have_attribute("aria-disabled", "false")
    await popup.keyboard.press("Escape")
    reached: list[str] = []
    while "allow" not in reached and len(reached) < 20:
        await popup.keyboard.press("Tab")
        reached.append(await popup.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert reached[-2:] == ["Don’t allow", "allow"]
    await popup.keyboard.press("Enter")
    assert (await payer.outcome(page))["connected"] is True
