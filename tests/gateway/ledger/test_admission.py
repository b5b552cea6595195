"""The admission script's arguments and reply, converted to and from Python values."""

from dataclasses import replace

import pytest

from gateway.errors import BudgetExceeded, FundingInvalid, Unavailable
from gateway.ledger.admission import (
    RETRY_AFTER_SECONDS,
    Admit,
    encode_queue,
    encode_terms,
    outcome,
    refusal,
)
from gateway.ledger.outcomes import Admission, Queued, QueuePlace
from gateway.ledger.worst_case import Terms, WorstCase
from gateway.money import ZEPTO_PER_NANO

WORST = WorstCase(6_000_000, 20_000 * ZEPTO_PER_NANO, 1000)
EXPECTED = WorstCase(1_000_000, 20_000 * ZEPTO_PER_NANO, 1000)
TERMS = Terms(EXPECTED)


def test_the_terms_are_said_as_the_script_takes_them() -> None:
    """Terms are encoded only for a request that has a bound."""
    assert encode_terms(None, TERMS) == encode_terms(WORST, None) == ""
    beyond, total, fixed, per_token, least, usual, *bound = encode_terms(WORST, TERMS).split(" ")
    assert (beyond, total, fixed, least, usual, bound[0]) == ("1", "21000000", "1000000", "16", "1000", "6000000")
    assert float(per_token) == float(bound[1]) == pytest.approx(20_000)
    assert encode_terms(WORST, Terms(WORST, goes_beyond=False)).startswith("0 26000000 6000000 ")


@pytest.mark.parametrize(
    ("least", "may_shorten", "encoded"),
    [(16, True, "16"), (2000, True, "1000"), (16, False, "-"), (None, True, ""), (None, False, "")],
)
def test_the_floor_is_never_above_what_was_asked_for(least: int | None, may_shorten: bool, encoded: str) -> None:
    """`-`: it must not be shortened; nothing: no ceiling would shorten it."""
    worst = replace(WORST, least_tokens=least)
    assert encode_terms(worst, TERMS._replace(may_shorten=may_shorten)).split(" ")[4] == encoded


@pytest.mark.parametrize(
    ("turn", "place"),
    [(QueuePlace(), ""), (QueuePlace("c"), ""), (QueuePlace("c", 7), "7"), (QueuePlace("c", 7, is_over=True), "-")],
)
def test_a_turn_is_said_as_the_script_takes_it(turn: QueuePlace, place: str) -> None:
    """New, in its place, or over; with the terms behind it. Nothing is said where there is neither."""
    assert encode_queue(turn, WORST, None) == (f"{place} " if place else "")
    assert encode_queue(turn, WORST, TERMS) == f"{place} {encode_terms(WORST, TERMS)}"


@pytest.mark.parametrize(
    ("told", "admitted", "funding", "expected"),
    [
        (
            "-1 1 1000 0",
            "400 9 17 1 0 0 1",
            b"sealed key",
            Admission(400, None, 999, b"sealed key", 77, is_overdue=True),
        ),
        ("-1 0 1000 0", "400 9 17 1 1 20 1", b"k", Admission(400, 20, 999, b"k", 77)),
        ("3 0 -1 0", "400 9 17 1 2 0 1", b"", Admission(400, None, None, b"", 77, uses_left=3, is_beyond=True)),
        ("-1 0 1000 0", "400 9 17 1 3 20 1001", b"", Admission(400, 20, 0, b"", 77, is_beyond=True)),
        ("-1 0 1000 400", "5    -7 0 1", b"", Queued(5, needs_terms=True)),
        ("-1 0 1000 400", "5    -8 0 1", b"", Queued(5, needs_terms=False)),
    ],
)
def test_an_answer_is_a_hold_or_a_place(told: str, admitted: str, funding: bytes, expected: Admission | Queued) -> None:
    """Whatever bytes the sealed key has. A hold comes with its stored lines, and is overdue a lease after its time."""
    lines = admitted.replace(" ", "\n").encode()
    if isinstance(expected, Admission):
        expected = replace(expected, admitted=lines)
    assert outcome(b" ".join((told.encode(), lines, funding)), WORST, TERMS, lease_ms=60) == expected


def _refused(verdict: Admit, *, spent: int = 0, held: int = 0, terms: Terms | None = TERMS) -> BudgetExceeded:
    error = refusal(verdict, spent=spent, held=held, cap=10_000_000, worst=WORST, terms=terms)
    assert isinstance(error, BudgetExceeded)
    return error


def test_a_refusal_says_what_is_needed_and_left_and_what_would_help() -> None:
    """In the amounts that it was decided by: the expected one where it was counted."""
    refused = _refused(Admit.TOO_LITTLE_LEFT, spent=4_000_000, held=1_000_000)
    amounts = {"neededUsd": 0.021, "leftUsd": 0.005, "spentUsd": 0.004, "heldUsd": 0.001}
    assert refused.fields == {"limit": "cap", **amounts}
    assert refused.message.startswith("The 0.006 USD that are left of the cap cannot carry this request")
    assert "Name a max_tokens of at most 250." in refused.message
    for word in ("Shorten the prompt", "cheaper model", "raise the cap"):
        assert word in refused.message


def test_where_only_requests_in_flight_stand_in_the_way_it_says_so() -> None:
    """With the time to wait, which clients obey."""
    refused = _refused(Admit.IN_FLIGHT, held=9_000_000)
    assert (refused.fields["limit"], refused.fields["retryAfter"]) == ("in_flight", RETRY_AFTER_SECONDS)
    assert refused.headers["x-should-retry"] == "true"
    assert "max_tokens" not in refused.message


def test_a_spent_cap_names_the_cap() -> None:
    """No smaller request helps there."""
    refused = _refused(Admit.CAP_SPENT, spent=10_000_000, terms=None)
    assert refused.message.startswith("The monthly cap of 0.01 USD is spent.")
    assert (refused.fields["limit"], refused.fields["neededUsd"], refused.fields["leftUsd"]) == ("cap", 0.026, 0)


def test_what_no_amount_is_known_of_needs_none() -> None:
    """A model without a price; and no ceiling is proposed where there is no field for one."""
    refused = refusal(Admit.IN_FLIGHT, spent=0, held=10, cap=10, worst=None, terms=None)
    assert isinstance(refused, BudgetExceeded)
    assert refused.fields["neededUsd"] is None
    assert "max_tokens" not in _refused(Admit.TOO_LITTLE_LEFT, terms=TERMS._replace(ceiling="")).message


@pytest.mark.parametrize(("verdict", "kind"), [(Admit.FUNDING_REFUSED, FundingInvalid), (Admit.VOIDED, Unavailable)])
def test_other_refusals_are_errors_of_their_own(verdict: Admit, kind: type[Exception]) -> None:
    """The key, and an id that was given up."""
    assert isinstance(refusal(verdict, spent=0, held=0, cap=1, worst=WORST, terms=None), kind)
