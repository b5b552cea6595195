"""The ledger: admit, attach, settle. The only caller of the scripts that move money.

Rule: every step is keyed by the request id and safe to repeat. `docs/ledger.md` has the states and the invariants.
"""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from gateway import keys
from gateway.errors import BudgetExceeded, GrantInvalid, NotConnected, Unavailable, WattfareError
from gateway.keys import Budget
from gateway.ledger.admission import constants, encode_queue, outcome
from gateway.ledger.endings import Endings
from gateway.ledger.events import Events
from gateway.ledger.outcomes import (
    Admission,
    Booked,
    Claim,
    HandOver,
    Queued,
    QueuePlace,
    Renewal,
    Settlement,
    Standing,
    standing_of,
)
from gateway.ledger.pace import Pace
from gateway.ledger.record import Hold, read_entry, read_hold
from gateway.ledger.worst_case import Terms, WorstCase
from gateway.owners import Grant, Owner
from gateway.store.connection import Arg, Reply
from gateway.store.replies import by_name, paired, text
from gateway.store.scripts import Call, RequestCommand
from gateway.store.store import Store

# After a refusal, one request may try the funding key again after this pause.
FUNDING_TRIAL_MS = 5_000
_PACE = Pace()
_NO_PLACE = QueuePlace()
_DAY_MS = 86_400_000
_SENT = RequestCommand(("ZADD",), lambda budget, _: (budget.due, "XX"), more=2)


ScriptCall = tuple[list[str], list[Arg]]
"""The key names and arguments of a script."""


def _nothing() -> None:
    """Do nothing."""


class Ledger:
    """The ledger of one store. `keep_days`: retention of entries; `lease_ms`: the lease of a hold."""

    def __init__(self, store: Store, *, keep_days: int, lease_ms: int, pace: Pace = _PACE) -> None:
        self._store = store
        self.lease_ms = lease_ms
        self.keep_ms = keep_days * _DAY_MS
        settings = partial(constants, pace, lease_ms=lease_ms, keep_days=keep_days, trial_ms=FUNDING_TRIAL_MS)
        texts = {mode: settings(mode=mode) for mode in ("live", "test")}
        self._admit = {
            mode: store.frequent("admit", _admit_words, keys=3, more=3, constants=text) for mode, text in texts.items()
        }
        self._admit_fully = {
            mode: store.frequent("admit", _admit_fully_words, keys=6, more=5, constants=text)
            for mode, text in texts.items()
        }
        self._note_id = store.frequent("attach", lambda budget, request_id: (budget.hold(request_id),), keys=1, more=1)
        self._settle = store.frequent("settle", partial(_settle_words, self.keep_ms), keys=7, more=5)
        self.events = Events(store)
        self.endings = Endings(store, self.events)

    async def admit(
        self,
        budget: Budget,
        request_id: str,
        worst: WorstCase | None,
        *,
        model: str,
        estimate_nano: int,
        terms: Terms | None = None,
        turn: QueuePlace = _NO_PLACE,
    ) -> Admission | Queued:
        """Place a hold for `worst` (None: the price is not known, so all that is left is held), or queue the request.

        Without `terms`, a request whose bound does not fit gets a place and must retry with them.
        Raises NotConnected, BudgetExceeded, GrantInvalid, FundingInvalid, RateLimited, Unavailable.
        After Unavailable the hold may exist: void it.
        """
        total_nano = "" if worst is None else str(worst.total_nano)
        words, asked, reply = (total_nano, str(estimate_nano), _line(model)), encode_queue(turn, worst, terms), b""
        if not asked:
            script_call = self._admit[budget.mode].call(budget, request_id, words)
            reply = await self._store.run(script_call, behind=budget.open_shard)
        if not reply:
            # The first of a day, or one that may have to wait: the script needs all keys and arguments.
            script_call = self._admit_fully[budget.mode].call(budget, request_id, (*words, asked, turn.channel))
            reply = await self._store.run(script_call, behind=budget.open_shard)
        found = outcome(reply, worst, terms, lease_ms=self.lease_ms)
        if found is None:
            raise await self._not_connected(budget.owner)
        if isinstance(found, Exception):
            raise _of_grant(found) if isinstance(budget.owner, Grant) else found
        return found

    def keep_leave(self, budget: Budget, request_id: str, channel: str) -> None:
        """Remove an abandoned request from the queue, without waiting for Redis."""
        self._store.keep("leave", [budget.budget, budget.queue, budget.alive], [channel, request_id])

    # -- posts: kept by the store until Redis acknowledged them ----------------------------------------------

    def post_sent(self, budget: Budget, request_id: str, due_ms: int, then: Callable[[bool], None]) -> None:
        """Mark the request as sent: from now on a crash may leave a cost. `then` is called with whether it was marked.

        `due_ms`: from its admission or last renewal.
        """
        # A half added to its time in `due`, if it is open (XX). Scripts that change the time keep the fraction.
        self._store.post_then(_SENT.call(budget, request_id, (f"{due_ms}.5", request_id)), then)

    def post_generation(self, budget: Budget, request_id: str, generation_id: str) -> Awaitable[bool]:
        """Record OpenRouter's id, by which the cost can be found after a crash. Returns when it was sent."""
        return self._store.post(self._note_id.call(budget, request_id, (generation_id,)))

    def post_settlement(
        self,
        budget: Budget,
        request_id: str,
        owed: Settlement,
        on_result: Callable[[Booked], None],
        then: Callable[[bool], None],
        held: Admission | None = None,
    ) -> None:
        """Post the settlement of a hold. `then` is called once it was sent or kept, `on_result` with the result.

        `held`: its admission, with which the script need not read the hold.
        """
        script_call = self._settle_call(budget, request_id, owed, held)
        self._store.post_then(script_call, then, lambda reply: on_result(self._booked(budget, owed, reply)))

    def keep_settlement(
        self, budget: Budget, request_id: str, owed: Settlement, on_result: Callable[[Booked], None]
    ) -> None:
        """Do as `post_settlement`, without waiting."""
        script_call = self._settle_call(budget, request_id, owed)
        self._store.keep(script_call, on_reply=lambda reply: on_result(self._booked(budget, owed, reply)))

    def post_hand_over(
        self,
        budget: Budget,
        request_id: str,
        owed: HandOver,
        on_result: Callable[[bool], None],
        then: Callable[[bool], None],
    ) -> None:
        """Leave an open hold to the sweeper. `then` is called once that was sent or kept, `on_result` with whether the
        hold was open.
        """
        names, args = _attach_call(
            budget,
            request_id,
            generation_id=owed.generation_id,
            estimate_nano=owed.estimate_nano,
            due_ms=0,
            ended_by=owed.ended_by,
            funding=owed.funding,
        )
        script_call = self._store.packed("attach", names, args)
        self._store.post_then(script_call, then, lambda reply: on_result(_renewal(reply).is_held))

    def keep_renewal(
        self, budget: Budget, request_id: str, generation_id: str, on_result: Callable[[Renewal], None]
    ) -> None:
        """Do as `renew`, without waiting; `on_result` is called with the result."""
        script_call = _attach_call(budget, request_id, generation_id=generation_id, due_ms=self.lease_ms)
        self._store.keep("attach", *script_call, lambda reply: on_result(_renewal(reply)))

    def keep_index(self, budget: Budget, listed: Callable[[], None]) -> None:
        """Do as `index`, without waiting."""
        self._store.keep("index", *self._index_call(budget), lambda _: listed())

    # -- calls ---------------------------------------------------------------------------------------------

    async def renew(self, budget: Budget, request_id: str, generation_id: str = "") -> Renewal:
        """Renew the hold's lease. Raises Unavailable.

        `generation_id` is written again (empty: not known yet), since its first post may have been lost in an outage.
        """
        names, args = _attach_call(budget, request_id, generation_id=generation_id, due_ms=self.lease_ms)
        return _renewal(await self._store.run("attach", names, args))

    async def postpone(self, budget: Budget, request_id: str, *, due_ms: int, is_attempt: bool = False) -> None:
        """Make the hold due again in `due_ms`. `is_attempt`: count a failed look-up of its cost. Raises Unavailable."""
        await self._store.run("attach", *_attach_call(budget, request_id, due_ms=due_ms, is_attempt=is_attempt))

    async def settle(
        self, budget: Budget, request_id: str, settlement: Settlement, held: Admission | None = None
    ) -> Booked:
        """Settle a hold; a repeat returns the first result. `held`: its admission. Raises Unavailable."""
        script_call = self._settle_call(budget, request_id, settlement, held)
        return self._booked(budget, settlement, await self._store.run(script_call))

    def rest_seconds(self, budget: Budget) -> float:
        """Return how long not to sweep after an outage, so that live processes renew their leases first."""
        return min(self._store.recovery_seconds(budget.due), self.lease_ms / 3000)

    async def claim(self, budget: Budget, *, most: int, lease_ms: int) -> Claim:
        """Claim up to `most` overdue holds of a budget for `lease_ms`. Raises Unavailable."""
        found = await self._store.run("claim", [budget.due, budget.budget], [lease_ms, most])
        now_ms, started_ms, next_due_ms, unlisted, *ids = found
        next_due = None if next_due_ms < 0 else next_due_ms
        return Claim(now_ms, started_ms, next_due, tuple(map(text, ids)), has_unlisted_events=unlisted == 1)

    async def hold(self, budget: Budget, request_id: str) -> Hold | None:
        """Return a request's record, open or closed; None if unknown or expired.

        Raises Unavailable, ValueError if it is unreadable.
        """
        raw = await self._store.call("GET", budget.hold(request_id))
        if raw is None:
            return None
        hold = read_hold(raw)
        if not hold.is_open or hold.generation_id:
            return hold
        # The sent mark is the fraction of its time in `due`. A hold without a time was closed meanwhile.
        due_ms = await self._store.call("ZSCORE", budget.due, request_id)
        return replace(hold, is_sent=due_ms is None or float(due_ms) % 1 > 0)

    async def standing(self, budget: Budget) -> Standing:
        """Return a budget's current state. Raises Unavailable."""
        now_ms, spent, oldest_day, *flat = await self._store.run("standing", [budget.budget, budget.days])
        oldest = None if oldest_day < 0 else oldest_day
        return standing_of(spent, by_name(paired(flat)), now_ms=now_ms, oldest_day=oldest)

    async def days(self, budget: Budget) -> dict[int, int]:
        """Return nano-USD by UTC day number, as far back as the ledger is kept. Raises Unavailable."""
        found = await self._store.call("HGETALL", budget.days)
        return {int(day): int(nano) for day, nano in found.items()}

    async def entries(
        self, budget: Budget, *, newest_first: bool = False, most: int | None = None
    ) -> list[dict[str, str]]:
        """Return the ledger's entries, each with its stream id as `entry`. Raises Unavailable."""
        command, ends = ("XREVRANGE", ("+", "-")) if newest_first else ("XRANGE", ("-", "+"))
        bound = () if most is None else ("COUNT", most)
        found = await self._store.call(command, budget.ledger, *ends, *bound)
        return [read_entry(name, fields) for name, fields in found]

    async def index(self, budget: Budget, listed: Callable[[], None] = _nothing) -> None:
        """Put the budget on the sweeper's list before a later hold is placed. Raises Unavailable.

        A budget that is not listed may never be swept. `listed` is called when Redis has confirmed. On a single server
        this does not wait: both commands leave in one write, and `admit` runs after it (`behind`).
        """
        store, script_call = self._store, self._index_call(budget)
        # During an outage it would take up the outbox, which settlements need.
        is_behind = store.is_single and store.is_open and store.keep("index", *script_call, lambda _: listed())
        if not is_behind:
            await store.run("index", *script_call)
            listed()

    async def take_due(self, shard: int, *, most: int, lease_ms: int) -> list[Budget]:
        """Claim up to `most` budgets of a shard that are due for a sweep, for `lease_ms`. Raises Unavailable."""
        names = await self._store.run("index", [keys.open_shard(shard)], ["look", "", lease_ms, most])
        return [Budget.parse(text(name)) for name in names]

    async def list_again(self, budget: Budget, *, after_ms: int) -> None:
        """Keep a budget on the sweeper's list, due after `after_ms`. Raises Unavailable."""
        await self._store.run("index", [budget.open_shard], ["keep", budget.name, after_ms])

    async def rest(self, budget: Budget) -> None:
        """Record that a budget has no open hold; the second time, a lease later, unlists it. Raises Unavailable."""
        await self._store.run("index", [budget.open_shard], ["rest", budget.name, self.lease_ms])

    async def _not_connected(self, owner: Owner) -> NotConnected | GrantInvalid:
        """Return the refusal of an owner without an active budget.

        For a user it mentions a connection in the other mode; for a grant it states why the grant cannot be used.
        """
        mode, other = ("test", "live") if owner.mode == "test" else ("live", "test")
        with contextlib.suppress(Unavailable):
            if isinstance(owner, Grant):
                return GrantInvalid.because((await self.standing(Budget(owner))).end or "used_up")
            if (await self.standing(Budget(replace(owner, mode=other)))).is_connected:
                return NotConnected(
                    f"This user is connected in {other} mode only, and this is a {mode} key: test and live are apart. "
                    f"Use the {other} secret key, or have them connect in {mode} mode too."
                )
        return GrantInvalid() if isinstance(owner, Grant) else NotConnected()

    def _index_call(self, budget: Budget) -> ScriptCall:
        return [budget.open_shard], ["add", budget.name, self.lease_ms]

    def _settle_call(
        self, budget: Budget, request_id: str, settlement: Settlement, held: Admission | None = None
    ) -> Call:
        generation_id, model = settlement.generation_id, settlement.model
        ending = f"{settlement.status}\n{generation_id}\n{settlement.ended_by}\n{_line(model)}"
        tokens = f"{_known(settlement.prompt_tokens)} {_known(settlement.completion_tokens)}"
        # Beside these fields the hold has only generation id and model, so both must be known; a void has no id.
        admitted = text(held.admitted) if held is not None and generation_id and model else ""
        words = (ending, str(settlement.cost_nano), tokens, _verdict(settlement.funding), admitted)
        return self._settle.call(budget, request_id, words)

    def _booked(self, budget: Budget, owed: Settlement, reply: Reply) -> Booked:
        if reply == b"1 0":
            return Booked(True, owed.status, owed.cost_nano, 0)
        code, *first, overrun = reply.split()
        if code == b"2":
            self.events.list_now(budget)
        status, cost_nano = (text(first[0]), int(first[1])) if first else (owed.status, owed.cost_nano)
        return Booked(code != b"0", status, cost_nano, int(overrun))


def _admit_words(budget: Budget, request_id: str) -> list[str]:
    return [budget.budget, budget.due, budget.hold(request_id), request_id]


def _admit_fully_words(budget: Budget, request_id: str) -> list[str]:
    names = [budget.budget, budget.due, budget.hold(request_id), budget.days, budget.queue, budget.alive]
    return [*names, request_id]


def _settle_words(keep_ms: int, budget: Budget, request_id: str) -> list[str]:
    names = [budget.budget, budget.days, budget.due, budget.ledger, budget.queue, budget.events]
    return [*names, budget.hold(request_id), request_id, str(keep_ms)]


def _renewal(reply: Reply) -> Renewal:
    written, active, due_ms = reply.split()
    return Renewal(written == b"1", active == b"1", int(due_ms))


def _attach_call(
    budget: Budget,
    request_id: str,
    *,
    generation_id: str = "",
    estimate_nano: int | None = None,
    due_ms: int | None = None,
    is_attempt: bool = False,
    ended_by: str = "",
    funding: str = "",
) -> ScriptCall:
    names = [budget.hold(request_id), budget.due, budget.budget, *([budget.events] if funding else [])]
    known = (_known(estimate_nano), _known(due_ms), int(is_attempt))
    return names, [generation_id, request_id, *known, ended_by, _verdict(funding)]


def _of_grant(refused: WattfareError) -> WattfareError:
    """Return a refusal in a grant's terms: a lack of dollars that no request in flight will release ends the grant
    (CONTRACT §4).
    """
    if isinstance(refused, BudgetExceeded) and "retryAfter" not in refused.fields:
        spent = GrantInvalid.because("over_budget")
        spent.fields |= refused.fields
        return spent
    return refused


def _verdict(funding: str) -> str:
    """Return the scripts' argument for the funding key's state; if refused, with the ms until its first trial."""
    return f"refused {FUNDING_TRIAL_MS}" if funding == "refused" else funding


def _known(number: int | None) -> str | int:
    return "" if number is None else number


def _line(model: str) -> str:
    """Return a model's name on one line, as the record's format needs; no real model's name has a line end."""
    return model.replace("\n", " ")
