"""Attacks on the popup, each by its number in the checklist."""

# ruff: noqa: N802 (the numbers of the checklist are written as they stand there)

import json

import pytest
from playwright.async_api import BrowserContext, Page, Request, expect

from tests.browser import attacker, payer
from tests.browser.app_site import AppSite

pytestmark = pytest.mark.asyncio(loop_scope="session")

# A little longer than the consent page waits for its opener.
HELLO_MS = 5_100


async def test_P03_a_form_of_another_site_approves_nothing(
    context: BrowserContext, app_site: AppSite, user: str
) -> None:
    """A page that knows the attempt posts a form to its approval URL, with cookies: no connection."""
    page = await context.new_page()
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await payer.allow_button(popup).wait_for()
    attempt = await popup.evaluate("history.state.attempt")
    evil = await context.new_page()
    await payer.visit(evil, app_site, user, host=app_site.evil)
    action = f"{app_site.stack.consent}/consent/attempts/{attempt}/approve"
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        async with evil.expect_navigation():
            await evil.evaluate(
                """([action, enctype]) => {
                  const form = Object.assign(document.createElement('form'), { action, method: 'post', enctype })
                  const json = { name: '{"monthlyUsd":5,"a":"', value: '"}' }
                  form.append(Object.assign(document.createElement('input'), json))
                  document.body.append(form)
                  form.submit()
                }""",
                [action, kind],
            )
        await evil.go_back()
        await evil.wait_for_function("globalThis.ready")
    assert (await app_site.status(user, mode="test"))["connected"] is False


async def test_O01_an_origin_that_is_not_registered_never_sees_allow(page: Page, app_site: AppSite, user: str) -> None:
    """A page on another host, with a true token of the app and the app's own SDK, gets a refusal that names it."""
    await payer.visit(page, app_site, user, host=app_site.evil)
    popup = await payer.press_connect(page)
    await expect(popup.get_by_role("heading", name="This page cannot be verified")).to_be_visible()
    await expect(popup.get_by_text(app_site.evil)).to_be_visible()
    assert await payer.allow_button(popup).count() == 0
    assert (await app_site.status(user))["connected"] is False


async def test_O02_a_sandboxed_opener_has_no_origin(page: Page, app_site: AppSite, user: str) -> None:
    """A frame whose origin is "null" opens the consent page and answers it: no Allow."""
    await page.clock.install()
    url, _ = await attacker.consent_url(app_site, user)
    await payer.visit(page, app_site, user)
    await _add_frame(page, "allow-scripts allow-popups allow-popups-to-escape-sandbox")
    async with page.context.expect_page() as opened:
        await page.frames[1].evaluate(f"url => {{ ({attacker.ANSWER_EVERYTHING})(); open(url) }}", url)
    popup = await opened.value
    await page.frames[1].wait_for_function("heard.some(({ data }) => data.type === 'hello')")
    await popup.clock.fast_forward(HELLO_MS)
    await expect(popup.get_by_role("heading", name="Nobody answered for this request")).to_be_visible()
    assert await payer.allow_button(popup).count() == 0


async def test_O02_a_frame_opens_nothing_in_live_mode(page: Page, app_site: AppSite, user: str) -> None:
    """In live mode a framed page is refused before the handshake."""
    url, _ = await attacker.consent_url(app_site, user, mode="live")
    await payer.visit(page, app_site, user)
    await _add_frame(page, "allow-scripts allow-popups allow-popups-to-escape-sandbox")
    async with page.context.expect_page() as opened:
        await page.frames[1].evaluate(f"url => {{ ({attacker.ANSWER_EVERYTHING})(); open(url) }}", url)
    popup = await opened.value
    await expect(popup.get_by_role("heading", name="The app is inside another page")).to_be_visible()
    assert await payer.allow_button(popup).count() == 0


async def test_O02_a_whole_page_in_a_sandbox_has_no_origin(page: Page, app_site: AppSite, user: str) -> None:
    """Live mode, no frame: the app's own page sandboxed by its header answers as "null", which is not believed."""
    await page.clock.install()
    url, _ = await attacker.consent_url(app_site, user, mode="live")
    sandbox = "sandbox allow-scripts allow-popups allow-popups-to-escape-sandbox"
    await payer.visit(page, app_site, user, csp=sandbox)
    assert await page.evaluate("self.origin") == "null"
    await page.evaluate(attacker.ANSWER_EVERYTHING)
    popup = await attacker.open_window(page, url)
    await page.wait_for_function("heard.some(({ data }) => data.type === 'hello')")
    await popup.clock.fast_forward(HELLO_MS)
    await expect(popup.get_by_role("heading", name="Nobody answered for this request")).to_be_visible()
    assert await payer.allow_button(popup).count() == 0


async def test_O03_a_popup_that_inherits_a_sandbox_refuses(page: Page, app_site: AppSite, user: str) -> None:
    """Without allow-popups-to-escape-sandbox the consent page itself is sandboxed: it says so and calls no server."""
    url, _ = await attacker.consent_url(app_site, user)
    await payer.visit(page, app_site, user)
    await _add_frame(page, "allow-scripts allow-popups")
    asked: list[Request] = []
    page.context.on("request", lambda request: asked.append(request) if "/attempts" in request.url else None)
    async with page.context.expect_page() as opened:
        await page.frames[1].evaluate("url => { open(url) }", url)
    popup = await opened.value
    await expect(popup.get_by_role("heading", name="Open this in a normal window")).to_be_visible()
    assert asked == []


async def test_O04_an_opener_that_becomes_the_app_is_not_believed(page: Page, app_site: AppSite, user: str) -> None:
    """Evil opens the popup and then navigates itself to the registered app: the app's SDK stays silent."""
    await page.clock.install()
    # A live key: test keys take every loopback origin, and all hosts here are such.
    url, nonce = await attacker.consent_url(app_site, user, mode="live")
    await payer.visit(page, app_site, user, host=app_site.evil)
    popup = await attacker.open_window(page, url)
    await payer.go(page, app_site.url(user=user))
    await page.wait_for_function(f"heard.some(({{ data }}) => data.nonce === '{nonce}')")
    await popup.clock.fast_forward(HELLO_MS)
    await expect(popup.get_by_role("heading", name="Nobody answered for this request")).to_be_visible()
    assert await payer.allow_button(popup).count() == 0


async def test_O05_only_hello_goes_to_everyone(page: Page, app_site: AppSite, user: str) -> None:
    """An unregistered page receives only `hello` and the fault's code, which contain no secret."""
    url, nonce = await attacker.consent_url(app_site, user, mode="live")
    await payer.visit(page, app_site, user, host=app_site.evil)
    await page.evaluate(attacker.ANSWER_EVERYTHING)
    popup = await attacker.open_window(page, url)
    await expect(popup.get_by_role("heading", name="This page cannot be verified")).to_be_visible()
    heard = await page.evaluate("heard.map(({ data }) => data)")
    assert heard
    said = {"ns": "wattfare", "v": 1, "nonce": nonce}
    assert {json.dumps(message, sort_keys=True) for message in heard} <= {
        json.dumps({**said, "type": "hello"}, sort_keys=True),
        json.dumps({**said, "type": "fault", "reason": "origin"}, sort_keys=True),
    }


async def test_O06_neither_side_stumbles_over_forged_messages(page: Page, app_site: AppSite, user: str) -> None:
    """A thousand malformed messages in each direction cause no exception and no change; the approval still works."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    popup.on("pageerror", lambda error: faults.append(str(error)))
    await payer.allow_button(popup).wait_for()
    before = await popup.inner_html("body")
    await page.evaluate(f"({attacker.FUZZ})((message) => opened[0].postMessage(message, '*'))")
    await popup.evaluate(f"({attacker.FUZZ})((message) => opener.postMessage(message, '*'))")
    await popup.evaluate("new Promise((done) => setTimeout(done))")
    # The status line shows when Allow is armed; everything else is static.
    assert (await popup.inner_html("body")).partition('role="status"')[0] == before.partition('role="status"')[0]
    assert await page.evaluate("outcomes.length") == 0
    assert faults == []
    await payer.press_allow(popup)
    assert (await payer.outcome(page))["connected"] is True


async def test_O07_a_second_window_of_the_consent_site_is_not_heard(page: Page, app_site: AppSite, user: str) -> None:
    """Right origin, right nonce, wrong window: a forged yes from another window or from the page itself is ignored."""
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await payer.allow_button(popup).wait_for()
    nonce = await page.evaluate("heard.find(({ data }) => data.type === 'hello').data.nonce")
    forged = {
        "ns": "wattfare",
        "v": 1,
        "type": "result",
        "nonce": nonce,
        "outcome": "approved",
        "status": {"connected": True},
    }
    second = await attacker.open_window(page, f"{app_site.stack.consent}/consent")
    await second.evaluate("message => opener.postMessage(message, '*')", forged)
    await page.evaluate("message => postMessage(message, '*')", forged)
    await page.wait_for_function("heard.filter(({ data }) => data.type === 'result').length === 2")
    assert await page.evaluate("outcomes.length") == 0
    await payer.deny(popup)
    assert (await payer.outcome(page))["reason"] == "denied"


async def test_O08_a_page_that_moved_away_hears_nothing(page: Page, app_site: AppSite, user: str) -> None:
    """The app's tab navigates away before the approval: the result is not delivered there, but the server has it."""
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await payer.allow_button(popup).wait_for()
    await payer.go(page, app_site.url(user=user, host=app_site.evil))
    await page.wait_for_function("globalThis.ready")
    await payer.press_allow(popup)
    await expect(popup.get_by_role("heading", name="is connected")).to_be_visible()
    assert await page.evaluate("heard.filter(({ data }) => data?.type === 'result')") == []
    assert (await app_site.status(user, mode="test"))["connected"] is True


async def test_O08_a_popup_replaced_by_its_opener_ends_as_closed(page: Page, app_site: AppSite, user: str) -> None:
    """Whatever page is in the window, only the server decides: closing it is a close, and its messages are ignored."""
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await payer.allow_button(popup).wait_for()
    nonce = await page.evaluate("heard.find(({ data }) => data.type === 'hello').data.nonce")
    async with popup.expect_navigation():
        await page.evaluate("url => { opened[0].location = url }", app_site.url(user=user, host=app_site.evil))
    forged = {
        "ns": "wattfare",
        "v": 1,
        "type": "result",
        "nonce": nonce,
        "outcome": "approved",
        "status": {"connected": True},
    }
    await popup.evaluate("message => opener.postMessage(message, '*')", forged)
    await popup.close()
    found = await payer.outcome(page)
    assert (found["connected"], found["reason"]) == (False, "closed")


async def test_I01_the_consent_page_cannot_be_framed(page: Page, app_site: AppSite, user: str) -> None:
    """Inside another page the browser shows its own error, not ours."""
    await payer.visit(page, app_site, user)
    async with page.expect_event("framenavigated", lambda frame: frame.url.startswith("chrome-error:")):
        await page.evaluate(
            "src => { document.body.append(Object.assign(document.createElement('iframe'), { src })) }",
            f"{app_site.stack.consent}/consent",
        )
    assert len(page.frames) == 2


async def test_I02_allow_takes_no_hasty_click(page: Page, app_site: AppSite, user: str) -> None:
    """An immediate or scripted click does nothing; a key press after the wait approves."""
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    asked: list[str] = []
    popup.on("request", lambda request: asked.append(request.url))
    await payer.allow_button(popup).evaluate("() => void dispatchEvent(new Event('resize'))")
    await payer.allow_button(popup).click(force=True)
    await payer.allow_button(popup).evaluate("button => button.click()")
    await expect(payer.allow_button(popup)).to_have_attribute("aria-disabled", "false")
    await payer.allow_button(popup).evaluate("button => button.click()")
    assert [url for url in asked if url.endswith("/approve")] == []
    await payer.allow_button(popup).focus()
    await popup.keyboard.press("Enter")
    assert (await payer.outcome(page))["connected"] is True
    assert len([url for url in asked if url.endswith("/approve")]) == 1


async def test_I03_scripts_cannot_be_slipped_in(page: Page, app_site: AppSite, user: str) -> None:
    """Trusted Types and the policy hold in the page itself: markup from strings throws, inline script does not run."""
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await payer.allow_button(popup).wait_for()
    for attempt in (
        "document.body.innerHTML = '<b>x</b>'",
        "document.write('x')",
        "document.createElement('script').text = '1'",
        "document.createElement('a').setAttribute('onclick', '1')",
        "trustedTypes.createPolicy('x', { createHTML: (text) => text })",
    ):
        assert await popup.evaluate(f"(() => {{ try {{ {attempt}; return false }} catch {{ return true }} }})()"), (
            attempt
        )


async def test_I04_a_hostile_name_is_text(page: Page, app_site: AppSite, user: str) -> None:
    """An app's name that is markup, and too long, is shown as short plain text."""
    await payer.visit(page, app_site, user, mode="test", app="hostile")
    popup = await payer.press_connect(page)
    await payer.allow_button(popup).wait_for()
    assert await popup.evaluate("globalThis.pwned") is None
    assert await popup.locator("img").count() == 0
    name = await popup.locator(".name").inner_text()
    assert name.startswith("<img src=x")
    assert len(name) <= 48


async def test_I06_the_token_goes_nowhere_but_to_its_server(page: Page, app_site: AppSite, user: str) -> None:
    """The token arrives by message: it is in no URL, Referer, storage or history."""
    seen: list[Request] = []
    page.context.on("request", lambda request: seen.append(request))  # noqa: PLW0108 (Playwright marks the function)
    await payer.visit(page, app_site, user, mode="test")
    popup = await payer.press_connect(page)
    await payer.allow_button(popup).wait_for()
    assert await popup.evaluate("[location.href, history.length]") == [f"{app_site.stack.consent}/consent", 1]
    kept = "history.state, {...localStorage}, {...sessionStorage}, name, performance.getEntriesByType('navigation')[0]"
    assert "eyJ" not in await popup.evaluate(f"JSON.stringify([{kept}])")
    await payer.press_allow(popup)
    await payer.outcome(page)
    for request in seen:
        assert "eyJ" not in request.url
        headers = await request.all_headers()
        assert "eyJ" not in headers.get("referer", "")
        if "eyJ" in (request.post_data or ""):
            assert request.url == f"{app_site.stack.consent}/consent/attempts"
        if "eyJ" in headers.get("authorization", ""):
            assert request.url.startswith(f"{app_site.stack.gateway}/")


async def test_I07_the_popup_asks_nobody_else_and_breaks_no_rule_of_its_own(
    context: BrowserContext, app_site: AppSite, user: str
) -> None:
    """During a first connect every request goes to the site itself, and its CSP is never violated."""
    asked: list[str] = []
    violations: list[str] = []
    await context.add_init_script(
        "addEventListener('securitypolicyviolation', (event) => console.error('CSP ' + event.violatedDirective))"
    )
    context.on("console", lambda message: violations.append(message.text) if "CSP" in message.text else None)
    page = await context.new_page()
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    popup.on("request", lambda request: asked.append(request.url))
    await payer.authorize(popup, "user_" + user.replace("-", ""))
    await payer.press_allow(popup)
    await payer.outcome(page)
    assert asked
    assert [url for url in asked if not url.startswith(f"{app_site.stack.consent}/")] == []
    assert violations == []


async def test_I09_the_popup_steers_no_other_window(page: Page, app_site: AppSite, user: str) -> None:
    """The app's page does not navigate, and OpenRouter's window has no reference to ours."""
    await payer.visit(page, app_site, user)
    before = page.url
    popup = await payer.press_connect(page)
    async with popup.context.expect_page() as opened:
        await popup.get_by_role("link", name="Continue with OpenRouter").click()
    window = await opened.value
    await window.get_by_role("button", name="Deny").wait_for()
    assert not await payer.has_opener(window)
    await window.get_by_role("button", name="Deny").click()
    await expect(popup.get_by_role("alert")).to_contain_text("OpenRouter")
    await payer.deny(popup)
    await payer.outcome(page)
    assert page.url == before


async def test_I11_the_opener_learns_nothing_from_the_window(page: Page, app_site: AppSite, user: str) -> None:
    """A known payer's window and a stranger's are indistinguishable to the opener: no frames, no readable URL."""
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    await popup.get_by_role("heading", name="would like to use").wait_for()
    look = """() => {
      const [child] = opened
      let read = 'no'
      try { read = child.document.title } catch {}
      return [child.length, child.closed, read]
    }"""
    stranger = await page.evaluate(look)
    await payer.paste_key(popup)
    await payer.allow_button(popup).wait_for()
    assert await page.evaluate(look) == stranger == [0, False, "no"]


async def test_I13_a_pasted_key_is_never_seen_again(page: Page, app_site: AppSite, user: str) -> None:
    """The field hides and forgets it; no answer, address, page or storage holds more than its last four characters."""
    key = "sk-or-v1-limit20-canary8731"
    addresses: list[str] = []
    await payer.visit(page, app_site, user)
    popup = await payer.press_connect(page)
    popup.on("request", lambda request: addresses.append(request.url))
    await popup.get_by_role("button", name="Paste an OpenRouter key").click()
    field = popup.get_by_label("OpenRouter key", exact=True)
    for name, value in (("type", "text"), ("autocomplete", "off"), ("spellcheck", "false")):
        assert await field.get_attribute(name) == value
    await field.fill(key)
    assert await field.evaluate("(field) => getComputedStyle(field).webkitTextSecurity") == "disc"
    async with (
        popup.expect_response("**/key") as saved,
        popup.expect_response(lambda response: response.request.method == "GET") as shown,
    ):
        await popup.get_by_role("button", name="Use this key").click()
    answers = [await (await answer.value).text() for answer in (saved, shown)]
    await payer.allow_button(popup).wait_for()
    storage = "[history.state, {...localStorage}, {...sessionStorage}, document.cookie]"
    stored = await popup.evaluate(f"JSON.stringify({storage})")
    content = await popup.content()
    assert key[-4:] in content
    for text in (*addresses, *answers, content, stored):
        assert key[:-4] not in text
        assert "canary" not in text


async def _add_frame(page: Page, sandbox: str) -> None:
    """Put a sandboxed frame of the app's own page into it."""
    async with page.expect_event("frameattached") as attached:
        await page.evaluate(
            """([sandbox, src]) => {
              const frame = document.createElement('iframe')
              frame.sandbox = sandbox
              frame.src = src
              document.body.append(frame)
            }""",
            [sandbox, page.url],
        )
    frame = await attached.value
    await frame.wait_for_function("globalThis.ready")
