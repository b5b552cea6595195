"""What the ledger answers, read."""

from gateway.ledger.outcomes import standing_of, sum_by_day


def test_a_budget_that_was_never_opened_is_worth_nothing() -> None:
    """No state, no cap, nothing held."""
    standing = standing_of(0, {})
    assert (standing.is_connected, standing.cap_nano, standing.held_nano, standing.revocations) == (False, None, 0, 0)


def test_what_remains_is_never_below_nothing() -> None:
    """A cap that was lowered below the spend leaves 0; without a cap there is no rest."""
    fields = {"state": b"active", "cap_nano": b"100", "held_nano": b"7", "revocations": b"2"}
    assert standing_of(30, fields).remaining_nano == 70
    assert standing_of(130, fields).remaining_nano == 0
    assert standing_of(30, fields | {"cap_nano": b""}).remaining_nano is None
    assert standing_of(30, fields).revocations == 2


def test_entries_add_up_by_day() -> None:
    """Also where a correction lies on the day of its request."""
    entries = [{"day": day, "delta_nano": nano} for day, nano in (("9", "5"), ("9", "-2"), ("10", "4"))]
    assert sum_by_day(entries) == {9: 3, 10: 4}
