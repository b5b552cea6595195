"""Passkeys of wallets, and their open WebAuthn challenges.

Rule: a challenge is valid once, for the login that requested it and for the purpose it was made for.
"""

import secrets
from dataclasses import dataclass

import orjson

from gateway import keys
from gateway.payers.logins import Visit
from gateway.store.replies import strings, text
from gateway.store.store import Store

# Longer than an authenticator's own timeout (a minute or two).
_CHALLENGE_MS = 5 * 60 * 1000
# More than the devices of a person; bounds the storage of one wallet.
MOST = 10


@dataclass(frozen=True, slots=True)
class Passkey:
    """One passkey. `credential_id` and `public_key` (COSE) in base64url, `since_ms` in unix milliseconds.

    `key_sha256`: set if it was registered by a login that only a funding key had proved: it is valid while the wallet
    pays with that key; '' otherwise.
    """

    credential_id: str
    public_key: str
    sign_count: int
    label: str
    since_ms: int
    key_sha256: str = ""


class Passkeys:
    """The store of passkeys, by wallet."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def challenge(self, visit: Visit, purpose: str) -> bytes:
        """Return a new challenge for a login, replacing an earlier one of the same purpose. Raises Unavailable."""
        made = secrets.token_bytes(32)
        await self._store.call("SET", _challenge(visit, purpose), made.hex(), "PX", _CHALLENGE_MS)
        return made

    async def take_challenge(self, visit: Visit, purpose: str) -> bytes | None:
        """Return and delete the open challenge; None when there is none. Raises Unavailable."""
        found: bytes | None = await self._store.call("GETDEL", _challenge(visit, purpose))
        return bytes.fromhex(found.decode()) if found else None

    async def all(self, visit: Visit) -> list[Passkey]:
        """Return the valid passkeys of a wallet and of those merged into it, oldest first. Raises Unavailable."""
        found: list[Passkey] = []
        for wallet_id in visit.wallet_ids:
            kept = strings(await self._store.call("HGETALL", keys.wallet_passkeys(wallet_id)))
            found += [Passkey(**orjson.loads(one)) for one in kept.values()]
        paying: bytes | None = await self._store.call("HGET", keys.wallet(visit.wallet_id), "key_sha256")
        found = [one for one in found if one.key_sha256 in {"", text(paying or b"")}]
        return sorted(found, key=lambda one: one.since_ms)

    async def put(self, visit: Visit, passkey: Passkey) -> None:
        """Store a passkey, new or with a new sign count. Raises Unavailable."""
        kept = orjson.dumps({name: getattr(passkey, name) for name in Passkey.__slots__})
        await self._store.call("HSET", await self._place(visit, passkey.credential_id), passkey.credential_id, kept)

    async def remove(self, visit: Visit, credential_id: str) -> None:
        """Delete a passkey. Idempotent. Raises Unavailable."""
        await self._store.call("HDEL", await self._place(visit, credential_id), credential_id)

    async def _place(self, visit: Visit, credential_id: str) -> str:
        for wallet_id in visit.wallet_ids - {visit.wallet_id}:
            place = keys.wallet_passkeys(wallet_id)
            if await self._store.call("HEXISTS", place, credential_id):
                return place
        return keys.wallet_passkeys(visit.wallet_id)


def _challenge(visit: Visit, purpose: str) -> str:
    return keys.login_challenge(visit.wallet_id, visit.device, purpose)
