"""Logins: which browsers are logged in to which wallet, by a cookie and by a secret in our pages' local storage.

Rule: only the digests of both are stored. A cookie's value is valid until a newer one of its login was received,
because the response that sets the newer one may get lost.
Rule: the cookie alone permits viewing, lowering, pausing and stopping. Whatever raises the possible spend needs the
secret too, because a page on another port of the same host can read and set our cookies, but not read our storage.
"""

import asyncio
import hmac
import secrets
import time
from dataclasses import dataclass

from gateway import keys
from gateway.digest import sha256_hex
from gateway.store.replies import strings, text
from gateway.store.store import Store

# Browsers limit a cookie's life to 400 days (RFC 6265bis §5.5); its record in Redis expires with it.
VISIT_SECONDS = 400 * 24 * 60 * 60
# Lifetime of a login whose cookie was never received: an attempt's hour plus the day it is remembered, and a margin.
UNSEEN_SECONDS = 26 * 60 * 60
# How long a fresh proof of the account permits raises: enough for a few changes, too short for a lent laptop.
_PROOF_MS = 10 * 60 * 1000
# Longer than a decision takes on a slow Redis. The lock of a process that dies while deciding expires after this.
_TURN_MS = 20 * 1000
# The list of browsers shows days, so a write for each page view would be wasted.
_SEEN_EVERY_MS = 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Guest:
    """A calling browser: the digest of its secret ('' if it sent none), and a label such as `Firefox on Linux`."""

    secret_sha256: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """One call of a browser that is logged in to a wallet.

    `token`: the cookie's value. `device`: the login's id, which the wallet's budgets record. `wallet_ids`: the wallet
    and those merged into it. `is_trusted`: the browser also sent the secret of its login.
    """

    token: str
    wallet_id: str
    device: str
    wallet_ids: frozenset[str]
    is_trusted: bool


@dataclass(frozen=True, slots=True)
class Login:
    """One login as the payer sees it. Times in unix milliseconds; `seen_ms` is precise to an hour."""

    device: str
    label: str
    since_ms: int
    seen_ms: int


class Logins:
    """The store of logins."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def find(self, token: str, guest: Guest) -> Visit | None:
        """Return the visit for a cookie's value; None if it is not valid. Raises Unavailable."""
        fields = await self._hash(keys.visit(sha256_hex(token))) if token else {}
        if not fields:
            return None
        wallet_id, device = fields["wallet"], fields["device"]
        merged, key_sha256 = await self._store.call("HMGET", keys.wallet(wallet_id), "merged", "key_sha256")
        if merged:
            wallet_id = text(merged)
            key_sha256 = await self._store.call("HGET", keys.wallet(wallet_id), "key_sha256")
        login, absorbed = await asyncio.gather(
            self._hash(keys.login(wallet_id, device)), self._store.call("SMEMBERS", keys.wallet_absorbed(wallet_id))
        )
        bound_to = login.get("key_sha256", "")
        # Without `since_ms` the hash is the remainder of an ended login, recreated by a concurrent `_note_seen`.
        if "since_ms" not in login or (bound_to and bound_to != text(key_sha256 or b"")):
            return None
        await self._note_seen(token, wallet_id, device, fields.get("before", ""), int(login["seen_ms"]))
        wallet_ids = frozenset({wallet_id, *(text(one) for one in absorbed)})
        return Visit(token, wallet_id, device, wallet_ids, is_trusted=_is_same(login["secret_sha256"], guest))

    async def begin(self, wallet_id: str, guest: Guest, *, instead: Visit | None = None, key_sha256: str = "") -> Visit:
        """Return a new login to a wallet. Once its cookie was received it ends the login `instead`, if that is trusted:
        whoever stole or planted a cookie must not be able to end the owner's login with it.

        `key_sha256`: of the funding key that alone proved it; the login ends when the wallet pays with another key.
        Raises Unavailable.
        """
        device = secrets.token_hex(8)
        fields = {"secret_sha256": guest.secret_sha256, "label": guest.label, "key_sha256": key_sha256}
        await self._put(wallet_id, device, {**fields, "since_ms": str(_now_ms()), "seen_ms": "0"}, UNSEEN_SECONDS)
        own = instead if instead is not None and instead.is_trusted else None
        return await self._issue(wallet_id, device, frozenset({wallet_id}), own)

    async def renew(self, visit: Visit) -> Visit:
        """Return the same login with a new cookie value; the old one is valid until the new one was received.

        An untrusted visit is returned unchanged. Raises Unavailable.
        """
        if not visit.is_trusted:
            return visit
        return await self._issue(visit.wallet_id, visit.device, visit.wallet_ids, visit)

    async def move(self, visit: Visit, wallet_id: str) -> None:
        """Move a login to another wallet. Raises Unavailable."""
        fields = await self._hash(keys.login(visit.wallet_id, visit.device))
        if fields:
            await self._put(wallet_id, visit.device, fields, VISIT_SECONDS)

    async def end(self, wallet_id: str, device: str) -> None:
        """End a login: its cookies become invalid. Idempotent. Raises Unavailable."""
        await self._store.call("DEL", keys.login(wallet_id, device), keys.login_proof(wallet_id, device))
        await self._store.call("SREM", keys.wallet_logins(wallet_id), device)

    async def all(self, wallet_id: str) -> list[Login]:
        """Return the logins of a wallet, the latest seen first. Raises Unavailable."""
        found = await self._read_all(wallet_id)
        logins = [Login(device, one["label"], int(one["since_ms"]), int(one["seen_ms"])) for device, one in found]
        return sorted(logins, key=lambda one: -max(one.seen_ms, one.since_ms))

    async def bound(self, wallet_id: str) -> list[str]:
        """Return the ids of the logins that only a funding key proved. Raises Unavailable."""
        return [device for device, one in await self._read_all(wallet_id) if one.get("key_sha256")]

    async def unbind(self, visit: Visit) -> None:
        """Make a login independent of the key that proved it, after a stronger proof. Raises Unavailable."""
        await self._store.call("HDEL", keys.login(visit.wallet_id, visit.device), "key_sha256")

    async def bound_to(self, visit: Visit) -> str:
        """Return the digest of the funding key that alone proved a login, '' if it is not bound. Raises Unavailable."""
        return text(await self._store.call("HGET", keys.login(visit.wallet_id, visit.device), "key_sha256") or b"")

    async def bind(self, visit: Visit, key_sha256: str) -> None:
        """Make a login end when its wallet pays with a key other than this. Raises Unavailable."""
        await self._store.call("HSET", keys.login(visit.wallet_id, visit.device), "key_sha256", key_sha256)

    async def prove(self, visit: Visit) -> None:
        """Record that the payer has just proved to own the account. Raises Unavailable."""
        await self._store.call("SET", keys.login_proof(visit.wallet_id, visit.device), "1", "PX", _PROOF_MS)

    async def is_proved(self, visit: Visit) -> bool:
        """Return whether the payer proved to own the account within the last ten minutes. Raises Unavailable."""
        return bool(await self._store.call("EXISTS", keys.login_proof(visit.wallet_id, visit.device)))

    async def take_turn(self, visit: Visit) -> bool:
        """Acquire the wallet's lock for a decision that raises possible spend; False if taken. Raises Unavailable."""
        return bool(await self._store.call("SET", keys.wallet_turn(visit.wallet_id), "1", "NX", "PX", _TURN_MS))

    async def end_turn(self, visit: Visit) -> None:
        """Release the wallet's lock. Raises Unavailable."""
        await self._store.call("DEL", keys.wallet_turn(visit.wallet_id))

    async def _issue(self, wallet_id: str, device: str, wallet_ids: frozenset[str], instead: Visit | None) -> Visit:
        token = secrets.token_urlsafe(32)
        before = sha256_hex(instead.token) if instead is not None else ""
        key = keys.visit(sha256_hex(token))
        await self._store.call("HSET", key, "wallet", wallet_id, "device", device, "before", before)
        await self._store.call("EXPIRE", key, VISIT_SECONDS if instead is not None else UNSEEN_SECONDS)
        return Visit(token, wallet_id, device, wallet_ids, is_trusted=True)

    async def _put(self, wallet_id: str, device: str, fields: dict[str, str], seconds: int) -> None:
        key = keys.login(wallet_id, device)
        await self._store.call("HSET", key, *(part for pair in fields.items() for part in pair))
        await self._store.call("EXPIRE", key, seconds)
        await self._store.call("SADD", keys.wallet_logins(wallet_id), device)
        await self._store.call("EXPIRE", keys.wallet_logins(wallet_id), VISIT_SECONDS)

    async def _note_seen(self, token: str, wallet_id: str, device: str, before: str, seen_ms: int) -> None:
        """Record that a cookie was received, and invalidate the one it replaces."""
        digest = sha256_hex(token)
        if before:
            old = await self._hash(keys.visit(before))
            await self._store.call("DEL", keys.visit(before))
            if old and old["device"] != device:
                await self.end(old["wallet"], old["device"])
            await self._store.call("HDEL", keys.visit(digest), "before")
        if _now_ms() - seen_ms < _SEEN_EVERY_MS:
            return
        key = keys.login(wallet_id, device)
        await self._store.call("HSET", key, "seen_ms", _now_ms())
        for kept in (key, keys.visit(digest)):
            await self._store.call("EXPIRE", kept, VISIT_SECONDS)
        # XX: a wallet that has approved something never expires, and must not get an expiry here.
        await self._store.call("EXPIRE", keys.wallet(wallet_id), VISIT_SECONDS, "XX")

    async def _read_all(self, wallet_id: str) -> list[tuple[str, dict[str, str]]]:
        devices = sorted(text(one) for one in await self._store.call("SMEMBERS", keys.wallet_logins(wallet_id)))
        found = await asyncio.gather(*(self._hash(keys.login(wallet_id, device)) for device in devices))
        return [(device, one) for device, one in zip(devices, found, strict=True) if "since_ms" in one]

    async def _hash(self, key: str) -> dict[str, str]:
        return strings(await self._store.call("HGETALL", key))


def _is_same(secret_sha256: str, guest: Guest) -> bool:
    return bool(secret_sha256) and hmac.compare_digest(secret_sha256, guest.secret_sha256)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
