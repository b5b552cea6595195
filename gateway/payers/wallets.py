"""Wallets: who pays, without an account. A random id, its funding key, and the connections it made.

Rule: a funding key is sealed to its wallet's place. A pasted key opens no wallet: whoever has one pays from a wallet
of their own.
Rule: no act of funding takes a payer's apps out of their sight. Where it would, it is refused with both keys named.
Rule: a budget that a cut off stay approved keeps the key it had; the key that replaced it does not pay for that.
"""

import hmac
import secrets
import time
from dataclasses import dataclass

from gateway import keys
from gateway.digest import sha256_hex
from gateway.errors import InvalidRequest, Unavailable
from gateway.keys import Budget
from gateway.owners import Grant
from gateway.payers.logins import UNSEEN_SECONDS, Guest, Logins, Visit
from gateway.sealing import Sealer
from gateway.store.replies import strings, text
from gateway.store.store import Store

# CONTRACT §4: a grant lives a day at most.
_LONGEST_GRANT_MS = 86_400_000
# Before the name of the stay that approved a budget: that stay was cut off.
_CUT_OFF = "!"
SWITCH, KEEP = "switch", "keep"
"""What a payer may answer to OtherWallet: leave this wallet for another one; keep it, and pay with the new key."""


class OtherWallet(InvalidRequest):
    """409: this key would take the browser out of its wallet. The error names the keys of both, and the ways to go on.

    `may_keep`: whether the wallet may be kept and paid with the new key.
    """

    def __init__(self, old_last4: str, new_last4: str, *, may_keep: bool) -> None:
        pays = f"that pays with the key ····{old_last4}" if old_last4 else "without a key"
        here = f"This browser holds an AI budget {pays}"
        said = (
            f"{here}. The key ····{new_last4} comes from another OpenRouter account."
            if may_keep
            else f"{here}, and has not proved that it may change it. Prove it with that very key or its OpenRouter "
            f"account, or start a budget of its own with ····{new_last4}: then this browser no longer shows the first."
        )
        ways = [KEEP, SWITCH] if may_keep else [SWITCH]
        super().__init__(said, status=409, fields={"reason": "other_wallet", "ways": ways})


@dataclass(frozen=True, slots=True)
class Funding:
    """How a wallet pays, without the key: its last four characters, its source (oauth or pasted) and its SHA-256."""

    last4: str
    source: str
    key_sha256: str


class Wallets:
    """The store of wallets. `keep_ms`: how long ledgers are kept, and so long the list of a wallet's grants."""

    def __init__(self, store: Store, sealer: Sealer, logins: Logins, *, keep_ms: int) -> None:
        self._store = store
        self._keep_ms = keep_ms
        self._sealer = sealer
        self._logins = logins

    async def enter(self, guest: Guest) -> Visit:
        """Return a visit of a new wallet, which expires unless it is used. Raises Unavailable."""
        return await self._logins.begin(await self._create(), guest)

    async def fund_by_account(
        self, visit: Visit | None, guest: Guest, key: str, user_id: str | None, *, way: str = ""
    ) -> Visit:
        """Take a key that OpenRouter issued to `user_id` just now.

        The account's wallet is entered; one that this browser holds, that no account owns, and whose owner has proved
        to be here, is merged into it.
        `way`: the answer to OtherWallet. Raises OtherWallet, Unavailable.
        """
        account = "" if user_id is None else self._digest(user_id)
        known = await self._wallet_of(account)
        mine = await self._account_of(visit)
        fits = visit is not None and bool(account) and (mine == account or (not mine and await self._may_own(visit)))
        if visit is not None and visit.is_trusted and (not account or (not fits and way == KEEP)):
            return await self._store_key(await self._logins.renew(visit), key, "oauth")
        if visit is not None and not fits and way != SWITCH:
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

    async def fund_by_key(self, visit: Visit | None, guest: Guest, key: str, *, way: str = "") -> Visit:
        """Take a pasted key: for the wallet that the browser proves to hold, else for a new one.

        The key that already pays proves a browser whose secret was lost. Raises OtherWallet, Unavailable.
        """
        held = await self.funding(visit.wallet_id) if visit is not None else None
        is_known = held is not None and hmac.compare_digest(held.key_sha256, sha256_hex(key))
        if visit is not None and not visit.is_trusted and is_known:
            entered = await self._logins.begin(visit.wallet_id, guest, instead=visit, key_sha256=sha256_hex(key))
            await self._prove_by_key(entered, key, held)
            return entered
        if visit is not None and visit.is_trusted:
            return await self._store_key(await self._logins.renew(visit), key, "pasted")
        if visit is not None and way != SWITCH:
            await self._refuse_to_leave(visit, key)
        return await self._store_key(
            await self._logins.begin(await self._create(), guest, instead=visit), key, "pasted"
        )

    async def is_recoverable(self, visit: Visit) -> bool:
        """Tell whether the wallet can be found again once this browser has left it: by its account, or from another
        browser. Raises Unavailable.
        """
        return bool(await self._account_of(visit)) or len(await self._logins.all(visit.wallet_id)) > 1

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
        await self.cut_off(visit)
        await self._store.call("HDEL", keys.wallet(visit.wallet_id), "funding", "last4", "source", "key_sha256")
        for name, device in (await self._listed(visit)).items():
            if not device.startswith(_CUT_OFF):
                await self._fund(Budget.parse(name), visit, b"")

    async def cut_off(self, visit: Visit) -> None:
        """End each other stay that nothing but the funding key proved. What it approved keeps the key it has.

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
        """List a connection in the wallet. Call it before the connection is opened: what can spend must be listed.

        `attempt_id`: of an approval that waits for the app to redeem it. Raises Unavailable.
        """
        if isinstance(budget.owner, Grant):
            await self._drop_old_grants(visit.wallet_id)
            await self._store.call("ZADD", keys.wallet_grants(visit.wallet_id), _now_ms(), budget.name)
        await self._store.call("HSET", keys.wallet_budgets(visit.wallet_id), budget.name, visit.device)
        if attempt_id:
            await self._store.call("HSET", keys.wallet_waiting(visit.wallet_id), attempt_id, budget.name)
        await self._store.call("PERSIST", keys.wallet(visit.wallet_id))

    async def _drop_old_grants(self, wallet_id: str) -> None:
        """Take grants off the list of which nothing is left: by age, as one may be listed and not approved yet."""
        listed, gone_ms = keys.wallet_grants(wallet_id), _now_ms() - _LONGEST_GRANT_MS - 2 * self._keep_ms
        for name in await self._store.call("ZRANGE", listed, "-inf", gone_ms, "BYSCORE"):
            await self._store.call("HDEL", keys.wallet_budgets(wallet_id), name)
            await self._store.call("ZREM", listed, name)

    async def budgets(self, visit: Visit) -> list[Budget]:
        """Return the connections that were listed in a wallet, those merged into it too. Raises Unavailable."""
        return [Budget.parse(name) for name in sorted(await self._listed(visit))]

    async def waiting(self, visit: Visit) -> list[str]:
        """Return the attempts of redirect mode that were approved from a wallet and not decided since.

        Raises Unavailable.
        """
        found: set[str] = set()
        for wallet_id in visit.wallet_ids:
            found |= set(await self._hash(keys.wallet_waiting(wallet_id)))
        return sorted(found)

    async def stop_waiting(self, visit: Visit, attempt_id: str) -> None:
        """Take an attempt off the list of those that wait. Raises Unavailable."""
        for wallet_id in visit.wallet_ids:
            await self._store.call("HDEL", keys.wallet_waiting(wallet_id), attempt_id)

    async def _merge(self, visit: Visit, wallet_id: str) -> Visit:
        """Let the wallet of a visit be part of another one, by one write that cannot be half done."""
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
        """Refuse to take a browser out of a wallet that lists connections. Raises OtherWallet."""
        if not await self.budgets(visit):
            return
        held = await self.funding(visit.wallet_id)
        raise OtherWallet(held.last4 if held is not None else "", key[-4:], may_keep=visit.is_trusted)

    async def _may_own(self, visit: Visit) -> bool:
        """Tell whether an account may become the owner of a wallet: whoever sits at the browser may have any."""
        if not visit.is_trusted:
            return False
        is_begun = await self._text("HGET", keys.wallet(visit.wallet_id), "proof_sha256")
        return not is_begun or await self._logins.is_proved(visit)

    async def _create(self) -> str:
        """Begin a wallet. It expires unless its cookie comes back, and never once it has approved something."""
        wallet_id = secrets.token_urlsafe(16)
        await self._store.call("HSET", keys.wallet(wallet_id), "created_ms", _now_ms())
        await self._store.call("EXPIRE", keys.wallet(wallet_id), UNSEEN_SECONDS)
        return wallet_id

    async def _account_of(self, visit: Visit | None) -> str:
        """Return the account that owns the wallet of a visit, by its digest; empty when none does."""
        return await self._text("HGET", keys.wallet(visit.wallet_id), "account") or "" if visit is not None else ""

    async def _wallet_of(self, account: str) -> str | None:
        """Return the wallet of an account; None when it has none, or one that has expired."""
        known = await self._text("GET", keys.identity("openrouter", account)) if account else None
        return known if known and await self._store.call("EXISTS", keys.wallet(known)) else None

    async def _store_key(self, visit: Visit, key: str, source: str) -> Visit:
        """Keep the key in the wallet and give it to every living connection of it, but to none of test mode."""
        wallet_id = visit.wallet_id
        held, bound_to = await self.funding(wallet_id), await self._logins.bound_to(visit)
        if held is not None and held.key_sha256 != sha256_hex(key):
            await self.cut_off(visit)
            # Bound again to the new key below: in between, a store that fails must not end the stay.
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
        """Note a proof if this key is one: the first that a wallet had, or the last that was put in by who had proved
        that it is theirs. Another that pays by now says nothing about who the wallet's owner is.

        `held`: how the wallet paid before.
        """
        wallet, digest = keys.wallet(visit.wallet_id), sha256_hex(key)
        proving = await self._text("HGET", wallet, "proof_sha256") or (held.key_sha256 if held is not None else digest)
        if proving == digest:
            await self._logins.prove(visit)
        if await self._logins.is_proved(visit):
            await self._store.call("HSET", wallet, "proof_sha256", digest)

    async def _fund(self, budget: Budget, visit: Visit, sealed: bytes) -> None:
        for wallet_id in sorted(visit.wallet_ids):
            args: list[str | bytes] = [wallet_id, sealed, secrets.token_hex(16)]
            await self._store.run("fund", [budget.budget, budget.history], args)

    async def _listed(self, visit: Visit) -> dict[str, str]:
        listed: dict[str, str] = {}
        # The visit's own wallet last: a connection that stands in two was approved anew from that one.
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
