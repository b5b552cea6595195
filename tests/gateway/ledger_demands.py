"""Requests of the ledger's model test, and the answers that admission may give (CONTRACT §3)."""

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from gateway.ledger.worst_case import Terms, WorstCase
from gateway.money import ZEPTO_PER_NANO

small = st.integers(0, 60)
leasts = st.sampled_from([16, 16, 16, 24, None])
mostly = st.sampled_from([True, True, True, True, False])


@dataclass(frozen=True, slots=True)
class Demand:
    """A request's bound (None: not known), and its terms if the bound does not fit."""

    worst: WorstCase | None
    terms: Terms

    @property
    def fewest(self) -> int | None:
        """The fewest tokens it may be shortened to; None where it may not."""
        if self.worst is None or self.worst.least_tokens is None or not self.terms.may_shorten:
            return None
        return min(self.worst.least_tokens, self.worst.max_tokens)

    def affordable(self, nano: int, *, is_free: bool) -> int:
        """How many tokens an amount affords it, -1 where tokens do not matter; exact, where Lua may be one below."""
        assert self.worst is not None
        rate = self.terms.expected if is_free and self.terms.goes_beyond else self.worst
        if not rate.per_token_zepto:
            return -1
        return min(rate.affordable_tokens(nano), self.worst.usual_tokens or self.worst.max_tokens)

    def is_carried(self, alone: int) -> set[bool]:
        """Return whether it would be admitted with nothing in flight: both values if Lua's rounding decides."""
        if self.worst is None:
            return {True}
        expected = self.terms.expected
        if expected.total_nano <= alone:
            return {True}
        if self.worst.least_tokens is None:
            return {self.terms.goes_beyond and expected.fixed_nano <= alone}
        if self.fewest is None or not expected.per_token_zepto:
            return {False}
        most = expected.affordable_tokens(alone)
        return {most >= self.fewest, most > self.fewest}

    def verdicts(self, left: int, alone: int, *, is_free: bool, is_turn: bool, may_wait: bool) -> set[str]:
        """Return the answers that CONTRACT §3 allows: two if Lua's rounding decides.

        `is_turn`: no other request waits before this one.
        """
        blocked = "waits" if may_wait else "in_flight"
        refused = {blocked if is_carried else "cap" for is_carried in self.is_carried(alone)}
        if self.worst is None:
            return {"all"} if is_turn and left > 0 and is_free else refused
        if not is_turn:
            # A request whose bound fits an empty budget waits for that and has no terms.
            return {blocked} if self.worst.total_nano <= alone else refused
        if self.worst.total_nano <= left:
            return {"whole"}
        expected, may_exceed = self.terms.expected, self.terms.goes_beyond and is_free
        if may_exceed and 0 < left >= expected.total_nano:
            return {"all"}
        if may_wait and expected.total_nano <= alone:
            return {"waits"}
        if self.worst.least_tokens is None and may_exceed and 0 < left >= expected.fixed_nano:
            return {"all"}
        if self.fewest is None:
            return refused
        tokens = self.affordable(left, is_free=is_free)
        if tokens > self.fewest:
            return {"shortened"}
        return {"shortened", *refused} if tokens == self.fewest else refused


@dataclass(frozen=True, slots=True)
class Waiter:
    """One that waits. `channel`: its process."""

    place: int
    channel: str
    asks: Demand


class Queue(dict[str, Waiter]):
    """Waiters of living processes by request id, the first one first. `last_place`: the last that was ever given."""

    last_place = 0


@st.composite
def _demands(draw: st.DrawFn) -> Demand:
    """Generate requests whose expected amount is a fraction of their bound."""
    fixed, per_token, tokens = draw(small), draw(st.integers(0, 20)), draw(st.integers(1, 40))
    worst = WorstCase(fixed, per_token * ZEPTO_PER_NANO, tokens, draw(leasts), 30)
    share = draw(st.sampled_from([1, 2, 5]))
    expected = replace(worst, fixed_nano=fixed // share, per_token_zepto=per_token * ZEPTO_PER_NANO // share)
    goes_beyond = draw(mostly)
    terms = Terms(expected if goes_beyond else worst, goes_beyond, may_shorten=draw(mostly))
    return Demand(worst if draw(mostly) else None, terms)


demands = _demands()
