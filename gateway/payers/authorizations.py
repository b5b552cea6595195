"""Authorizations under way at OpenRouter: from the browser that sets out to the key that its code brought.

Rule: one comes back to the browser that set out, and its code is exchanged once. Its state is stored as a digest; the
PKCE verifier stays here. A wrong code uses nothing up.
"""

import base64
import secrets
from dataclasses import dataclass, replace

import orjson

from gateway import keys
from gateway.digest import sha256_hex
from gateway.sealing import Sealer
from gateway.store.store import Store

# OpenRouter's code lives ten minutes after the yes; signing up there comes before it.
_LIFE_MS = 45 * 60 * 1000
# A key that waits for the payer's choice between two accounts.
_CHOICE_MS = 10 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Authorization:
    """One authorization. `state` names it in the callback's path; `attempt` is the popup's, '' from the dashboard.

    `holder`: the browser that set out. `key`, `user_id`: what its code brought, '' and None before.
    """

    state: str
    holder: str
    verifier: str
    attempt: str
    key: str = ""
    user_id: str | None = None

    @property
    def is_issued(self) -> bool:
        """Whether its code was exchanged."""
        return bool(self.key)


class Authorizations:
    """The store of authorizations that are under way."""

    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    async def begin(self, holder: str, attempt: str) -> Authorization:
        """Return a new authorization of a browser. Raises Unavailable."""
        begun = Authorization(secrets.token_urlsafe(32), holder, secrets.token_urlsafe(48), attempt)
        kept = orjson.dumps({"holder": holder, "verifier": begun.verifier, "attempt": attempt})
        await self._store.call("SET", _key(begun.state), kept, "PX", _LIFE_MS)
        return begun

    async def find(self, state: str, *holders: str) -> Authorization | None:
        """Return what `state` stands for; None for another browser than `holders`. Raises SealBroken, Unavailable."""
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
        """Keep the key that a code brought until `end`; None where another call has done so. Raises Unavailable."""
        # Of two that came back at once one alone deletes it.
        if await self._store.call("DEL", _key(begun.state)) != 1:
            return None
        sealed = self._sealer.seal(orjson.dumps({"key": key, "userId": user_id}).decode(), place=_place(begun.state))
        said = {"holder": begun.holder, "verifier": begun.verifier, "attempt": begun.attempt}
        kept = orjson.dumps({**said, "issued": base64.b64encode(sealed).decode()})
        await self._store.call("SET", _key(begun.state), kept, "PX", _CHOICE_MS)
        return replace(begun, key=key, user_id=user_id)

    async def end(self, begun: Authorization) -> None:
        """Forget it. Idempotent. Raises Unavailable."""
        await self._store.call("DEL", _key(begun.state))


def _key(state: str) -> str:
    return keys.authorization(sha256_hex(state))


def _place(state: str) -> str:
    return f"authorization:{sha256_hex(state)}"
