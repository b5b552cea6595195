"""Authorizations under way at OpenRouter: from the browser that sets out to the code that comes back.

Rule: one comes back once, to the browser that set out. Its state is stored as a digest; the PKCE verifier stays here.
"""

import secrets
from dataclasses import dataclass

import orjson

from gateway import keys
from gateway.digest import sha256_hex
from gateway.store.store import Store

# OpenRouter's code lives ten minutes after the yes; signing up there comes before it.
_LIFE_MS = 45 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Authorization:
    """One authorization. `state` names it in the callback's path; `attempt` is the popup's, '' from the dashboard."""

    state: str
    verifier: str
    attempt: str


class Authorizations:
    """The store of authorizations that are under way."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def begin(self, browser: str, attempt: str) -> Authorization:
        """Return a new authorization of the browser of that digest. Raises Unavailable."""
        begun = Authorization(secrets.token_urlsafe(32), secrets.token_urlsafe(48), attempt)
        kept = orjson.dumps({"browser": browser, "verifier": begun.verifier, "attempt": attempt})
        await self._store.call("SET", keys.authorization(sha256_hex(begun.state)), kept, "PX", _LIFE_MS)
        return begun

    async def take(self, state: str, browser: str) -> Authorization | None:
        """Return what `state` stands for, once; else None, as for another browser. Raises Unavailable."""
        key = keys.authorization(sha256_hex(state))
        raw = await self._store.call("GET", key)
        kept: dict[str, str] = orjson.loads(raw) if raw else {}
        if kept.get("browser") != browser:
            return None
        # Of two that came back at once one alone deletes it.
        if await self._store.call("DEL", key) != 1:
            return None
        return Authorization(state, kept["verifier"], kept["attempt"])
