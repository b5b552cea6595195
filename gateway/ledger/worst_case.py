"""The cost bounds of a request, on which its admission is decided."""

from dataclasses import dataclass
from typing import NamedTuple

from gateway.money import ZEPTO_PER_NANO, capped_nano

# The least output tokens of a useful answer (CONTRACT §3.6).
MIN_OUTPUT_TOKENS = 16
# The same where a truncated answer is worthless: half a tool call, half a JSON document, reasoning only.
MIN_WHOLE_TOKENS = 1024


@dataclass(slots=True)  # not frozen, because that makes each of its fields cost a call
class WorstCase:
    """The most a request can cost. Immutable.

    `fixed_nano`: the cost of the prompt and the request; `per_token_zepto`: the price of each of `max_tokens` output
    tokens (in zepto-USD, 1e-12 nano-USD, all choices together). A shortened answer has at least `least_tokens` (or
    `max_tokens`, if less) and at most `usual_tokens`. `least_tokens` None: no ceiling shortens it, so all that is left
    is held instead.
    """

    fixed_nano: int
    per_token_zepto: int
    max_tokens: int
    least_tokens: int | None = MIN_OUTPUT_TOKENS
    usual_tokens: int | None = None

    @property
    def total_nano(self) -> int:
        """The bound of the whole request."""
        return self.cost_nano(self.max_tokens)

    def cost_nano(self, tokens: int) -> int:
        """Return the bound for `tokens` output tokens, rounded up."""
        return capped_nano(self.fixed_nano * ZEPTO_PER_NANO + self.per_token_zepto * tokens)

    def affordable_tokens(self, nano: int) -> int:
        """Return how many output tokens `nano` affords, at most `max_tokens`; -1 if not even the prompt fits."""
        rest = nano - self.fixed_nano
        if rest < 0:
            return -1
        if self.per_token_zepto == 0:
            return self.max_tokens
        return min(self.max_tokens, rest * ZEPTO_PER_NANO // self.per_token_zepto)


class Terms(NamedTuple):
    """The terms on which a request may be admitted when its bound does not fit.

    `expected`: the expected cost, at most the bound. `goes_beyond`: whether all that is left may be held when
    `expected` fits (`WATTFARE_HOLDS=expected`); if not, `expected` is the bound. `may_shorten`: whether the output
    ceiling may be lowered. `ceiling`: the name of the request's ceiling field; empty if there is none.
    """

    expected: WorstCase
    goes_beyond: bool = True
    may_shorten: bool = True
    ceiling: str = "max_tokens"
