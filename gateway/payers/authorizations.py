"""Pending OAuth authorizations at OpenRouter, from the redirect of a browser to the key issued for its code.

Rule: an authorization is valid only in the browser that started it, and its code is exchanged once. Its `state` is
stored as a digest, and the PKCE verifier never leaves this service. A wrong code does not use it up.
"""

import base64
import secrets
from dataclasses import dataclass, replace

import orjson

from gateway import keys
from gateway.digest import sha256_hex
from gateway.sealing import Sealer
from gateway.store.store import Store

# OpenRouter's code is valid for ten minutes after the approval; signing up there may take longer before that.
_LIFE_MS = 45 * 60 * 1000
# How long an issued key is kept while the payer chooses between two accounts.
_CHOICE_MS = 10 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Authorization:
    """One authorization. `state`: its id in the callback's path; `attempt`: the popup's, '' from the dashboard.

    `holder`: the browser that started it. `key`, `user_id`: issued for its code; '' and None before.
    """

    state: str
    holder: str
    verifier: str
    attempt: str
    key: str = ""
    user_id: str | None = None

    @property
    def is_issued(self) -> bool:
        """Whether its code was exchanged for a key."""
        return bool(self.key)


class Authorizations:
    """The store of pending authorizations."""

    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    async def begin(self, holder: str, attempt: str) -> Authorization:
        """Return a new authorization for a browser. Raises Unavailable."""
        begun = Authorization(secrets.token_urlsafe(32), holder, secrets.token_urlsafe(48), attempt)
        kept = orjson.dumps({"holder": holder, "verifier": begun.verifier, "attempt": attempt})
        await self._store.call("SET", _key(begun.state), kept, "PX", _LIFE_MS)
        return begun

    async def find(self, state: str, *holders: str) -> Authorization | None:
        """Return the authorization of `state`; None if another browser holds it. Raises SealBroken, Unavailable."""
        raw = await self._store.call("GET", _key(state))
        kept: dict[str, str] = orjson.loads(raw) if raw else {}
        if kept.get("holder") not in holders:
            return None
        found = Authorization(state, kept["holder"], kept["verifier"], kept["attempt"])
        if "issued" not in kept:
            return found
        issued = orjson.loads(self._sealer.open(base64.b64decode(kept["issued"]), place=_place(state)))
        return replace(found, key=issued["key"], user_id=issued["userId"])

    async def issue(self, begun: Authorization, key: str, user_id: str | None) -> Authorization | None:
        """Store the issued key until `end`; return None if another call already has. Raises Unavailable."""
        # Of two concurrent callbacks only one deletes the key.
        if await self._store.call("DEL", _key(begun.state)) != 1:
            return None
        sealed = self._sealer.seal(orjson.dumps({"key": key, "userId": user_id}).decode(), place=_place(begun.state))
        fields = {"holder": begun.holder, "verifier": begun.verifier, "attempt": begun.attempt}
        kept = orjson.dumps({**fields, "issued": base64.b64encode(sealed).decode()})
        await self._store.call("SET", _key(begun.state), kept, "PX", _CHOICE_MS)
        return replace(begun, key=key, user_id=user_id)

    async def end(self, begun: Authorization) -> None:
        """Delete it. Idempotent. Raises Unavailable."""
        await self._store.call("DEL", _key(begun.state))


def _key(state: str) -> str:
    return keys.authorization(sha256_hex(state))


def _place(state: str) -> str:
    return f"authorization:{sha256_hex(state)}"
