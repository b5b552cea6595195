"""Wallets: the paying side, without an account of ours: a random id, its funding key, and the budgets it approved.

Rule: a funding key is sealed with its wallet as associated data. A pasted key gives no access to a wallet that already
uses it: each browser that pastes it gets a wallet of its own.
Rule: funding must not make a payer lose sight of their apps. If it would, it is refused, naming both keys.
Rule: budgets approved by a login that was cut off keep their old key; the new key does not pay for them.
"""

import hmac
import secrets
import time
from dataclasses import dataclass

from gateway import keys
from gateway.digest import sha256_hex
from gateway.errors import InvalidRequest, Unavailable
from gateway.keys import Budget
from gateway.ledger.events import Events
from gateway.owners import Grant
from gateway.payers.logins import UNSEEN_SECONDS, Guest, Logins, Visit
from gateway.sealing import Sealer
from gateway.store.replies import strings, text
from gateway.store.store import Store

# CONTRACT §4: a grant is valid for a day at most.
_LONGEST_GRANT_MS = 86_400_000
# Prefix of the login id of a budget whose login was cut off.
_CUT_OFF = "!"
SWITCH, KEEP = "switch", "keep"
"""A payer's answers to OtherWallet: switch to another wallet, or keep this one and pay with the new key."""


class OtherWallet(InvalidRequest):
    """409: this key would move the browser out of its wallet. The error names both keys, and the possible answers.

    `may_keep`: whether the wallet may be kept and pay with the new key.
    """

    def __init__(self, old_last4: str, new_last4: str, *, may_keep: bool) -> None:
        pays = f"that pays with the key ····{old_last4}" if old_last4 else "without a key"
        here = f"This browser holds an AI budget {pays}"
        message = (
            f"{here}. The key ····{new_last4} comes from another OpenRouter account."
            if may_keep
            else f"{here}, and has not proved that it may change it. Prove it with that very key or its OpenRouter "
            f"account, or start a budget of its own with ····{new_last4}: then this browser no longer shows the first."
        )
        ways = [KEEP, SWITCH] if may_keep else [SWITCH]
        super().__init__(message, status=409, fields={"reason": "other_wallet", "ways": ways})


@dataclass(frozen=True, slots=True)
class Funding:
    """Facts of a wallet's funding key: its last four characters, its source (oauth or pasted) and its SHA-256."""

    last4: str
    source: str
    key_sha256: str


class Wallets:
    """The store of wallets. `keep_ms`: how long ledgers are kept; ended grants stay listed accordingly."""

    def __init__(self, store: Store, sealer: Sealer, logins: Logins, *, keep_ms: int) -> None:
        self._store = store
        self._events = Events(store)
        self._keep_ms = keep_ms
        self._sealer = sealer
        self._logins = logins

    async def enter(self, guest: Guest) -> Visit:
        """Return a visit to a new wallet, which expires unless it is used. Raises Unavailable."""
        return await self._logins.begin(await self._create(), guest)

    async def fund_by_account(
        self, visit: Visit | None, guest: Guest, key: str, user_id: str | None, *, choice: str = ""
    ) -> Visit:
        """Store a key that OpenRouter has just issued to the account `user_id`, and log in to the account's wallet.

        The browser's own wallet is merged into it if no account owns that one and its owner has proved to be present.
        `choice`: the answer to OtherWallet. Raises OtherWallet, Unavailable.
        """
        account = "" if user_id is None else self._digest(user_id)
        known = await self._wallet_of(account)
        mine = await self._account_of(visit)
        fits = visit is not None and bool(account) and (mine == account or (not mine and await self._may_own(visit)))
        if visit is not None and visit.is_trusted and (not account or (not fits and choice == KEEP)):
            return await self._store_key(await self._logins.renew(visit), key, "oauth")
        if visit is not None and not fits and choice != SWITCH:
            await self._refuse_to_leave(visit, key)
        if visit is None or not fits:
            entered = await self._logins.begin(known or await self._create(), guest, instead=visit)
        elif not visit.is_trusted:
            entered = await self._logins.begin(visit.wallet_id, guest, instead=visit)
        elif known is None or known == visit.wallet_id:
            entered = await self._logins.renew(visit)
        else:
            entered = await self._merge(visit, known)
        if account:
            await self._store.call("SET", keys.identity("openrouter", account), entered.wallet_id)
            await self._store.call("HSET", keys.wallet(entered.wallet_id), "account", account)
            await self._logins.unbind(entered)
        await self._logins.prove(entered)
        return await self._store_key(entered, key, "oauth")

    async def fund_by_key(self, visit: Visit | None, guest: Guest, key: str, *, choice: str = "") -> Visit:
        """Store a pasted key: in the wallet of a trusted visit, else in a new wallet.

        Pasting the key that already pays logs in a browser that lost its secret. Raises OtherWallet, Unavailable.
        """
        held = await self.funding(visit.wallet_id) if visit is not None else None
        is_known = held is not None and hmac.compare_digest(held.key_sha256, sha256_hex(key))
        if visit is not None and not visit.is_trusted and is_known:
            entered = await self._logins.begin(visit.wallet_id, guest, instead=visit, key_sha256=sha256_hex(key))
            await self._prove_by_key(entered, key, held)
            return entered
        if visit is not None and visit.is_trusted:
            return await self._store_key(await self._logins.renew(visit), key, "pasted")
        if visit is not None and choice != SWITCH:
            await self._refuse_to_leave(visit, key)
        return await self._store_key(
            await self._logins.begin(await self._create(), guest, instead=visit), key, "pasted"
        )

    async def is_recoverable(self, visit: Visit) -> bool:
        """Return whether the wallet can be reached after this browser leaves it: by its account, or by another login.
        Raises Unavailable.
        """
        return bool(await self._account_of(visit)) or len(await self._logins.all(visit.wallet_id)) > 1

    async def funding(self, wallet_id: str) -> Funding | None:
        """Return the facts of a wallet's funding key; None without one. Raises Unavailable."""
        found = await self._store.call("HMGET", keys.wallet(wallet_id), "last4", "source", "key_sha256")
        return Funding(*(text(each) for each in found)) if found[0] else None

    async def funding_key(self, wallet_id: str) -> str | None:
        """Return the unsealed funding key, for one use; None without one. Raises SealBroken, Unavailable."""
        sealed = await self._store.call("HGET", keys.wallet(wallet_id), "funding")
        return self._sealer.open(sealed, place=keys.wallet_place(wallet_id)) if sealed else None

    async def remove_funding(self, visit: Visit) -> None:
        """Delete the key from the wallet and its connections, whose requests are then refused. Raises Unavailable."""
        await self.cut_off(visit)
        await self._store.call("HDEL", keys.wallet(visit.wallet_id), "funding", "last4", "source", "key_sha256")
        for name, device in (await self._listed(visit)).items():
            if not device.startswith(_CUT_OFF):
                await self._fund(Budget.parse(name), visit, b"")

    async def cut_off(self, visit: Visit) -> None:
        """End every other login that only the funding key proved. Budgets it approved keep their key.

        Raises Unavailable.
        """
        bound = set(await self._logins.bound(visit.wallet_id)) - {visit.device}
        for wallet_id in visit.wallet_ids:
            for name, device in (await self._hash(keys.wallet_budgets(wallet_id))).items():
                if device in bound:
                    await self._store.call("HSET", keys.wallet_budgets(wallet_id), name, _CUT_OFF + device)
        for device in bound:
            await self._logins.end(visit.wallet_id, device)

    async def add(self, visit: Visit, budget: Budget, *, attempt_id: str = "") -> None:
        """List a budget in the wallet. Call it before the budget is opened: whatever can spend must be listed.

        `attempt_id`: of an approval that the app has yet to redeem. Raises Unavailable.
        """
        if isinstance(budget.owner, Grant):
            await self._drop_old_grants(visit.wallet_id)
            await self._store.call("ZADD", keys.wallet_grants(visit.wallet_id), _now_ms(), budget.name)
        await self._store.call("HSET", keys.wallet_budgets(visit.wallet_id), budget.name, visit.device)
        if attempt_id:
            await self._store.call("HSET", keys.wallet_waiting(visit.wallet_id), attempt_id, budget.name)
        await self._store.call("PERSIST", keys.wallet(visit.wallet_id))

    async def _drop_old_grants(self, wallet_id: str) -> None:
        """Unlist grants whose ledger has expired. By age, because a listed grant may not be approved yet."""
        listed, expired_ms = keys.wallet_grants(wallet_id), _now_ms() - _LONGEST_GRANT_MS - 2 * self._keep_ms
        for name in await self._store.call("ZRANGE", listed, "-inf", expired_ms, "BYSCORE"):
            await self._store.call("HDEL", keys.wallet_budgets(wallet_id), name)
            await self._store.call("ZREM", listed, name)

    async def budgets(self, visit: Visit) -> list[Budget]:
        """Return the budgets listed in a wallet and in those merged into it. Raises Unavailable."""
        return [Budget.parse(name) for name in sorted(await self._listed(visit))]

    async def waiting(self, visit: Visit) -> list[str]:
        """Return the ids of redirect-mode attempts approved from a wallet that may await redemption.

        Raises Unavailable.
        """
        found: set[str] = set()
        for wallet_id in visit.wallet_ids:
            found |= set(await self._hash(keys.wallet_waiting(wallet_id)))
        return sorted(found)

    async def stop_waiting(self, visit: Visit, attempt_id: str) -> None:
        """Unlist an attempt that awaited redemption. Raises Unavailable."""
        for wallet_id in visit.wallet_ids:
            await self._store.call("HDEL", keys.wallet_waiting(wallet_id), attempt_id)

    async def _merge(self, visit: Visit, wallet_id: str) -> Visit:
        """Merge a visit's wallet into another one; the write of `merged` is the step that makes it effective."""
        await self._store.call("SADD", keys.wallet_absorbed(wallet_id), visit.wallet_id)
        await self._logins.move(visit, wallet_id)
        await self._store.call("HSET", keys.wallet(visit.wallet_id), "merged", wallet_id)
        await self._store.call("HDEL", keys.wallet(visit.wallet_id), "funding", "last4", "source", "key_sha256")
        await self._store.call("PERSIST", keys.wallet(visit.wallet_id))
        absorbed = await self._store.call("SMEMBERS", keys.wallet_absorbed(wallet_id))
        merged = Visit(
            visit.token,
            wallet_id,
            visit.device,
            frozenset({wallet_id, *(text(one) for one in absorbed)}),
            visit.is_trusted,
        )
        return await self._logins.renew(merged)

    async def _refuse_to_leave(self, visit: Visit, key: str) -> None:
        """Refuse to move a browser out of a wallet that lists budgets. Raises OtherWallet."""
        if not await self.budgets(visit):
            return
        held = await self.funding(visit.wallet_id)
        raise OtherWallet(held.last4 if held is not None else "", key[-4:], may_keep=visit.is_trusted)

    async def _may_own(self, visit: Visit) -> bool:
        """Return whether an account may take ownership of a wallet. An authorization alone is no proof: anybody at the
        browser can make one with an account of their own, so a wallet with a key needs a fresh proof.
        """
        if not visit.is_trusted:
            return False
        is_begun = await self._text("HGET", keys.wallet(visit.wallet_id), "proof_sha256")
        return not is_begun or await self._logins.is_proved(visit)

    async def _create(self) -> str:
        """Create a wallet. It expires unless its cookie is received, and never after it has approved something."""
        wallet_id = secrets.token_urlsafe(16)
        await self._store.call("HSET", keys.wallet(wallet_id), "created_ms", _now_ms())
        await self._store.call("EXPIRE", keys.wallet(wallet_id), UNSEEN_SECONDS)
        return wallet_id

    async def _account_of(self, visit: Visit | None) -> str:
        """Return the digest of the account that owns a visit's wallet; empty when none does."""
        return await self._text("HGET", keys.wallet(visit.wallet_id), "account") or "" if visit is not None else ""

    async def _wallet_of(self, account: str) -> str | None:
        """Return the wallet id of an account; None if it has none, or an expired one."""
        known = await self._text("GET", keys.identity("openrouter", account)) if account else None
        return known if known and await self._store.call("EXISTS", keys.wallet(known)) else None

    async def _store_key(self, visit: Visit, key: str, source: str) -> Visit:
        """Store the key in the wallet and in each of its active live-mode budgets."""
        wallet_id = visit.wallet_id
        held, bound_to = await self.funding(wallet_id), await self._logins.bound_to(visit)
        if held is not None and held.key_sha256 != sha256_hex(key):
            await self.cut_off(visit)
            # It is bound to the new key below. If Redis fails in between, the login must not end.
            await self._logins.unbind(visit)
        sealed = self._sealer.seal(key, place=keys.wallet_place(wallet_id))
        fields = ("funding", sealed, "last4", key[-4:], "source", source, "key_sha256", sha256_hex(key))
        await self._store.call("HSET", keys.wallet(wallet_id), *fields)
        if bound_to:
            await self._logins.bind(visit, sha256_hex(key))
        await self._prove_by_key(visit, key, held)
        for name, device in (await self._listed(visit)).items():
            budget = Budget.parse(name)
            if budget.mode == "live" and not device.startswith(_CUT_OFF):
                await self._fund(budget, visit, self._sealer.seal(key, place=budget.place))
        return visit

    async def _prove_by_key(self, visit: Visit, key: str, held: Funding | None) -> None:
        """Record a proof of ownership if this key is one: the wallet's first key, or the last key of a proven owner.
        Any other key that pays now is no evidence of who owns the wallet.

        `held`: the wallet's previous funding.
        """
        wallet, digest = keys.wallet(visit.wallet_id), sha256_hex(key)
        proving = await self._text("HGET", wallet, "proof_sha256") or (held.key_sha256 if held is not None else digest)
        if proving == digest:
            await self._logins.prove(visit)
        if await self._logins.is_proved(visit):
            await self._store.call("HSET", wallet, "proof_sha256", digest)

    async def _fund(self, budget: Budget, visit: Visit, sealed: bytes) -> None:
        await self._events.announce(budget)
        for wallet_id in sorted(visit.wallet_ids):
            args: list[str | bytes] = [wallet_id, sealed, secrets.token_hex(16)]
            await self._store.run("fund", [budget.budget, budget.history, budget.events], args)

    async def _listed(self, visit: Visit) -> dict[str, str]:
        listed: dict[str, str] = {}
        # The visit's own wallet last: a budget listed in two wallets was re-approved from that one.
        for wallet_id in sorted(visit.wallet_ids, key=lambda one: one == visit.wallet_id):
            listed |= await self._hash(keys.wallet_budgets(wallet_id))
        return listed

    async def _hash(self, key: str) -> dict[str, str]:
        return strings(await self._store.call("HGETALL", key))

    async def _text(self, command: str, *args: str) -> str | None:
        found: bytes | None = await self._store.call(command, *args)
        return text(found) if found else None

    def _digest(self, identity: str) -> str:
        if not self._store.salt:
            raise Unavailable
        return hmac.digest(self._store.salt, identity.encode(), "sha256").hex()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
