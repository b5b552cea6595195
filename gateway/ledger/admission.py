"""Encodes an admission for `admit.lua` and decodes its reply. Pure: values in and out.

Rule: a refusal states which limit refused, how much is needed and left, and what would help.
"""

from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache

from gateway.errors import BudgetExceeded, FundingInvalid, Unavailable, WattfareError
from gateway.ledger.outcomes import Admission, Queued, QueuePlace
from gateway.ledger.pace import Pace, too_many_open, too_often
from gateway.ledger.worst_case import Terms, WorstCase
from gateway.money import ZEPTO_PER_NANO, usd_from_nano, usd_text

# Retry-After when only requests in flight are in the way: most answers end within seconds.
RETRY_AFTER_SECONDS = 5


class Admit(IntEnum):
    """Return codes of `admit.lua`."""

    HELD = 0
    SHORTENED = 1
    ALL_HELD = 2
    SHORTENED_ALL_HELD = 3
    NOT_CONNECTED = -1
    CAP_SPENT = -2
    TOO_LITTLE_LEFT = -3
    IN_FLIGHT = -4
    FUNDING_REFUSED = -5
    VOIDED = -6
    NEEDS_TERMS = -7
    WAITS = -8
    TOO_OFTEN = -9
    TOO_MANY_OPEN = -10


# The codes with a hold: whether the answer is shortened, and whether the hold is below the request's bound.
_PLACED = {
    b"%d" % Admit.HELD: (False, False),
    b"%d" % Admit.SHORTENED: (True, False),
    b"%d" % Admit.ALL_HELD: (False, True),
    b"%d" % Admit.SHORTENED_ALL_HELD: (True, True),
}


def outcome(
    reply: bytes, worst: WorstCase | None, terms: Terms | None, *, lease_ms: int
) -> Admission | Queued | WattfareError | None:
    """Return the result of a reply of `admit.lua`; a refusal as the error to raise; None: the budget is not active."""
    uses_left, overdue, cap, held, admitted, funding = reply.split(b" ", 5)
    hold, _, admitted_ms, _, code, tokens, spent = admitted.split(b"\n")
    if (placed := _PLACED.get(code)) is not None:
        is_shortened, is_beyond = placed
        # By position, and only the numbers that are needed, because each takes as long as a look-up.
        return Admission(
            int(hold),
            int(tokens) if is_shortened else None,
            None if cap == b"-1" else max(0, int(cap) - int(spent)),
            funding,
            int(admitted_ms) + lease_ms,
            overdue == b"1",
            None if uses_left == b"-1" else int(uses_left),
            is_beyond,
            admitted,
        )
    match Admit(int(code)):
        case Admit.NOT_CONNECTED:
            return None
        case Admit.TOO_OFTEN:
            return too_often(int(hold))
        case Admit.TOO_MANY_OPEN:
            return too_many_open()
        case (Admit.WAITS | Admit.NEEDS_TERMS) as verdict:
            return Queued(int(hold), verdict is Admit.NEEDS_TERMS)
        case verdict:
            return refusal(verdict, spent=int(spent), held=int(held), cap=int(cap), worst=worst, terms=terms)


def constants(pace: Pace, *, lease_ms: int, keep_days: int, trial_ms: int, mode: str) -> str:
    """Return the settings that `admit.lua` needs, as Lua before its text."""
    return (
        f"local OPEN_MOST, PER_MINUTE, LEASE_MS = {pace.open_requests}, {pace.requests_a_minute}, {lease_ms}\n"
        f"local KEEP_DAYS, TRIAL_MS, IS_FUNDED = {keep_days}, {trial_ms}, {'true' if mode == 'live' else 'false'}\n"
    )


def encode_queue(turn: QueuePlace, worst: WorstCase | None, terms: Terms | None) -> str:
    """Return `admit.lua`'s argument with place and terms; empty at the first call of a request without terms."""
    if terms is None and not turn.place and not turn.is_over:
        return ""
    place = "-" if turn.is_over else str(turn.place or "")
    encoded = encode_terms(worst, terms)
    return f"{place} {encoded}" if place or encoded else ""


def encode_terms(worst: WorstCase | None, terms: Terms | None) -> str:
    """Return the terms as `admit.lua`'s argument; empty without terms."""
    if worst is None or terms is None:
        return ""
    expected = terms.expected
    least: int | str = "" if worst.least_tokens is None else min(worst.least_tokens, worst.max_tokens)
    if not terms.may_shorten and least != "":
        least = "-"
    usual = worst.max_tokens if worst.usual_tokens is None else worst.usual_tokens
    return (
        f"{terms.goes_beyond:d} {expected.total_nano} {expected.fixed_nano} {per_token_nano(expected)} "
        f"{least} {usual} {worst.fixed_nano} {per_token_nano(worst)}"
    )


def per_token_nano(worst: WorstCase) -> str:
    """Return the price of one output token for Lua.

    Lua computes in doubles. At four units in the last place above the exact price, no product with a number of tokens
    is rounded to below the exact amount.
    """
    return _nano_as_double(worst.per_token_zepto)


# There are only as many values as prices, and formatting a double takes longer than all other arguments together.
@lru_cache(maxsize=4096)
def _nano_as_double(zepto: int) -> str:
    return repr(zepto / ZEPTO_PER_NANO * (1 + 2**-50)) if zepto else "0"


def refusal(
    verdict: Admit, *, spent: int, held: int, cap: int, worst: WorstCase | None, terms: Terms | None
) -> WattfareError:
    """Return the error of a refusal, with the amounts behind it (given in nano-USD)."""
    alone = max(0, cap - spent)
    needed = terms.expected.total_nano if terms is not None else worst.total_nano if worst is not None else None
    amounts: Mapping[str, object] = {
        "neededUsd": None if needed is None else usd_from_nano(needed),
        "leftUsd": usd_from_nano(max(0, alone - held)),
        "spentUsd": usd_from_nano(spent),
        "heldUsd": usd_from_nano(held),
    }
    match verdict:
        case Admit.FUNDING_REFUSED:
            return FundingInvalid()
        case Admit.CAP_SPENT:
            return BudgetExceeded(
                f"The monthly cap of {usd_text(cap)} USD is spent. "
                "The user can raise it, or wait until spend is 30 days old.",
                limit="cap",
                fields=amounts,
            )
        case Admit.IN_FLIGHT:
            return BudgetExceeded(
                f"Requests in flight hold {usd_text(held)} of the {usd_text(alone)} USD that are left of the cap"
                f"{_needs(needed)}. Try again when they have ended.{_helps(alone - held, terms)}",
                limit="in_flight",
                fields=amounts,
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        case Admit.TOO_LITTLE_LEFT:
            return BudgetExceeded(
                f"The {usd_text(alone)} USD that are left of the cap cannot carry this request{_needs(needed)}."
                f"{_helps(alone, terms)} Shorten the prompt, take a cheaper model, or ask the user to raise the cap.",
                limit="cap",
                fields=amounts,
            )
        case _:
            return Unavailable("This request was given up before. Send it again.")


def _needs(needed: int | None) -> str:
    return "" if needed is None else f": it may cost {usd_text(needed)} USD"


def _helps(nano: int, terms: Terms | None) -> str:
    """Return a sentence with the output ceiling that `nano` affords; empty if none would help."""
    if terms is None or not terms.ceiling:
        return ""
    affordable = terms.expected.affordable_tokens(nano)
    if affordable < 1 or affordable >= terms.expected.max_tokens:
        return ""
    return f" Name a {terms.ceiling} of at most {affordable}."
