"""Rate limits of apps, browsers and payers on the consent flow, counted in Redis over all processes.

Rule: a refused call is not counted, nor is the repeat of an admitted one.
"""

import secrets

from gateway import keys
from gateway.errors import RateLimited
from gateway.payers.consent_request import Attempt, ConsentRequest
from gateway.store.store import Store

_MINUTE_MS = 60_000
# The contract's number: a token is valid for ten minutes, so a backend needs one for each arriving user.
SESSIONS_AN_APP = 120
# A person opens a handful of popups a minute. Counted by app and browser, so that no app uses up another's limit. Since
# anybody can fake new browsers by dropping the cookie, also counted by app user, whom the app's backend vouches for.
ATTEMPTS_A_BROWSER = 20
ATTEMPTS_A_USER = 20
# A pasted key is checked at OpenRouter: enough for typing errors, too few to search for keys.
# Counted by wallet or app user, which unlike a browser's cookie cannot be created at will.
KEYS_A_PAYER = 10
_KEYS_WINDOW_MS = 10 * _MINUTE_MS
# As many as attempts, since each may need one.
AUTHORIZATIONS_A_PAYER = 20
# A person decides on a few a minute; an app that requests more is pestering.
GRANTS_A_BROWSER = 6
# Anybody who knows a publishable key can create these, each with a fresh cookie, and each is stored for a day.
GRANTS_AN_APP = 300
_APP_TOO_OFTEN = "This app has asked too often. Nothing was allowed; it may ask again in a minute."
# Enough for mistakes and expired tabs. Guessing a 256-bit token is hopeless; this only bounds the load on Redis.
UNKNOWN_GRANTS_AN_APP = 60
# The second denial within a minute starts the cooldown: a single one may be a mistake. Five minutes are long enough to
# stop an app that requests again at once.
_DENIALS = 1
_COOLDOWN_MS = 5 * _MINUTE_MS


class RateLimits:
    """Counters of recent calls, and cooldowns. `cools_down`: whether cooldowns apply.

    They do not in development, where the developer of an app denies its requests all day.
    """

    def __init__(self, store: Store, *, cools_down: bool = True) -> None:
        self._store = store
        self._cools_down = cools_down

    async def admit_session(self, app_id: str) -> None:
        """Count a session token that an app's backend mints. Raises RateLimited, Unavailable."""
        message = f"At most {SESSIONS_AN_APP} sessions a minute for each app. Keep a token until it expires."
        await self._admit(keys.session_rate(app_id), SESSIONS_AN_APP, _MINUTE_MS, message=message)

    async def check_cooldown(self, requested: ConsentRequest, browser: str) -> None:
        """Refuse an attempt during the app's cooldown in this browser, with the `reason` `cooldown`.

        Raises RateLimited, Unavailable.
        """
        wait_ms = await self._store.call("PTTL", keys.cooldown(requested.app_id, browser))
        if wait_ms > 0:
            refused = _refusal(
                f"You refused this app twice. It may ask again in {_rounded_up(wait_ms, _MINUTE_MS)} min.", wait_ms
            )
            refused.fields["reason"] = "cooldown"
            raise refused

    async def admit_attempt(self, requested: ConsentRequest, browser: str) -> None:
        """Count an attempt in the browser of that digest. Raises RateLimited, Unavailable.

        Call it after the attempt's token was spent: otherwise one token could be counted against its user without end.
        """
        for what, whose, most in (
            ("attempts-browser", f"{requested.app_id}:{browser}", ATTEMPTS_A_BROWSER),
            ("attempts-user", requested.budget.name, ATTEMPTS_A_USER),
        ):
            await self._admit(keys.consent_rate(what, whose), most, _MINUTE_MS, call_id=requested.attempt_id)

    async def admit_grant(self, requested: ConsentRequest, browser: str) -> None:
        """Count a page's request for a grant. It needs no session, so the app's backend does not limit it.

        Raises RateLimited (with the `reason` `cooldown` for the browser's limit), Unavailable.
        """
        counted = keys.consent_rate("grants-app", requested.app_id)
        await self._admit(counted, GRANTS_AN_APP, _MINUTE_MS, call_id=requested.attempt_id)
        if not self._cools_down:
            return
        counted = keys.consent_rate("grants-browser", f"{requested.app_id}:{browser}")
        try:
            await self._admit(
                counted, GRANTS_A_BROWSER, _MINUTE_MS, call_id=requested.attempt_id, message=_APP_TOO_OFTEN
            )
        except RateLimited as refused:
            refused.fields["reason"] = "cooldown"
            raise

    async def note_unknown_grant(self, app_id: str) -> None:
        """Count a token that is no grant of that app; never refuses a grant. Raises RateLimited, Unavailable."""
        message = "This app has sent too many grant tokens that are none. Send the token that requestGrant() gave."
        await self._admit(
            keys.consent_rate("unknown-grants", app_id), UNKNOWN_GRANTS_AN_APP, _MINUTE_MS, message=message
        )

    async def admit_key(self, whose: str) -> None:
        """Count a check of a pasted key; `whose`: the app user's or wallet's name. Raises RateLimited, Unavailable."""
        await self._admit(keys.consent_rate("keys", whose), KEYS_A_PAYER, _KEYS_WINDOW_MS)

    async def admit_authorization(self, whose: str) -> None:
        """Count an authorization at OpenRouter; `whose`: the app user's, wallet's or browser's name.

        Raises RateLimited, Unavailable.
        """
        await self._admit(keys.consent_rate("authorize", whose), AUTHORIZATIONS_A_PAYER, _MINUTE_MS)

    async def note_denial(self, attempt: Attempt, browser: str) -> None:
        """Count a denial; the second within a minute starts the cooldown. Raises Unavailable."""
        if not self._cools_down:
            return
        app_id = attempt.requested.app_id
        counted = keys.consent_rate("denials", f"{app_id}:{browser}")
        if await self._store.run("rate", [counted], [_DENIALS, _MINUTE_MS, attempt.attempt_id]):
            await self._store.call("SET", keys.cooldown(app_id, browser), "1", "PX", _COOLDOWN_MS)

    async def _admit(
        self,
        counted: str,
        most: int,
        window_ms: int,
        *,
        call_id: str = "",
        message: str = "That was too often. Wait a moment and try again.",
    ) -> None:
        """Count a call under the key `counted`; one `call_id` counts once. Raises RateLimited, Unavailable."""
        wait_ms = await self._store.run("rate", [counted], [most, window_ms, call_id or secrets.token_hex(8)])
        if wait_ms:
            raise _refusal(message, wait_ms)


def _refusal(message: str, wait_ms: int) -> RateLimited:
    return RateLimited(message, retry_after_seconds=_rounded_up(wait_ms, 1000))


def _rounded_up(ms: int, unit_ms: int) -> int:
    """Return `ms` in units of `unit_ms`, rounded up."""
    return -(-ms // unit_ms)
