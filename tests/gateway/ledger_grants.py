"""The model of the ledger with a grant as the owner: counted requests, and an end that drops the funding key."""

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from gateway.errors import BudgetExceeded, GrantInvalid, NotConnected
from gateway.keys import Budget
from gateway.ledger.outcomes import Admission, Queued, QueuePlace
from tests.gateway.ledger_demands import Demand, Queue
from tests.gateway.ledger_holds import Remembered
from tests.gateway.ledger_machine import KEEP_DAYS, caps
from tests.gateway.ledger_waiters import WaitingMachine

_LIFE_MS = 3_600_000
_DAY_MS = 86_400_000
_NO_PLACE = QueuePlace()


class GrantMachine(WaitingMachine):
    """The same steps; the budget is approved once, and each open or billed request is a use."""

    @initialize(cap=caps, uses=st.integers(1, 12))
    def open_budget(self, cap: int, uses: int = 1) -> None:
        """Approve a grant that no other run has."""
        self.budget = Budget.of_grant("live", "app2222222222222222", f"{next(self.bench.users):064x}")
        self.requests, self.days = {}, {}
        self.queue, self.deaths, self.made, self.remembered = Queue(), 0, 0, Remembered()
        self.cap, self.state, self.uses, self.is_expired = cap, "active", uses, False
        told: list[str | int | bytes] = [
            cap,
            "sealed",
            "",
            "",
            "account",
            "",
            "receipt",
            "payer",
            "",
            "",
            uses,
            _LIFE_MS,
            KEEP_DAYS * _DAY_MS,
        ]
        self.bench(self.bench.store.run("connect", self.change_keys, told))

    @property
    def used(self) -> int:
        """The requests that are open or were billed."""
        return sum(each.state in {"open", "settled", "estimated"} for each in self.requests.values())

    @property
    def may_spend(self) -> bool:
        """Nothing is admitted that no use is left for, or after the end."""
        return self.state == "active" and self.used < self.uses and not self.is_expired

    def ask(
        self, request_id: str, asks: Demand, turn: QueuePlace = _NO_PLACE, *, has_terms: bool = True
    ) -> Admission | Queued | Exception:
        """Ask for a hold; a grant's refusals stand for those of a connection that mean the same."""
        answer: Admission | Queued | Exception
        try:
            answer = super().ask(request_id, asks, turn, has_terms=has_terms)
        except GrantInvalid as refused:
            answer = refused
        if isinstance(answer, GrantInvalid):
            reason = str(answer.fields["reason"])
            if reason == "over_budget":
                return BudgetExceeded("", limit="cap")
            ends = {"ended": self.state != "active", "expired": self.is_expired, "used_up": self.used >= self.uses}
            assert ends[reason]
            return NotConnected()
        if isinstance(answer, Admission):
            # The cost of a hold that a failover lost may count one use too many.
            assert answer.uses_left == max(0, self.uses - self.used - (request_id not in self.requests))
        return answer

    @rule()
    @precondition(lambda self: len(self.requests) > 4)
    def change(self) -> None:
        """The payer ends it."""
        self.bench(self.bench.store.run("change", self.change_keys, ["revoke", "", "payer"]))
        self.state = "revoked"

    @rule()
    @precondition(lambda self: len(self.requests) > 4)
    def expire(self) -> None:
        """Its time is over, and a sweeper finds it."""
        self.bench(self.bench.store.call("HSET", self.budget.budget, "expires_ms", 1))
        self.is_expired = True
        self.bench(self.bench.ledger.endings.finish(self.budget))

    @invariant()
    def uses_agree(self) -> None:
        """Used requests are those open or billed; the key is deleted when the grant has ended and no hold is open."""
        if not hasattr(self, "budget"):
            return
        standing = self.bench(self.bench.ledger.standing(self.budget))
        assert standing.used == self.used
        if self.may_spend:
            assert standing.fields["funding"] == b"sealed"
        elif all(each.admission is not None and each.state != "open" for each in self.requests.values()):
            # If a failover lost a hold, its end is never seen: the key is then deleted at the expiry.
            assert "funding" not in standing.fields
