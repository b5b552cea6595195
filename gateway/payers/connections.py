"""Approved budgets, connections and grants: cap, funding key, revocation, and a receipt of each change.

Rule: the state is in Redis and read by every admission, never cached. A revocation is answered only after every live
gateway process has acted on it (`broadcast`).
Rule: the script that makes a change also writes its one receipt; a call that changes nothing writes none.
"""

import secrets
import time
from dataclasses import dataclass
from enum import StrEnum

import orjson

from gateway import keys
from gateway.digest import sha256_hex
from gateway.errors import ConsentRequired, NotConnected, Unavailable
from gateway.keys import Budget
from gateway.ledger.holds import Ledger
from gateway.ledger.outcomes import Standing
from gateway.money import usd_from_nano
from gateway.owners import Grant
from gateway.payers.apps import MODES
from gateway.sealing import Sealer
from gateway.store.broadcast import Broadcast, Cut
from gateway.store.replies import strings
from gateway.store.store import Store

# The same number as in `receipt.lua`: an approval is looked up just after it was made, so among the newest receipts.
_RECENT_RECEIPTS = 16
LIVING = frozenset({"active", "paused"})


class By(StrEnum):
    """Who made a change. `OPERATOR`: a command of `scripts/`."""

    PAYER = "payer"
    APP = "app"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Term:
    """The limits of a grant beside its cap: number of requests, and lifetime from the approval."""

    requests: int
    life_ms: int


@dataclass(frozen=True, slots=True)
class Approval:
    """What the payer (or the operator, or in test mode the app) approved. `cap_nano` None: no cap, test mode only.

    `revocations`: the count when the payer approved; None when the approval is made now.
    `text`: the text the payer approved. `receipt_id`: unique to an approval, so that its repeat changes nothing; empty:
    each call is a separate approval. `term`: for grants only.
    """

    cap_nano: int | None
    funding_key: str | None
    wallet: str = ""
    origin: str = ""
    revocations: int | None = None
    by: By = By.OPERATOR
    text: str = ""
    receipt_id: str = ""
    term: Term | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection or grant and its current state. `account`: its short name in ids, logs and URLs."""

    budget: Budget
    account: str
    standing: Standing

    @property
    def is_test(self) -> bool:
        """Whether it is in test mode, where nothing costs money."""
        return self.budget.mode == "test"

    @property
    def is_living(self) -> bool:
        """Whether it can spend now or after a resume."""
        return self.standing.state in LIVING and not self.standing.has_ended

    @property
    def wallet(self) -> str:
        """The id of the wallet that pays; empty if the operator imported it, or in test mode."""
        return self.standing.fields.get("wallet", b"").decode()

    @property
    def origin(self) -> str:
        """The origin that requested it; empty without one."""
        return self.standing.fields.get("origin", b"").decode()

    @property
    def is_funded(self) -> bool:
        """Whether it has a funding key."""
        return bool(self.standing.fields.get("funding"))

    @property
    def is_refused(self) -> bool:
        """Whether OpenRouter refused its funding key on the last request."""
        return self.standing.fields.get("funding_refused") == b"1"

    @property
    def overruns(self) -> tuple[int, int]:
        """How many requests cost more than their hold, and by how many nano-USD in total."""
        return self.standing.overruns, self.standing.overrun_nano

    @property
    def used_ms(self) -> int:
        """When a request was last admitted, in unix milliseconds; 0 for never."""
        return int(self.standing.fields.get("used_ms", 0))

    @property
    def connected_ms(self) -> int:
        """When it was last approved, in unix milliseconds."""
        return int(self.standing.fields.get("connected_ms", 0))


class Connections:
    """The store of connections."""

    def __init__(self, store: Store, ledger: Ledger, sealer: Sealer, broadcast: Broadcast) -> None:
        self._store = store
        self._ledger = ledger
        self._sealer = sealer
        self._broadcast = broadcast

    async def status(self, budget: Budget) -> dict[str, object]:
        """Return the contract's ConnectionStatus. Raises Unavailable."""
        return status_of(await self._ledger.standing(budget))

    async def find(self, budget: Budget) -> Connection:
        """Return the connection; if there is none, one with an empty state. Raises Unavailable."""
        return Connection(budget, self.account(budget), await self._ledger.standing(budget))

    def account(self, budget: Budget) -> str:
        """Return the short name of a budget. Raises Unavailable before the salt was read from Redis."""
        if not self._store.salt:
            raise Unavailable
        return budget.account(self._store.salt)

    async def approve(self, budget: Budget, approval: Approval) -> None:
        """Connect or re-approve a user's budget, or open a grant. Spend is kept: a reconnect does not reset the cap.

        Safe to repeat with the same `receipt_id`. Raises NotConnected when revoked since the approval, Unavailable.
        """
        if (approval.term is None) is isinstance(budget.owner, Grant):
            raise ValueError("a grant has a term, and nothing else has one")
        if budget.mode == "live" and (approval.cap_nano is None or approval.funding_key is None):
            raise ValueError("a live connection needs a cap and a funding key")
        # List it before it can spend: every request id must lead to its budget.
        account = self.account(budget)
        term = [] if approval.term is None else await self._list_grant(budget, account, approval.term)
        if not term:
            await self._ledger.events.announce(budget)
            await self._store.call("SET", keys.account(account), budget.name)
            await self._store.call("SADD", keys.members(budget.mode, budget.app_id), budget.name)
        sealed = b"" if approval.funding_key is None else self._sealer.seal(approval.funding_key, place=budget.place)
        cap = "" if approval.cap_nano is None else approval.cap_nano
        since = "" if approval.revocations is None else approval.revocations
        receipt_id = approval.receipt_id or secrets.token_hex(16)
        digest = sha256_hex(approval.text) if approval.text else ""
        receipt = [receipt_id, approval.by, approval.text, digest]
        args = [cap, sealed, approval.wallet, approval.origin, account, since, *receipt, *term]
        if await self._store.run("connect", change_keys(budget), args) < 0:
            raise NotConnected("The user has stopped this since they approved it. Ask them to connect again.")

    async def lower(self, budget: Budget, cap_nano: int) -> None:
        """Lower the cap on behalf of the app.

        Raises ConsentRequired when that would raise it or there is no connection, Unavailable.
        """
        if await self._change(budget, "lower", By.APP, cap_nano=cap_nano) < 0:
            raise ConsentRequired

    async def set_cap(self, budget: Budget, cap_nano: int) -> None:
        """Set the cap on behalf of the payer. Raises NotConnected, Unavailable."""
        if await self._change(budget, "cap", By.PAYER, cap_nano=cap_nano) < 0:
            raise NotConnected

    async def pause(self, budget: Budget) -> None:
        """Refuse requests until `resume`, for the payer; open streams end. Raises NotConnected, Unavailable."""
        if await self._change(budget, "pause", By.PAYER) < 0:
            raise NotConnected
        await self._broadcast.send(Cut("budget", budget.name))

    async def resume(self, budget: Budget) -> None:
        """Undo a pause, for the payer. Raises NotConnected, Unavailable."""
        if await self._change(budget, "resume", By.PAYER) < 0:
            raise NotConnected

    async def revoke(self, budget: Budget, *, by: By = By.OPERATOR) -> None:
        """End the connection and delete its funding key; open streams end. Idempotent. Raises Unavailable."""
        await self._change(budget, "revoke", by)
        await self._broadcast.send(Cut("budget", budget.name))

    async def end_all(self, app_id: str) -> None:
        """End every connection and grant of an app that was closed, whose streams have ended. Idempotent.

        Raises Unavailable; a repeat continues where it stopped.
        """
        for mode in MODES:
            for budget in (*await self.members(mode, app_id), *await self.grants(mode, app_id)):
                await self._change(budget, "close", By.OPERATOR)

    async def receipts(self, budget: Budget, *, most: int = 200) -> list[dict[str, str]]:
        """Return at most `most` receipts, newest first: `event`, `by`, `at_ms` and the event's own fields.

        Events: approved (cap_nano, empty for none; origin, text, sha256), cap (cap_nano, before_nano), paused,
        resumed, revoked, closed (the whole app was closed), funded (new funding key), unfunded (key removed).
        Raises Unavailable.
        """
        found = await self._store.call("XREVRANGE", budget.history, "+", "-", "COUNT", most)
        return [_receipt(strings(raw)) for _, raw in found]

    async def has_receipt(self, budget: Budget, receipt_id: str) -> bool:
        """Return whether an approval was carried out: it is the last one, or among the newest receipts.

        Raises Unavailable.
        """
        if await self._store.call("HGET", budget.budget, "approval") == receipt_id.encode():
            return True
        found = await self._store.call("XREVRANGE", budget.history, "+", "-", "COUNT", _RECENT_RECEIPTS)
        return any(fields.get(b"receipt") == receipt_id.encode() for _, fields in found)

    async def revocations(self, budget: Budget) -> int:
        """Return how often it was revoked or barred: approvals made before the last time are void."""
        return (await self._ledger.standing(budget)).revocations

    async def bar(self, budget: Budget) -> None:
        """Void every approval that was not carried out yet. Raises Unavailable."""
        await self._change(budget, "bar", By.PAYER)

    async def members(self, mode: str, app_id: str) -> list[Budget]:
        """Return the budgets of every connection that an app ever had. Raises Unavailable."""
        names = await self._store.call("SMEMBERS", keys.members(mode, app_id))
        return [Budget.parse(name.decode()) for name in sorted(names)]

    async def grants(self, mode: str, app_id: str) -> list[Budget]:
        """Return the app's grants: active ones, and ended ones while their ledger is kept. Raises Unavailable."""
        names = await self._store.call("ZRANGE", keys.grants(mode, app_id), 0, -1)
        return [Budget.parse(name.decode()) for name in names]

    async def budget_of(self, request_id: str) -> Budget | None:
        """Return the budget of a request id, None if unknown. Raises Unavailable."""
        account = keys.account_of(request_id)
        name = await self._store.call("GET", keys.account(account)) if account else None
        return Budget.parse(name.decode()) if name else None

    async def _list_grant(self, budget: Budget, account: str, term: Term) -> list[int]:
        """List a grant until its ledger expires; return the arguments of `connect.lua` for its term."""
        now_ms, keep_ms = time.time_ns() // 1_000_000, self._ledger.keep_ms
        listed = keys.grants(budget.mode, budget.app_id)
        await self._store.call("SET", keys.account(account), budget.name, "PX", term.life_ms + 2 * keep_ms)
        await self._store.call("ZADD", listed, now_ms + term.life_ms, budget.name)
        await self._store.call("ZREMRANGEBYSCORE", listed, "-inf", now_ms - 2 * keep_ms)
        await self._ledger.endings.expect(budget, after_ms=term.life_ms)
        return [term.requests, term.life_ms, keep_ms]

    async def _change(self, budget: Budget, verb: str, by: By, *, cap_nano: int | None = None) -> int:
        if verb != "bar":
            await self._ledger.events.announce(budget)
        args = [verb, "" if cap_nano is None else cap_nano, by]
        code: int = await self._store.run("change", change_keys(budget), args)
        return code


def change_keys(budget: Budget) -> list[str]:
    """Return the keys of the scripts that connect and change."""
    return [budget.budget, budget.history, budget.queue, budget.alive, budget.events]


def _receipt(fields: dict[str, str]) -> dict[str, str]:
    del fields["receipt"]
    # Receipts of earlier versions keep the event's fields as JSON in `body`, and were all the payer's.
    body: dict[str, str] = orjson.loads(fields.pop("body", "{}"))
    return {**body, "by": By.PAYER, **fields}


def status_of(standing: Standing) -> dict[str, object]:
    """Return the contract's ConnectionStatus for a standing. Not connected is a status, not an error."""
    if not standing.is_connected:
        return {"connected": False, "limits": None, "usage": {"monthlyUsd": 0}, "remainingUsd": 0}
    remaining = standing.remaining_nano
    return {
        "connected": True,
        "limits": {"monthlyUsd": None if standing.cap_nano is None else usd_from_nano(standing.cap_nano)},
        "usage": {"monthlyUsd": usd_from_nano(standing.spent_nano)},
        "remainingUsd": None if remaining is None else usd_from_nano(remaining),
    }
