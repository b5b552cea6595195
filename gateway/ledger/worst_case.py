"""The most a request can cost, as admission takes it."""

from typing import NamedTuple

from gateway.money import MAX_NANO, ZEPTO_PER_NANO, nano_from_zepto

# Fewer than this many output tokens are no answer (CONTRACT §3.6).
MIN_OUTPUT_TOKENS = 16
# Nor are fewer than this where a cut answer is worthless: half a tool call, half a JSON document, thoughts alone.
MIN_WHOLE_TOKENS = 1024


class WorstCase(NamedTuple):
    """The most a request can cost.

    `fixed_nano` for what is sent; then for each of `max_tokens` output tokens `per_token_zepto` (zepto-USD, 1e-12
    nano-USD, all choices together). It is shortened to at least `least_tokens` (or `max_tokens`, if those are fewer)
    and at most `usual_tokens`. `least_tokens` None: no ceiling would shorten it, so all that is left is held instead.
    """

    fixed_nano: int
    per_token_zepto: int
    max_tokens: int
    least_tokens: int | None = MIN_OUTPUT_TOKENS
    usual_tokens: int | None = None

    @property
    def total_nano(self) -> int:
        """The hold that covers everything."""
        return self.cost_nano(self.max_tokens)

    def cost_nano(self, tokens: int) -> int:
        """Return the bound for `tokens` output tokens, rounded up."""
        return min(MAX_NANO, self.fixed_nano + nano_from_zepto(self.per_token_zepto * tokens))

    def affordable_tokens(self, nano: int) -> int:
        """Return how many output tokens `nano` carries, at most `max_tokens`; -1 when not even the prompt fits."""
        rest = nano - self.fixed_nano
        if rest < 0:
            return -1
        if self.per_token_zepto == 0:
            return self.max_tokens
        return min(self.max_tokens, rest * ZEPTO_PER_NANO // self.per_token_zepto)


class Terms(NamedTuple):
    """On which terms a request is let through when its bound does not fit.

    `expected`: what it costs at most, but for a tokenizer that we do not know; no more than its bound. `goes_beyond`:
    whether all that is left may be held for it where that amount fits (`WATTFARE_HOLDS=expected`); else `expected` is
    the bound itself. `may_shorten`: whether its ceiling may be lowered. `ceiling`: the field that names one; empty
    where there is none.
    """

    expected: WorstCase
    goes_beyond: bool = True
    may_shorten: bool = True
    ceiling: str = "max_tokens"
