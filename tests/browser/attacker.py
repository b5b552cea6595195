"""What a hostile page does: opens the consent page itself, listens to everything, forges what it can."""

import secrets
from urllib.parse import urlencode

from playwright.async_api import Page

from tests.browser.app_site import AppSite


async def consent_url(site: AppSite, user: str, *, mode: str = "test", **more: str) -> tuple[str, str]:
    """Return a consent address with a valid token of the app, as a hostile backend could make it, and its nonce."""
    nonce = secrets.token_urlsafe(16)
    key = site.stack.keys["publishableKey" if mode == "live" else "testPublishableKey"]
    fields = {"v": "1", "k": key, "s": await site.token(user, mode=mode), "n": nonce, "t": "connect", **more}
    return f"{site.stack.consent}/consent#{urlencode(fields)}", nonce


async def open_window(page: Page, url: str) -> Page:
    """Open `url` from the page and return the window."""
    async with page.expect_popup() as opened:
        await page.evaluate("url => { open(url, '', 'popup,width=420,height=680') }", url)
    return await opened.value


# Answers every hello, as the SDK would if it were careless.
ANSWER_EVERYTHING = """
() => addEventListener('message', ({ source, data }) =>
  source?.postMessage({ ns: 'wattfare', v: 1, type: 'opener', nonce: data.nonce }, '*'))
"""

# What no side may stumble over.
FUZZ = """
(send) => {
  const nonce = globalThis.heard?.find(({ data }) => data?.nonce)?.data.nonce ?? 'x'
  const right = { ns: 'wattfare', v: 1, type: 'result', nonce, outcome: 'approved', status: { connected: true } }
  const wrong = [
    null, 0, '', 'hello', [], [right], new Date(), new Map([['ns', 'wattfare']]), 'x'.repeat(100000),
    { ...right, ns: 'Wattfare' }, { ...right, v: 2 }, { ...right, v: '1' }, { ...right, nonce: nonce + 'x' },
    { ...right, nonce: [nonce] }, { ...right, type: 'RESULT' }, { ...right, type: ['result'] },
    { ...right, outcome: 'yes' }, { ...right, outcome: ['approved'] }, { ...right, outcome: undefined },
    JSON.parse('{"__proto__": {"ns": "wattfare", "v": 1}, "nonce": "x"}'),
    { ns: 'wattfare', v: 1, type: 'opener', nonce: 'x' }, { ns: 'wattfare', v: 1, type: 'opener' },
  ]
  for (let round = 0; round < 45; round++) for (const message of wrong) send(message)
}
"""
