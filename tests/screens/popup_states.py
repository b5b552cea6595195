"""Every state of the popup and of the windows it opens. A state that needs a fault gets it from the browser's side."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace

from playwright.async_api import Page, Route

from consent_web import texts
from gateway.payers.consent_request import ConsentRequest
from tests.screens.staging import APP_ORIGIN, POPUP, Staging, Step

FAULTS = (
    *("origin", "malformed", "auth", "spent", "elsewhere", "expired", "answered", "closed", "cookies", "cooldown"),
    *("rate_limited", "unavailable", "unknown", "return_url", "modes"),
)
WARNINGS = ("unchecked", "no_credit", "free", "low", "unlimited")
FUNDING_FAULTS = ("denied", "code", "key_refused", "key_management", "away")
# Names of apps. The server removes the direction-changing character (U+202E) from the second.
NAMES = {
    "long": "Donaudampfschifffahrtsgesellschaftskapitaensmuetzenverwaltung",
    "turned": "Notes \u202egnp.exe <b>& Friends</b>",
    "hebrew": "מחברות העבודה של המשפחה",
}
LONG_ORIGIN = "https://a-rather-long-subdomain.notes.department-of-everything.acme-international.example"
# The wait for an opener's answer is ended by the test, so that it does not end during an inspection.
_HOLD_LONG_TIMERS = """
const start = globalThis.setTimeout
globalThis.setTimeout = (act, ms, ...more) => (ms >= 5000 ? ((globalThis.giveUp ??= act), 0) : start(act, ms, ...more))
"""


async def faults(staging: Staging) -> None:
    """What the popup shows instead of the question."""
    page = staging.page
    for reason in FAULTS:
        await staging.refuse(reason)
        await staging.visit(staging.consent_url())
        await page.wait_for_selector(f"[data-state={reason}]")
        await staging.look(f"popup-fault-{reason}")
        await staging.normal()
    await page.route("**/consent/attempts*", lambda route: route.abort())
    await staging.visit(staging.consent_url())
    await page.wait_for_selector("[data-state=offline]")
    await staging.look("popup-fault-offline")
    await staging.normal()


async def openers(staging: Staging) -> None:
    """What opened the window: nothing, a page that never answers, one inside another page, one in a sandbox."""
    page = staging.page
    await page.route("**/consent.js", lambda route: route.abort())
    await staging.visit(staging.consent_url())
    await staging.look("popup-opening")
    await staging.normal()
    await staging.visit(f"{staging.site.origin}/consent")
    await page.wait_for_selector("[data-state=no_opener]")
    await staging.look("popup-no-opener")
    framed = "<iframe></iframe><iframe sandbox='allow-scripts allow-popups' src='/sandboxed'></iframe>"
    await page.route(f"{APP_ORIGIN}/**", lambda route: route.fulfill(body=framed, content_type="text/html"))
    await page.context.add_init_script(_HOLD_LONG_TIMERS)
    await page.goto(f"{APP_ORIGIN}/")
    popup = await _opened(staging, "window")
    await popup.page.wait_for_selector("[data-state=verifying]")
    await popup.look("popup-verifying")
    await popup.page.evaluate("giveUp()")
    await popup.page.wait_for_selector("[data-state=no_answer]")
    await popup.look("popup-no-answer")
    framed_popup = await _opened(staging, "frames[0]")
    await framed_popup.page.wait_for_selector("[data-state=framed]")
    await framed_popup.look("popup-framed")
    async with page.context.expect_page() as opened:
        url = staging.consent_url().replace("m=redirect", "m=popup")
        await page.frames[2].evaluate("url => void open(url)", url)
    sandboxed = replace(staging, page=await opened.value)
    await sandboxed.page.get_by_role("heading", name="Open this in a normal window").wait_for()
    await sandboxed.look("popup-sandboxed")


async def without_script(staging: Staging) -> None:
    """The pages of a browser that runs no script."""
    page, origin = staging.page, staging.site.origin
    await staging.without_script()
    for name, path in (("popup-noscript", "/consent"), ("fund-noscript", "/fund/start")):
        await page.goto(origin + path)
        await page.get_by_text("needs JavaScript").wait_for()
        await staging.look(name)


async def paying(staging: Staging) -> None:
    """Step 1 of 2, in the popup."""
    page = staging.page
    await staging.visit(staging.consent_url())
    await page.get_by_role("link", name="Continue with OpenRouter").wait_for()
    await staging.look("popup-no-funding")
    await page.get_by_role("button", name="Paste an OpenRouter key").click()
    await staging.look("popup-paste-key")
    await page.get_by_label("OpenRouter key").fill("sk-proj-nothing-of-openrouter")
    await page.get_by_role("button", name="Use this key").click()
    await page.get_by_role("alert").wait_for()
    await staging.look("popup-paste-key-refused")
    for fault in FUNDING_FAULTS:
        await staging.alter(lambda body, fault=fault: body.update(fault=fault))  # type: ignore[misc]
        await staging.visit(staging.consent_url())
        await page.get_by_role("alert").wait_for()
        await staging.look(f"popup-funding-{fault}")
        await staging.normal()


async def funding_windows(staging: Staging) -> None:
    """The waiting popup, and the window that goes to OpenRouter and returns."""
    page, origin = staging.page, staging.site.origin
    await staging.visit(staging.consent_url())
    async with page.context.expect_page() as opened:
        await page.get_by_role("link", name="Continue with OpenRouter").click()
    window = await opened.value
    await page.wait_for_selector("[data-state=funding-elsewhere]")
    await staging.look("popup-funding-elsewhere")
    await window.close()
    back = f"{origin}/fund/callback/{'x' * 43}?code=1"

    async def hold(route: Route) -> None:
        if route.request.method != "POST":
            await route.continue_()

    async def drop(route: Route) -> None:
        await (route.abort() if route.request.method == "POST" else route.continue_())

    async def save(route: Route) -> None:
        await route.fulfill(json={"attempt": "a" * 64})

    for name, url, posts, answer, heading in (
        ("fund-start", f"{origin}/fund/start", "**/fund/start", hold, "Going to OpenRouter"),
        ("fund-start-offline", f"{origin}/fund/start", "**/fund/start", drop, "offline"),
        ("fund-callback", back, "**/fund/finish", hold, "Saving your key"),
        ("fund-callback-saved", back, "**/fund/finish", save, "Your key is saved"),
        ("fund-callback-failed", back, "**/nowhere", hold, "No key was saved"),
    ):
        await page.route(posts, answer)
        await staging.visit(url)
        await page.get_by_role("heading", name=heading).wait_for()
        await staging.look(name)
        await staging.normal()


async def question(staging: Staging) -> None:
    """The question with its choices, for a first-time and a returning payer."""
    page = staging.page
    await _fund(staging)
    await staging.look("popup-review")
    await page.get_by_label("Other").check(force=True)
    await staging.look("popup-review-other")
    await page.get_by_label("Amount in US dollars").fill("0.2")
    await page.mouse.move(10, 10)
    await page.locator("[data-answer=allow][aria-disabled=false]").click()
    await staging.look("popup-review-other-refused")
    changes: dict[str, Callable[[dict[str, object]], None]] = {
        "label": lambda body: _put(body, "text", account="For your Acme Notes account “bob@example.com”."),
        "connected": lambda body: body.update(
            current={"text": "Connected now with $10.00 per month, $3.42 spent. Allowing replaces the cap."}
        ),
        "others": lambda body: body.update(
            current={"text": "You paused this app. Allowing lets it spend again, up to the cap you choose here."},
            others="Acme Notes may already spend up to $60.00 per month from you, for 3 other accounts.",
        ),
        "grant": _as_grant,
        "short": lambda body: _put(body, "funding", left="$1.20 left this month", leftUsd=1.2),
        "redirect": lambda body: body.update(isRedirect=True),
        "ending": lambda body: body.update(leftSeconds=119),
        "ending-for-good": lambda body: body.update(leftSeconds=119, mayExtend=False),
    }
    changes |= {
        f"warning-{name}": lambda body, name=name: _put(body, "funding", warning=name)  # type: ignore[misc]
        for name in WARNINGS
    }
    for name, change in changes.items():
        await staging.alter(change)
        await _ask(staging, f"popup-review-{name}", staging.consent_url())
        await staging.normal()
    await staging.alter(lambda body: body.update(leftSeconds=119))
    await staging.visit(staging.consent_url())
    await page.get_by_role("button", name="More time").click()
    await page.get_by_text("minutes more").wait_for()
    await staging.look("popup-review-extended")
    await staging.normal()


async def names(staging: Staging) -> None:
    """The question of apps with difficult names, at a long address; and in test mode."""
    await _fund(staging)
    for name, text in NAMES.items():
        one = await staging.of_app(text, LONG_ORIGIN)
        await _ask(one, f"popup-review-name-{name}", one.consent_url(origin=LONG_ORIGIN))
    for name, limit in (("test", None), ("test-cap", 20)):
        await _ask(staging, f"popup-review-{name}", staging.consent_url(mode="test", limit_usd=limit))


async def endings(staging: Staging) -> None:
    """Saving, approved, denied, going back to the app."""
    page = staging.page
    status = {"connected": True, "limits": {"monthlyUsd": 20}, "usage": {"monthlyUsd": 0}, "remainingUsd": 20}
    for state in ("approved", "denied"):
        result = {"outcome": state, "status": status}
        await staging.alter(lambda body, state=state, result=result: body.update(state=state, result=result))  # type: ignore[misc]
        await staging.visit(staging.consent_url(mode="test"))
        await page.wait_for_selector(f"[data-state={state}]")
        await staging.look(f"popup-{state}")
        await staging.normal()
    grant = {"lifeSeconds": 3600, "button": "", "said": "Up to 3 requests, at most $0.50, until {until}."}
    ended = {"outcome": "approved", "grantToken": "gr_test_x", "expiresAt": 1_800_000_000}
    await staging.alter(lambda body: body.update(state="approved", grant=grant, result=ended))
    await staging.visit(staging.consent_url(mode="test"))
    await page.wait_for_selector("[data-state=granted]")
    await staging.look("popup-granted")
    await staging.normal()
    await staging.visit(staging.consent_url(mode="test"))
    await page.locator("[data-answer=allow][aria-disabled=false]").wait_for()
    await page.route("**/approve", lambda _: asyncio.sleep(0))
    await page.mouse.move(20, 20)
    await page.locator("[data-answer=allow]").click()
    await page.get_by_role("button", name="Saving").wait_for()
    await staging.look("popup-saving")
    await staging.normal()
    await staging.alter(lambda body: body.update(state="held", redirect=f"{APP_ORIGIN}/"))
    # An empty response: the popup keeps its present page.
    await page.route(f"{APP_ORIGIN}/**", lambda route: route.fulfill(status=204))
    await staging.visit(staging.consent_url(mode="test"))
    await page.wait_for_selector("[data-state=returning]")
    await staging.look("popup-returning")


POPUP_STEPS: tuple[Step, ...] = (*(faults, openers, without_script, paying, funding_windows, question, names, endings),)


def _as_grant(body: dict[str, object]) -> None:
    """A grant's question, as composed by the server."""
    asked = ConsentRequest("live", "app", "", "nonce", APP_ORIGIN, 500_000_000, requests=3, life_ms=3_600_000)
    body.update(cap=None, current=None, text=texts.parts(asked, "Acme Notes", "localhost"))
    body.update(grant={"lifeSeconds": 3600, "button": texts.grant_button(asked), "said": texts.granted(asked)})


async def _opened(staging: Staging, opener: str) -> Staging:
    """Open a popup from the page and return the staging in it."""
    url = staging.consent_url().replace("m=redirect", "m=popup")
    async with staging.page.context.expect_page() as opened:
        await staging.page.evaluate(f"url => void {opener}.open(url)", url)
    popup: Page = await opened.value
    await popup.set_viewport_size({"width": POPUP[0], "height": POPUP[1]})
    return replace(staging, page=popup)


async def _fund(staging: Staging) -> None:
    """Fund with a pasted key, and wait for the question."""
    page = staging.page
    await staging.visit(staging.consent_url())
    await page.get_by_role("button", name="Paste an OpenRouter key").click()
    await page.get_by_label("OpenRouter key").fill(f"sk-or-v1-limit14.20-{secrets.token_hex(16)}")
    await page.get_by_role("button", name="Use this key").click()
    await page.locator("[data-answer=allow]").wait_for()


async def _ask(staging: Staging, name: str, url: str) -> None:
    """Show a question and look at it."""
    await staging.visit(url)
    await staging.page.locator("[data-answer=allow]").wait_for()
    await staging.look(name)


def _put(body: dict[str, object], part: str, **changes: object) -> None:
    inner = body[part]
    if isinstance(inner, dict):
        inner.update(changes)
