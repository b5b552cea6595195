"""What the popup shows of the app's account, how often it may open, and for how long."""

# ruff: noqa: N802 (the numbers of the checklist are written as they stand there)

import jwt
import pytest
from playwright.async_api import Page, Playwright, expect

from gateway import keys
from gateway.digest import sha256_hex
from gateway.services import Services
from tests.browser import payer
from tests.browser.app_site import AppSite
from tests.browser.conftest import CHROMIUM_FLAGS, WAIT_MS, chromium

pytestmark = pytest.mark.asyncio(loop_scope="session")

MINUTE_MS = 60_000


async def test_P07_the_popup_says_that_no_account_was_named(page: Page, app_site: AppSite, user: str) -> None:
    """Before Allow the payer reads that the app gave no account name."""
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await payer.allow_button(popup).wait_for()
    await expect(popup.get_by_text("For your account there; its name was not given.")).to_be_visible()


async def test_P07_the_popup_names_the_account_before_allow(
    page: Page, services: Services, app_site: AppSite, user: str
) -> None:
    """With a label in the token, the account's name is shown as text above the buttons."""
    claims = jwt.decode(await app_site.token(user, mode="test"), options={"verify_signature": False})
    kid, key = services.sessions._ring.newest
    label = "bob@acme.example <b>\u202eevil"
    token = jwt.encode({**claims, "userLabel": label}, key, algorithm="HS256", headers={"kid": kid})
    await page.route("**/token?**", lambda route: route.fulfill(json={"token": token}))
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await payer.allow_button(popup).wait_for()
    account = popup.get_by_text("For your Acme Notes account “bob@acme.example <b>evil”.", exact=True)
    await expect(account).to_be_visible()
    assert await account.evaluate(
        "(line, allow) => line.compareDocumentPosition(allow) & Node.DOCUMENT_POSITION_FOLLOWING",
        await payer.allow_button(popup).element_handle(),
    )


async def test_the_origin_is_never_smaller_than_the_name(page: Page, app_site: AppSite, user: str) -> None:
    """The verified origin is as large as the app's name, on both screens."""
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    for step in ("paying", "asking"):
        await popup.locator(".origin").wait_for()
        size = "(line) => parseFloat(getComputedStyle(line).fontSize)"
        assert await popup.locator(".origin").evaluate(size) >= await popup.locator(".name").evaluate(size)
        if step == "paying":
            await payer.paste_key(popup)
            await payer.allow_button(popup).wait_for()


async def test_a_cap_above_what_is_left_on_the_key_says_so(page: Page, app_site: AppSite, user: str) -> None:
    """With each choice anew."""
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await payer.paste_key(popup, f"sk-or-v1-limit3-{user}")
    said = popup.get_by_text("Only $3.00 left on this key, less than this cap.")
    await expect(said).to_be_visible()
    await popup.get_by_role("radio", name="$2").first.check(force=True)
    await expect(said).to_be_hidden()


async def test_a_refused_key_stays_in_its_field_with_the_reason_below(page: Page, app_site: AppSite, user: str) -> None:
    """It can be unmasked and corrected; one primary button at a time, no warning colour before the question."""
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await payer.paste_key(popup, "sk-or-nothing!")
    field = popup.get_by_label("OpenRouter key", exact=True)
    said = popup.get_by_role("alert")
    await expect(said).to_have_text("That is not an OpenRouter key. It starts with sk-or-.")
    assert await field.input_value() == "sk-or-nothing!"
    places = [await part.bounding_box() for part in (field, said)]
    assert places[0] is not None
    assert places[1] is not None
    assert 0 < places[1]["y"] - places[0]["y"] < 80
    assert await popup.locator(".act:visible").all_inner_texts() == ["Use this key"]
    await popup.get_by_role("button", name="Show").click()
    assert await field.evaluate("(field) => getComputedStyle(field).webkitTextSecurity") == "none"
    await field.fill(f"sk-or-v1-plain-{user}")
    await popup.get_by_role("button", name="Use this key").click()
    await payer.allow_button(popup).wait_for()
    assert await popup.locator(".warn:visible, .bad:visible").count() == 0


async def test_no_control_of_the_question_can_be_named_by_a_fragment(page: Page, app_site: AppSite, user: str) -> None:
    """The opener may set the window's fragment: no focusable element has an id or name that it could address."""
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await payer.paste_key(popup)
    await popup.get_by_label("Other").check(force=True)
    named = await popup.evaluate(
        "[...document.querySelectorAll('main :is(button, input, a, summary, select, textarea)')].map(({ id }) => id)"
    )
    assert len(named) > 6
    assert set(named) == {""}


async def test_what_was_not_in_view_cannot_be_allowed(page: Page, app_site: AppSite, user: str) -> None:
    """With large text the amount is below the edge: Allow arms, and says so, after it was scrolled into view."""
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await payer.paste_key(popup)
    await payer.allow_button(popup).wait_for()
    await popup.set_viewport_size({"width": 360, "height": 400})
    await popup.evaluate("document.documentElement.style.fontSize = '200%'")
    await popup.get_by_role("button", name="Change").click()
    await popup.get_by_role("button", name="Back").click()
    await expect(popup.get_by_text("Scroll to see all of it first.")).to_be_visible()
    for part in (popup.get_by_role("heading"), popup.get_by_role("group", name="Monthly cap")):
        await expect(payer.allow_button(popup)).to_have_attribute("aria-disabled", "true")
        await part.evaluate("(part) => part.scrollIntoView({ block: 'end' })")
        # Visibility is reported once a frame.
        await popup.evaluate("new Promise((seen) => requestAnimationFrame(() => requestAnimationFrame(seen)))")
    await expect(payer.allow_button(popup)).to_have_attribute("aria-disabled", "false")


async def test_I17_after_two_refusals_the_app_must_rest(
    page: Page, services: Services, app_site: AppSite, user: str
) -> None:
    """While an app must rest its window shows no question, another's does. In development no refusal starts a rest."""
    await payer.visit(page, app_site, user, mode="test")
    for count in (1, 2):
        await payer.deny(await payer.press_connect(page))
        assert (await payer.outcome(page, count))["reason"] == "denied"
    app_id = app_site.stack.keys["appId"]
    for cookie in await page.context.cookies(app_site.stack.consent):
        rest = keys.cooldown(app_id, sha256_hex(cookie["value"]))
        assert await services.store.call("EXISTS", rest) == 0
        await services.store.call("SET", rest, "1", "PX", MINUTE_MS)
    popup = await payer.press_connect(page)
    await expect(popup.get_by_role("heading", name="You said no twice")).to_be_visible()
    assert await payer.allow_button(popup).count() == 0
    await payer.close_window(popup)
    assert (await payer.outcome(page, 3))["reason"] == "cooldown"
    await payer.visit(page, app_site, user, mode="test", app="hostile")
    await payer.allow_button(await payer.press_connect(page)).wait_for()


async def test_time_is_told_two_minutes_ahead_and_can_be_had_again(page: Page, app_site: AppSite, user: str) -> None:
    """WCAG 2.2.1: a warning with a button; the choice is kept; Allow waits again, because the page has moved."""
    await page.clock.install()
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await payer.paste_key(popup)
    await popup.get_by_role("radio", name="$2").first.check(force=True)
    notice = popup.get_by_role("region", name="Time left")
    await popup.clock.fast_forward(57 * MINUTE_MS)
    await expect(notice).to_be_hidden()
    for _ in range(2):
        await popup.clock.fast_forward(MINUTE_MS + 30_000)
        await expect(notice.get_by_role("alert")).to_contain_text("Two minutes are left")
        await expect(payer.allow_button(popup)).to_have_attribute("aria-disabled", "true")
        await notice.get_by_role("button", name="More time").click()
        await expect(notice.get_by_role("alert")).to_have_text("You have 60 minutes more.")
        await popup.clock.fast_forward(57 * MINUTE_MS)
        await expect(notice).to_be_hidden()
    await payer.press_allow(popup)
    await page.wait_for_function("events.some(([name, told]) => name === 'change' && told === true)")
    assert (await app_site.status(user))["limits"] == {"monthlyUsd": 2}


async def test_F10_a_page_from_the_browsers_memory_looks_again(page: Page, app_site: AppSite, user: str) -> None:
    """Restored from the back-forward cache, the popup reloads its attempt, and Allow waits again."""
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await expect(payer.allow_button(popup)).to_have_attribute("aria-disabled", "false")
    async with popup.expect_response(lambda response: "/consent/attempts/" in response.url):
        await popup.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    await payer.press_allow(popup)
    assert (await payer.outcome(page))["connected"] is True


async def test_F10_chromium_keeps_no_copy_of_the_popup(
    playwright_driver: Playwright, app_site: AppSite, user: str
) -> None:
    """With its memory of pages on, Chromium loads the consent page anew, and brings the app's page back as it was."""
    flags = ["--disable-popup-blocking", "--disable-back-forward-cache"]
    running = await playwright_driver.chromium.launch(
        executable_path=chromium(), args=CHROMIUM_FLAGS, ignore_default_args=flags
    )
    context = await running.new_context()
    context.set_default_timeout(WAIT_MS)
    page = await context.new_page()
    await payer.visit(page, app_site, user, mode="test", connect="redirect")
    await page.click("#connect")
    await payer.allow_button(page).wait_for()
    await page.evaluate("globalThis.isOld = true")
    await payer.go(page, f"{app_site.stack.openrouter}/auth?callback_url=http://localhost:1/")
    await page.go_back()
    await payer.allow_button(page).wait_for()
    assert await page.evaluate("globalThis.isOld") is None
    why = await page.evaluate("performance.getEntriesByType('navigation')[0].notRestoredReasons.reasons")
    assert "response-cache-control-no-store" in [each["reason"] for each in why]
    # Playwright's own go_back waits for a load, which a page from memory does not have.
    await page.evaluate("setTimeout(() => history.back(), 0)")
    await page.wait_for_function("globalThis.outcomes?.length === 1")
    found = await page.evaluate("outcomes[0]")
    assert (found["connected"], found["reason"]) == (False, "closed")
    await running.close()


async def test_not_you_asks_again_where_nothing_leads_back(page: Page, app_site: AppSite, user: str) -> None:
    """With a pasted key that pays for an app, in one browser, "Not you?" warns of the loss, and Keep it keeps it."""
    await payer.visit(page, app_site, user)
    await payer.connect_by_key(page)
    await payer.visit(page, app_site, f"{user}-2")
    popup = await payer.press_connect(page)
    await popup.get_by_role("button", name="Not you?").click()
    await expect(popup.get_by_role("heading", name="Nothing could bring this budget back")).to_be_visible()
    await popup.get_by_role("button", name="Keep it").click()
    await payer.allow_button(popup).wait_for()
    await popup.get_by_role("button", name="Not you?").click()
    await popup.get_by_role("button", name="Leave it anyway").click()
    await popup.get_by_role("link", name="Continue with OpenRouter").wait_for()
