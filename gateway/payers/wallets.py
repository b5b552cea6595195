"""Wallets: who pays, without an account. A random id behind a cookie, its funding key, and the connections it made.

Rule: a cookie's value is never stored, only its digest. A funding key is sealed to its wallet's place.
Rule: whoever merely holds the funding key may pay with it, but sees only what their own browser approved; the wallet's
own cookie or a fresh authorization by the same OpenRouter account opens all of it.
"""

import hmac
import secrets
from dataclasses import dataclass

from gateway import keys
from gateway.digest import sha256_hex
from gateway.errors import Unavailable
from gateway.keys import Budget
from gateway.sealing import Sealer
from gateway.store.replies import strings, text
from gateway.store.store import Store

# Browsers limit a cookie's life to 400 days (RFC 6265bis §5.5); the visit behind it ends with it.
VISIT_SECONDS = 400 * 24 * 60 * 60
OWNER, PAYER = "owner", "payer"


@dataclass(frozen=True, slots=True)
class Visit:
    """A browser that is in a wallet. `level`: owner (sees all of it) or payer (pays, sees its own connections).

    `token`: the cookie's value. `device`: one name over all visits of this browser; connections remember it.
    """

    token: str
    wallet_id: str
    level: str
    device: str


@dataclass(frozen=True, slots=True)
class Funding:
    """How a wallet pays, without the key: its last four characters, its source (oauth or pasted) and its SHA-256."""

    last4: str
    source: str
    key_sha256: str


class Wallets:
    """The store of wallets."""

    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    async def visit(self, token: str) -> Visit | None:
        """Return the visit that a cookie's value stands for. Raises Unavailable."""
        fields = await self._hash(keys.visit(sha256_hex(token))) if token else {}
        return Visit(token, fields["wallet"], fields["level"], fields["device"]) if fields else None

    async def enter(self, visit: Visit | None) -> Visit:
        """Return the same visit under a new cookie value, or without one a visit of a new wallet. Raises Unavailable.

        The old cookie value is not valid any more.
        """
        if visit is not None:
            return await self._begin(visit.wallet_id, visit.level, visit.device, leave=visit)
        wallet_id = secrets.token_urlsafe(16)
        await self._store.call("HSET", keys.wallet(wallet_id), "level", OWNER)
        return await self._begin(wallet_id, OWNER, secrets.token_hex(8))

    async def leave(self, visit: Visit) -> None:
        """End a browser's visit; the wallet and its connections stay. Raises Unavailable."""
        await self._store.call("DEL", keys.visit(sha256_hex(visit.token)))

    async def fund_by_account(self, visit: Visit | None, key: str, user_id: str | None) -> Visit:
        """Take a key that OpenRouter issued to `user_id` just now; the account's wallet is entered as its owner.

        A wallet that the browser owns, and that no other account owns, is merged into it. Raises Unavailable.
        """
        if user_id is None:
            return await self._funded(await self.enter(visit), key, "oauth")
        place = keys.identity("openrouter", self._digest(user_id))
        known = await self._text("GET", place)
        mine = await self._text("HGET", keys.wallet(visit.wallet_id), "account") if visit else None
        if known is None:
            ours = visit if visit is not None and visit.level == OWNER and mine is None else None
            entered = await self.enter(ours)
            if visit is not None and ours is None:
                await self.leave(visit)
            await self._store.call("SET", place, entered.wallet_id)
            await self._store.call("HSET", keys.wallet(entered.wallet_id), "account", self._digest(user_id))
        else:
            if visit is not None and visit.level == OWNER and mine is None and visit.wallet_id != known:
                await self._merge(visit.wallet_id, known)
            device = visit.device if visit is not None else secrets.token_hex(8)
            entered = await self._begin(known, OWNER, device, leave=visit)
        return await self._funded(entered, key, "oauth")

    async def fund_by_key(self, visit: Visit | None, key: str) -> Visit:
        """Take a pasted key. Without a visit, the wallet it already funds is entered as a payer. Raises Unavailable."""
        place = keys.identity("key", self._digest(key))
        known = await self._text("GET", place) if visit is None else None
        # Only while that very key still pays: a replaced one must not lead to the key that replaced it.
        if known is not None and await self._text("HGET", keys.wallet(known), "key_sha256") == sha256_hex(key):
            return await self._begin(known, PAYER, secrets.token_hex(8))
        if visit is not None and visit.level == PAYER:
            visit = None  # whoever only pays from a wallet does not change its funding
        entered = await self.enter(visit)
        await self._store.call("SET", place, entered.wallet_id, "NX")
        return await self._funded(entered, key, "pasted")

    async def funding(self, wallet_id: str) -> Funding | None:
        """Return how a wallet pays; None when it has no funding. Raises Unavailable."""
        found = await self._store.call("HMGET", keys.wallet(wallet_id), "last4", "source", "key_sha256")
        return Funding(*(text(each) for each in found)) if found[0] else None

    async def funding_key(self, wallet_id: str) -> str | None:
        """Return the funding key in clear, for one use. Raises SealBroken, Unavailable."""
        sealed = await self._store.call("HGET", keys.wallet(wallet_id), "funding")
        return self._sealer.open(sealed, place=keys.wallet_place(wallet_id)) if sealed else None

    async def remove_funding(self, visit: Visit) -> None:
        """Forget the key, here and in every connection of it: their requests are refused. Raises Unavailable."""
        await self._store.call("HDEL", keys.wallet(visit.wallet_id), "funding", "last4", "source", "key_sha256")
        for budget in await self.budgets(visit):
            await self._fund(budget, visit.wallet_id, b"")

    async def add(self, visit: Visit, budget: Budget) -> None:
        """List a connection in the wallet. Call it before the connection is opened: what can spend must be listed.

        Raises Unavailable.
        """
        await self._store.call("HSET", keys.wallet_budgets(visit.wallet_id), budget.name, visit.device)

    async def budgets(self, visit: Visit) -> list[Budget]:
        """Return the connections that this visit may see. Raises Unavailable."""
        listed = await self._hash(keys.wallet_budgets(visit.wallet_id))
        return [
            Budget.parse(name)
            for name, device in sorted(listed.items())
            if visit.level == OWNER or device == visit.device
        ]

    async def _funded(self, visit: Visit, key: str, source: str) -> Visit:
        """Keep the key in the wallet and give it to every living connection of it, but to none of test mode."""
        wallet_id = visit.wallet_id
        sealed = self._sealer.seal(key, place=keys.wallet_place(wallet_id))
        fields = ("funding", sealed, "last4", key[-4:], "source", source, "key_sha256", sha256_hex(key))
        await self._store.call("HSET", keys.wallet(wallet_id), *fields)
        for budget in await self.budgets(visit):
            if budget.mode == "live":
                await self._fund(budget, wallet_id, self._sealer.seal(key, place=budget.place))
        return visit

    async def _fund(self, budget: Budget, wallet_id: str, sealed: bytes) -> None:
        await self._store.run("fund", [budget.budget, budget.history], [wallet_id, sealed, secrets.token_hex(16)])

    async def _merge(self, old: str, new: str) -> None:
        for name, device in (await self._hash(keys.wallet_budgets(old))).items():
            await self._store.call("HSET", keys.wallet_budgets(new), name, device)
            await self._store.run("replace", [Budget.parse(name).budget], ["wallet", old, new])
        await self._store.call("DEL", keys.wallet(old))
        await self._store.call("DEL", keys.wallet_budgets(old))

    async def _begin(self, wallet_id: str, level: str, device: str, *, leave: Visit | None = None) -> Visit:
        visit = Visit(secrets.token_urlsafe(32), wallet_id, level, device)
        key = keys.visit(sha256_hex(visit.token))
        await self._store.call("HSET", key, "wallet", wallet_id, "level", level, "device", device)
        await self._store.call("EXPIRE", key, VISIT_SECONDS)
        if leave is not None:
            await self.leave(leave)
        return visit

    async def _hash(self, key: str) -> dict[str, str]:
        return strings(await self._store.call("HGETALL", key))

    async def _text(self, command: str, *args: str) -> str | None:
        found: bytes | None = await self._store.call(command, *args)
        return text(found) if found else None

    def _digest(self, identity: str) -> str:
        if not self._store.salt:
            raise Unavailable
        return hmac.digest(self._store.salt, identity.encode(), "sha256").hex()
