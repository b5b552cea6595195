"""Money as whole nano-USD: parsed and added exactly, converted to USD only for output.

Rule: no arithmetic with floats. A fraction of a nano-USD is rounded up, so that spend is never understated.
"""

from decimal import Context, Decimal, InvalidOperation
from math import ceil

NANO_PER_USD = 1_000_000_000

# Redis Lua computes in doubles, which keep whole numbers up to 2**53 exact: about nine million dollars.
MAX_NANO = 2**53 - 1

# Token prices are finer than a nano-USD, so they are whole zepto-USD (1e-21).
ZEPTO_PER_NANO = 10**12

# Enough digits for MAX_NANO plus any fraction of a price or cost.
_EXACT = Context(prec=60)
_MAX_USD = Decimal(MAX_NANO).scaleb(-9)
# Below this an amount in nano-USD has no more digits than a double can distinguish.
_WHOLE_USD = 999_999


def nano_from_usd(usd: Decimal | int | str) -> int:
    """Return `usd` in nano-USD, a fraction rounded up.

    Raises ValueError unless it is finite, not negative and at most MAX_NANO.
    Exponents are bounded before any integer is built: `1e999999999` is refused, not expanded.
    """
    try:
        amount = Decimal(usd)
    except InvalidOperation:
        raise ValueError("not a number") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError("must be a finite amount that is not negative")
    if amount > _MAX_USD:
        raise ValueError("must be at most 9007199 USD")
    return ceil(_EXACT.multiply(amount, NANO_PER_USD))


def nano_from_double(usd: float) -> int:
    """Return in nano-USD, a fraction rounded up, the decimal of at most 15 digits that `usd` was read from.

    Raises like `nano_from_usd`. No two such decimals have the same double, so if a whole number of nano-USD with at
    most 15 digits converts back to that double, it is the number that was written.
    """
    if 0 <= usd < _WHOLE_USD and (nano := round(usd * NANO_PER_USD)) / NANO_PER_USD == usd:
        return nano
    return nano_from_usd(repr(usd))


def usd_text(nano: int) -> str:
    """Return `nano` as USD text with all digits, without an exponent or trailing zeros."""
    digits = str(nano).zfill(10)
    return f"{digits[:-9]}.{digits[-9:]}".rstrip("0").rstrip(".")


def nano_from_zepto(zepto: int) -> int:
    """Convert zepto-USD (1e-21) to nano-USD; a fraction is rounded up."""
    return -(-zepto // ZEPTO_PER_NANO)


def capped_nano(zepto: int) -> int:
    """Convert zepto-USD to nano-USD like `nano_from_zepto`, to at most MAX_NANO."""
    nano = -(-zepto // ZEPTO_PER_NANO)
    if nano > MAX_NANO:  # `min` takes three times as long
        return MAX_NANO
    return nano


def usd_from_nano(nano: int) -> float | int:
    """Return `nano` as USD for JSON output; whole dollars as an integer."""
    return nano / NANO_PER_USD if nano % NANO_PER_USD else nano // NANO_PER_USD
