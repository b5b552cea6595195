"""How often one browser or one app may ask, and how often a payer may be asked."""

import secrets

from consent_web.guard import Browser
from consent_web.site import Site
from gateway import keys
from gateway.errors import RateLimited
from gateway.payers.attempts import Asked, Attempt

_MINUTE_MS = 60_000
# A person opens a handful of popups a minute; an app's page under load a few hundred.
ATTEMPTS_A_BROWSER = 20
ATTEMPTS_AN_APP = 300
# A pasted key is checked at OpenRouter: enough for slips, too few to search for keys.
KEYS_AN_ATTEMPT = 10
_KEYS_WINDOW_MS = 10 * _MINUTE_MS
AUTHORIZATIONS_A_BROWSER = 20
# Two refusals within a minute are a clear word; then the app may ask again after five.
_DENIALS = 1
_COOLDOWN_MS = 5 * _MINUTE_MS


async def admit_attempt(site: Site, browser: Browser, asked: Asked) -> None:
    """Let an attempt begin. Raises RateLimited, Unavailable."""
    wait_ms = await site.store.call("PTTL", keys.cooldown(asked.app_id, browser.digest))
    if wait_ms > 0:
        minutes = -(-wait_ms // _MINUTE_MS)
        refused = RateLimited(
            f"You refused this app twice. It may ask again in {minutes} min.", retry_after_seconds=-(-wait_ms // 1000)
        )
        refused.fields["reason"] = "cooldown"
        raise refused
    await _admit(site, "attempts-browser", browser.digest, ATTEMPTS_A_BROWSER, _MINUTE_MS, asked.attempt_id)
    await _admit(site, "attempts-app", asked.app_id, ATTEMPTS_AN_APP, _MINUTE_MS, asked.attempt_id)


async def admit_key(site: Site, whose: str) -> None:
    """Let a pasted key be tried. Raises RateLimited, Unavailable."""
    await _admit(site, "keys", whose, KEYS_AN_ATTEMPT, _KEYS_WINDOW_MS, secrets.token_hex(8))


async def admit_authorization(site: Site, browser: Browser) -> None:
    """Let an authorization at OpenRouter begin. Raises RateLimited, Unavailable."""
    await _admit(site, "authorize", browser.digest, AUTHORIZATIONS_A_BROWSER, _MINUTE_MS, secrets.token_hex(8))


async def note_denial(site: Site, browser: Browser, attempt: Attempt) -> None:
    """Count a refusal; the second within a minute starts the cooldown. Raises Unavailable."""
    app_id = attempt.asked.app_id
    key = keys.consent_rate("denials", f"{app_id}:{browser.digest}")
    if await site.store.run("rate", [key], [_DENIALS, _MINUTE_MS, attempt.attempt_id]):
        await site.store.call("SET", keys.cooldown(app_id, browser.digest), "1", "PX", _COOLDOWN_MS)


async def _admit(site: Site, what: str, whose: str, most: int, window_ms: int, call_id: str) -> None:
    wait_ms = await site.store.run("rate", [keys.consent_rate(what, whose)], [most, window_ms, call_id])
    if wait_ms:
        raise RateLimited("That was too often. Wait a moment and try again.", retry_after_seconds=-(-wait_ms // 1000))
