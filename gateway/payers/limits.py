"""How often an app, a browser or a payer may ask, counted in Redis over all processes.

Rule: a call that is refused is not counted, and neither is the repeat of one that was let through.
"""

import secrets

from gateway import keys
from gateway.errors import RateLimited
from gateway.payers.consent_request import Attempt, ConsentRequest
from gateway.store.store import Store

_MINUTE_MS = 60_000
# The contract's number: a token lives for ten minutes, so a backend needs one for each user that arrives.
SESSIONS_AN_APP = 120
# A person opens a handful of popups a minute. Counted for each app: no app uses up another one's, and anybody can make
# themselves a browser's cookie; for each user of an app too: its backend says who that is.
ATTEMPTS_A_BROWSER = 20
ATTEMPTS_A_USER = 20
# A pasted key is checked at OpenRouter: enough for slips, too few to search for keys.
# Counted for a wallet or an app's user: neither is made at will, as a browser's cookie is.
KEYS_A_PAYER = 10
_KEYS_WINDOW_MS = 10 * _MINUTE_MS
# As many as attempts: each may need one.
AUTHORIZATIONS_A_PAYER = 20
# A person decides on some a minute, and an app that asks again after each no is an app that insists.
GRANTS_A_BROWSER = 6
# Whoever knows a publishable key can make these up, each with a cookie of its own, and each is kept for a day.
GRANTS_AN_APP = 300
_ASKED_TOO_OFTEN = "This app has asked too often. Nothing was allowed; it may ask again in a minute."
# Slips of an app's pages and expired tabs. No number of tries finds a token of 256 bits; this keeps them out of Redis.
UNKNOWN_GRANTS_AN_APP = 60
# The second refusal within a minute starts the cooldown: one may be a slip. Five minutes outlast an app that insists.
_DENIALS = 1
_COOLDOWN_MS = 5 * _MINUTE_MS


class RateLimits:
    """The counters of recent calls and the cooldowns. `cools_down`: whether there are any of the latter.

    Not in development: who builds an app says no to it all day.
    """

    def __init__(self, store: Store, *, cools_down: bool = True) -> None:
        self._store = store
        self._cools_down = cools_down

    async def admit_session(self, app_id: str) -> None:
        """Let an app's backend mint a session token. Raises RateLimited, Unavailable."""
        said = f"At most {SESSIONS_AN_APP} sessions a minute for each app. Keep a token until it expires."
        await self._admit(keys.session_rate(app_id), SESSIONS_AN_APP, _MINUTE_MS, said=said)

    async def check_cooldown(self, asked: ConsentRequest, browser: str) -> None:
        """Refuse an attempt while the payer's refusals keep the app waiting, with the `reason` `cooldown`.

        Raises RateLimited, Unavailable.
        """
        wait_ms = await self._store.call("PTTL", keys.cooldown(asked.app_id, browser))
        if wait_ms > 0:
            refused = _refusal(
                f"You refused this app twice. It may ask again in {_rounded_up(wait_ms, _MINUTE_MS)} min.", wait_ms
            )
            refused.fields["reason"] = "cooldown"
            raise refused

    async def admit_attempt(self, asked: ConsentRequest, browser: str) -> None:
        """Let an attempt go on in the browser of that digest. Raises RateLimited, Unavailable.

        Call it when the attempt's token is spent: before that, one token counts without end against whoever it names.
        """
        for what, whose, most in (
            ("attempts-browser", f"{asked.app_id}:{browser}", ATTEMPTS_A_BROWSER),
            ("attempts-user", asked.budget.name, ATTEMPTS_A_USER),
        ):
            await self._admit(keys.consent_rate(what, whose), most, _MINUTE_MS, call_id=asked.attempt_id)

    async def admit_grant(self, asked: ConsentRequest, browser: str) -> None:
        """Let a page ask a browser for a grant: it needs no session, so no backend of the app's holds it back.

        Raises RateLimited, whose `reason` is `cooldown`, and Unavailable.
        """
        counted = keys.consent_rate("grants-app", asked.app_id)
        await self._admit(counted, GRANTS_AN_APP, _MINUTE_MS, call_id=asked.attempt_id)
        if not self._cools_down:
            return
        counted = keys.consent_rate("grants-browser", f"{asked.app_id}:{browser}")
        try:
            await self._admit(counted, GRANTS_A_BROWSER, _MINUTE_MS, call_id=asked.attempt_id, said=_ASKED_TOO_OFTEN)
        except RateLimited as refused:
            refused.fields["reason"] = "cooldown"
            raise

    async def note_unknown_grant(self, app_id: str) -> None:
        """Count a token that is no grant of that app; what is one is never refused for it. Raises RateLimited."""
        said = "This app has sent too many grant tokens that are none. Send the token that requestGrant() gave."
        await self._admit(keys.consent_rate("unknown-grants", app_id), UNKNOWN_GRANTS_AN_APP, _MINUTE_MS, said=said)

    async def admit_key(self, whose: str) -> None:
        """Let a pasted key be tried; `whose`: the app user's or the wallet's name. Raises RateLimited, Unavailable."""
        await self._admit(keys.consent_rate("keys", whose), KEYS_A_PAYER, _KEYS_WINDOW_MS)

    async def admit_authorization(self, whose: str) -> None:
        """Let an authorization at OpenRouter begin; `whose`: the app user's, the wallet's or the browser's name.

        Raises RateLimited, Unavailable.
        """
        await self._admit(keys.consent_rate("authorize", whose), AUTHORIZATIONS_A_PAYER, _MINUTE_MS)

    async def note_denial(self, attempt: Attempt, browser: str) -> None:
        """Count a refusal; the second within a minute starts the cooldown. Raises Unavailable."""
        if not self._cools_down:
            return
        app_id = attempt.asked.app_id
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
        said: str = "That was too often. Wait a moment and try again.",
    ) -> None:
        """Count a call under the key `counted`. A `call_id` counts once; without one each call counts."""
        wait_ms = await self._store.run("rate", [counted], [most, window_ms, call_id or secrets.token_hex(8)])
        if wait_ms:
            raise _refusal(said, wait_ms)


def _refusal(message: str, wait_ms: int) -> RateLimited:
    return RateLimited(message, retry_after_seconds=_rounded_up(wait_ms, 1000))


def _rounded_up(ms: int, unit_ms: int) -> int:
    """Return how many units cover so many milliseconds."""
    return -(-ms // unit_ms)
