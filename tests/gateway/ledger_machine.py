"""The ledger against a plain Python model of it: any step in any order, every sum checked after each."""

import asyncio
import time
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.errors import BudgetExceeded, NotConnected, Unavailable
from gateway.keys import Budget
from gateway.ledger.holds import Ledger
from gateway.ledger.outcomes import Admission, HandOver, Queued, QueuePlace, sum_by_day
from gateway.ledger.worst_case import Terms, WorstCase
from gateway.money import MAX_NANO
from gateway.payers.connections import change_keys
from gateway.store.store import Store
from tests.gateway.ledger_accidents import AGE, LOSE
from tests.gateway.ledger_demands import Demand, Queue, Waiter, demands, mostly, small
from tests.gateway.ledger_holds import ModelHold, Remembered

T = TypeVar("T")

KEEP_DAYS = 90
WINDOW_DAYS = 30
FAR_MS = 10**14
DAY_SECONDS = 86_400


async def handed_over(ledger: Ledger, budget: Budget, request_id: str, owed: HandOver) -> bool:
    """Leave a hold to the sweeper; return whether there was an open one."""
    told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    ledger.post_hand_over(budget, request_id, owed, told.set_result, lambda _: None)
    return await told


async def marked_sent(ledger: Ledger, budget: Budget, request_id: str, due_ms: int) -> bool:
    """Mark a request as sent; return whether the mark was sent."""
    told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    ledger.post_sent(budget, request_id, due_ms, told.set_result)
    return await told


@dataclass(frozen=True, slots=True)
class LedgerUnderTest:
    """What every run shares: a loop and a ledger on a store."""

    loop: asyncio.AbstractEventLoop
    store: Store
    ledger: Ledger
    users: Iterator[int]

    def __call__(self, work: Awaitable[T]) -> T:
        async def run() -> T:
            return await work

        return self.loop.run_until_complete(run())


# Most caps carry several requests and most costs their hold, so that a run does not end with its first step.
caps = st.one_of(st.integers(1, 400), *[st.integers(200, 4000)] * 3)
costs = st.one_of(*[small] * 8, st.integers(0, 1000), st.integers(0, MAX_NANO // 1000))


# Mostly one of the last few: what matters happens twice to the same request.
picks = st.one_of(st.integers(0, 2), st.integers(0, 2), st.integers(0, 10**6))
verbs = st.sampled_from(["connect", "resume", "cap", "connect", "resume", "cap", "lower", "pause", "revoke"])
channels = st.sampled_from(["", "wf:wakes:a", "wf:wakes:b"])
_NO_PLACE = QueuePlace()
days_gone = st.sampled_from([1, 2, 28, 29, 30, 31, 40])


class LedgerMachine(RuleBasedStateMachine):
    """One budget; requests by number; each rule calls the ledger and moves the model."""

    bench: ClassVar[LedgerUnderTest]

    @initialize(cap=caps)
    def open_budget(self, cap: int) -> None:
        """Connect a budget that no other run has."""
        self.budget = Budget.of_user("live", "app2222222222222222", f"user {next(self.bench.users)}")
        self.requests: dict[str, ModelHold] = {}
        self.days: dict[int, int] = {}
        self.queue, self.deaths, self.made, self.remembered = Queue(), 0, 0, Remembered()
        self.connect(cap)

    def connect(self, cap: int) -> None:
        """Approve, or approve again."""
        words: list[str | int] = [cap, "sealed", "", "", "account", "", token_hex(4), "payer", "", ""]
        self.bench(self.bench.store.run("connect", self.change_keys, words))
        self.cap, self.state = cap, "active"

    @property
    def change_keys(self) -> list[str]:
        """What the scripts take that change what may be spent."""
        return change_keys(self.budget)

    # -- the model's sums ---------------------------------------------------------------------------------

    @property
    def today(self) -> int:
        """The UTC day; the server reads the same clock."""
        return int(time.time()) // DAY_SECONDS

    @property
    def held(self) -> int:
        """The sum of open holds."""
        return sum(each.nano for each in self.requests.values() if each.state == "open")

    @property
    def spent(self) -> int:
        """Spend of the rolling month."""
        first = self.today - WINDOW_DAYS
        return sum(nano for day, nano in self.days.items() if day > first)

    @property
    def may_spend(self) -> bool:
        """Whether anything is admitted at all."""
        return self.state == "active"

    def pick(self, number: int) -> str:
        """Return a request id that was used before, counted from the last."""
        return list(self.requests)[-1 - number % len(self.requests)]

    def new_id(self) -> str:
        """Return a request id that was not used before."""
        self.made += 1
        return f"r{self.made}"

    def renew_leases(self) -> None:
        """Renew the leases of all waiters' processes, so that a slow step does not expire them."""
        if self.queue:
            words = [word for each in self.queue.values() for word in (each.channel, FAR_MS)]
            self.bench(self.bench.store.call("HSET", self.budget.alive, *words))
            self.bench(self.bench.store.call("HSET", self.budget.budget, "waiting_ms", FAR_MS))
            for key in (self.budget.alive, self.budget.queue):
                self.bench(self.bench.store.call("PERSIST", key))

    # -- admission ----------------------------------------------------------------------------------------

    def ask(
        self, request_id: str, asks: Demand, turn: QueuePlace = _NO_PLACE, *, has_terms: bool = True
    ) -> Admission | Queued | Exception:
        """Request a hold, with all terms if the script requires them; return the answer or the refusal."""
        admit = self.bench.ledger.admit
        try:
            terms = asks.terms if has_terms else None
            known = {"model": "m", "estimate_nano": 3, "terms": terms, "turn": turn}
            found = self.bench(admit(self.budget, request_id, asks.worst, **known))  # type: ignore[arg-type]
        except (NotConnected, BudgetExceeded, Unavailable) as refused:
            return refused
        if isinstance(found, Queued):
            assert found.place == turn.place or found.place > self.queue.last_place
            self.queue.last_place = max(self.queue.last_place, found.place)
        if isinstance(found, Queued) and found.needs_terms:
            assert not has_terms
            return self.ask(request_id, asks, turn._replace(place=found.place))
        return found

    @rule(asks=demands, channel=channels, has_terms=mostly)
    def admit(self, asks: Demand, channel: str, has_terms: bool) -> None:
        """Admit a new request that sends its terms at once, or only when the script requires them."""
        process = f"{channel}:{self.deaths}" if channel else ""
        self.decide(self.new_id(), asks, QueuePlace(process), has_terms=has_terms)

    def decide(self, request_id: str, asks: Demand, turn: QueuePlace, *, has_terms: bool = True) -> None:
        """Check P1: no admission exceeds the cap, overtakes a waiting request, or refuses one that would fit."""
        self.renew_leases()
        left, alone = self.cap - self.spent - self.held, self.cap - self.spent
        first = next(iter(self.queue), request_id)
        allowed = asks.verdicts(
            left,
            alone,
            is_free=self.is_beyond_free,
            is_turn=turn.is_over or first == request_id,
            may_wait=bool(turn.channel) and not turn.is_over,
        )
        answer = self.ask(request_id, asks, turn, has_terms=has_terms)
        if isinstance(answer, Queued):
            assert self.state == "active"
            assert "waits" in allowed
            assert alone > 0
            self.queue[request_id] = Waiter(answer.place, turn.channel, asks)
            return
        self.queue.pop(request_id, None)
        if isinstance(answer, NotConnected):
            assert not self.may_spend
            return
        assert self.may_spend
        if isinstance(answer, BudgetExceeded):
            self.check_refusal(answer, allowed)
            return
        assert isinstance(answer, Admission)
        assert alone > 0
        assert answer.hold_nano <= left
        assert answer.remaining_nano == alone
        assert answer.funding == b"sealed"
        self.check_size(answer, asks, allowed)
        self.requests[request_id] = ModelHold("open", answer.hold_nano, admission=answer)
        self.remembered[request_id] = answer

    @property
    def is_beyond_free(self) -> bool:
        """Whether no open request may cost more than is held for it."""
        return not any(each.state == "open" and each.is_beyond for each in self.requests.values())

    def check_size(self, answer: Admission, asks: Demand, allowed: set[str]) -> None:
        """A hold is the whole bound, all that is left, or what the shortened answer can cost."""
        left = self.cap - self.spent - self.held
        if answer.max_tokens is not None:
            assert "shortened" in allowed
            assert asks.worst is not None
            its_bound = asks.worst.cost_nano(answer.max_tokens)
            assert min(left, its_bound) <= answer.hold_nano <= min(left, its_bound + 1)
            assert 0 <= asks.affordable(left, is_free=self.is_beyond_free) - answer.max_tokens <= 1
            assert answer.is_beyond is (its_bound > left) or its_bound == left
        elif answer.is_beyond:
            assert "all" in allowed
            assert answer.hold_nano == left > 0
        else:
            assert "whole" in allowed
            assert asks.worst is not None
            assert answer.hold_nano == asks.worst.total_nano

    def check_refusal(self, refused: BudgetExceeded, allowed: set[str]) -> None:
        """Check the stated reason: the cap, or the requests in flight, for which waiting helps."""
        is_spent = self.spent >= self.cap
        assert refused.fields["limit"] in ({"cap"} if is_spent else allowed)
        assert ("retryAfter" in refused.fields) is (refused.fields["limit"] == "in_flight")
        if refused.fields["limit"] == "in_flight":
            assert self.held > 0 or self.queue

    @precondition(lambda self: self.requests)
    @rule(number=picks, fixed=small)
    def admit_again(self, number: int, fixed: int) -> None:
        """The same id at another price: the first answer, or none once it was given up. Nothing moves."""
        request_id = self.pick(number)
        known = self.requests[request_id]
        if known.state == "":
            return  # Lost with its admission: to Redis it is a new request.
        again = WorstCase(fixed, 0, 1)
        answer = self.ask(request_id, Demand(again, Terms(again, goes_beyond=False)))
        if known.state == "void" or known.admission is None:
            assert isinstance(answer, Unavailable)
        else:
            assert isinstance(answer, Admission)
            assert (answer.hold_nano, answer.max_tokens) == (known.nano, known.admission.max_tokens)

    # -- fields of a hold, claims and sweeps -----------------------------------------------------------------

    @precondition(lambda self: self.requests)
    @rule(number=picks, what=st.sampled_from(["sent", "generation", "renew", "postpone", "hand_over"]))
    def note(self, number: int, what: str) -> None:
        """Attach, renew, postpone, hand over: they know whether the hold is open, and move no money."""
        request_id, ledger = self.pick(number), self.bench.ledger
        if what == "sent":
            known = self.requests[request_id].admission
            assert self.bench(marked_sent(ledger, self.budget, request_id, known.due_ms if known else 0))
        elif what == "generation":
            self.bench(ledger.post_generation(self.budget, request_id, "gen-1"))
        elif what == "renew":
            renewal = self.bench(ledger.renew(self.budget, request_id))
            assert renewal[:2] == (self.requests[request_id].state == "open", self.state == "active")
        elif what == "postpone":
            self.bench(ledger.postpone(self.budget, request_id, due_ms=0))
        else:
            left = handed_over(ledger, self.budget, request_id, HandOver("gen-1", 9, "client", ""))
            assert self.bench(left) is (self.requests[request_id].state == "open")

    @rule(most=st.integers(1, 5))
    def sweep(self, most: int) -> None:
        """Only open holds are claimed, none twice, and settled at a guess as the sweeper would."""
        claims = [self.bench(self.bench.ledger.claim(self.budget, most=most, lease_ms=60_000)) for _ in range(2)]
        taken = [request_id for claim in claims for request_id in claim.request_ids]
        assert len(taken) == len(set(taken))
        for request_id in claims[0].request_ids:
            assert self.requests[request_id].state == "open"
            self.book(request_id, "estimated", 3)

    # -- settlement -----------------------------------------------------------------------------------------

    @precondition(lambda self: self.requests)
    @rule(number=picks, status=st.sampled_from(["settled", "settled", "estimated", "void"]), cost=costs)
    def settle(self, number: int, status: str, cost: int) -> None:
        """Close any request at any cost, again and again."""
        self.book(self.pick(number), status, cost)

    @precondition(lambda self: self.made % 4 == 3)
    @rule(status=st.sampled_from(["settled", "estimated", "void"]), cost=small)
    def settle_unknown(self, status: str, cost: int) -> None:
        """Close a request whose admission did not arrive or was lost."""
        request_id = self.new_id()
        self.requests[request_id] = ModelHold()
        self.book(request_id, status, cost)

    def book(self, request_id: str, status: str, cost: int) -> None:
        """Settle, and move the model by the hold table; the total rises by what exceeds the hold at most."""
        known = self.requests[request_id]
        cost = 0 if status == "void" else cost
        total, before = self.spent + self.held, known.nano if known.state == "open" else known.cost
        day = self.day_of(request_id)
        booked = self.bench(
            self.bench.ledger.settle(self.budget, request_id, *self.remembered.owed(request_id, status, cost))
        )
        is_first = known.state in ("", "open") or (known.state != "settled" and status == "settled")
        assert booked.is_first is is_first
        if is_first:
            delta = cost - known.cost
            self.days[day] = self.days.get(day, 0) + delta
            known.costs.append(delta)
            known.state, known.cost = status, cost
        assert (booked.status, booked.cost_nano) == (known.state, known.cost)
        assert booked.overrun_nano == (max(0, known.cost - known.nano) if known.admission else 0)
        assert self.spent + self.held - total <= max(0, cost - before)

    def day_of(self, request_id: str) -> int:
        """The day a settlement belongs to: that of the hold, else today."""
        hold = self.bench(self.bench.ledger.hold(self.budget, request_id))
        return self.today if hold is None or hold.day is None else hold.day

    # -- the budget -----------------------------------------------------------------------------------------

    @rule(verb=verbs, cap=caps)
    def change(self, verb: str, cap: int) -> None:
        """Revoke, pause, resume, raise, lower, connect again: spend and holds stay as they are."""
        if verb == "connect":
            self.connect(cap)
            return
        code = self.bench(self.bench.store.run("change", self.change_keys, [verb, cap, "payer"]))
        if verb == "revoke":
            self.state = "revoked"
        elif self.state == "revoked":
            assert code == -1
        elif verb == "lower" and cap > self.cap:
            assert code == -2
        elif verb in ("cap", "lower"):
            self.cap = cap
        else:
            self.state = "paused" if verb == "pause" else "active"

    @rule(days=days_gone)
    def age(self, days: int) -> None:
        """Advance by days: spend leaves the window, holds stay."""
        names = [self.budget.budget, self.budget.days, self.budget.ledger, *map(self.budget.hold, self.requests)]
        self.bench(self.bench.store.call("EVAL", AGE, len(names), *names, days))
        self.days = {day - days: nano for day, nano in self.days.items()}
        self.remembered.age(days)

    @precondition(lambda self: any(each.state == "open" for each in self.requests.values()))
    @rule(number=picks)
    def lose(self, number: int) -> None:
        """Lose an acknowledged admission, as a failover may: the hold is gone, the request continues."""
        open_ids = [request_id for request_id, each in self.requests.items() if each.state == "open"]
        request_id = open_ids[number % len(open_ids)]
        names = [self.budget.budget, self.budget.due, self.budget.hold(request_id)]
        self.bench(self.bench.store.call("EVAL", LOSE, 3, *names, request_id))
        self.requests[request_id] = ModelHold()

    # -- what must hold after every step ----------------------------------------------------------------------

    @invariant()
    def sums_agree(self) -> None:
        """Held is the sum of the open holds, spend that of the days, the days that of the ledger's differences, and
        the ledger that of the costs, to the nano.
        """
        if not hasattr(self, "budget"):
            return
        standing, days, entries, due = self.bench(self.read())
        today = self.today
        assert standing.held_nano == self.held
        assert standing.spent_nano == self.spent
        assert set(due) == {request_id for request_id, each in self.requests.items() if each.state == "open"}
        kept = {day: nano for day, nano in self.days.items() if nano and day > today - KEEP_DAYS}
        assert {day: nano for day, nano in days.items() if nano and day > today - KEEP_DAYS} == kept
        assert {day: nano for day, nano in sum_by_day(entries).items() if nano and day > today - KEEP_DAYS} == kept
        total = sum(each.cost for each in self.requests.values())
        assert sum(int(entry["delta_nano"]) for entry in entries) == total
        assert int(standing.fields.get("booked_nano", 0)) == total
        if "window_day" in standing.fields:
            first = int(standing.fields["window_day"]) - WINDOW_DAYS
            assert int(standing.fields["window_nano"]) == sum(nano for day, nano in self.days.items() if day > first)

    async def read(self) -> tuple[Any, dict[int, int], list[dict[str, str]], list[str]]:
        """Return what Redis holds of the budget."""
        ledger, store = self.bench.ledger, self.bench.store
        standing, days, entries, due = await asyncio.gather(
            ledger.standing(self.budget),
            ledger.days(self.budget),
            ledger.entries(self.budget),
            store.call("ZRANGE", self.budget.due, 0, -1),
        )
        return standing, days, entries, [name.decode() for name in due]
