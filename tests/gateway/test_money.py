"""Money: exact in, rounded up, bounded, and shown as a JSON number."""

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.money import MAX_NANO, nano_from_double, nano_from_usd, usd_from_nano


@pytest.mark.parametrize(
    ("usd", "nano"),
    [
        ("0", 0),
        ("-0", 0),
        ("9e-7", 900),
        ("0.0076509169000000005", 7_650_917),
        ("0.000000001", 1),
        ("1e-30", 1),
        ("1E-9999", 1),
        (5, 5_000_000_000),
        (Decimal("2.50"), 2_500_000_000),
        ("9007199.254740991", MAX_NANO),
    ],
)
def test_dollars_become_nano_rounded_up(usd: Decimal | int | str, nano: int) -> None:
    """A fraction of a nano-USD counts as a whole one."""
    assert nano_from_usd(usd) == nano


@pytest.mark.parametrize(
    "usd",
    ["", "x", "NaN", "sNaN", "Infinity", "-Infinity", "-1", "-1e-30", "1e309", "1e999999999", "9007199.254740992"],
)
def test_what_is_no_amount_is_refused(usd: str) -> None:
    """Not a number, negative, endless, or more than a double counts exactly."""
    with pytest.raises(ValueError, match=r"."):
        nano_from_usd(usd)


# From 2**22 USD on two neighbours of a nano-USD share a double, which is what JSON numbers are read as.
@given(st.integers(min_value=0, max_value=2**22 * 10**9))
def test_an_amount_shown_reads_back_as_itself(nano: int) -> None:
    """What the edge shows names the same nano-USD."""
    assert round(Decimal(repr(usd_from_nano(nano))) * 10**9) == nano


@given(st.decimals(min_value=0, max_value=9_000_000, allow_nan=False, allow_infinity=False))
def test_rounding_never_understates(usd: Decimal) -> None:
    """At least the amount, and less than one nano-USD more."""
    assert 0 <= Decimal(nano_from_usd(usd)).scaleb(-9) - usd < Decimal("1e-9")


@given(digits=st.integers(min_value=-(10**15) + 1, max_value=10**15 - 1), exponent=st.integers(-35, 8))
def test_a_double_is_the_amount_that_was_written(digits: int, exponent: int) -> None:
    """Fifteen digits are what a double keeps, so that it costs what its literal does, refusals included."""
    literal = f"{digits}e{exponent}"
    exact = None
    with contextlib.suppress(ValueError):
        exact = nano_from_usd(literal)

    if exact is None:
        with pytest.raises(ValueError, match="must be"):
            nano_from_double(float(literal))
    else:
        assert nano_from_double(float(literal)) == exact


def test_whole_dollars_are_shown_without_a_fraction() -> None:
    """5, not 5.0."""
    assert (usd_from_nano(5 * 10**9), usd_from_nano(0)) == (5, 0)
    assert isinstance(usd_from_nano(5 * 10**9), int)
