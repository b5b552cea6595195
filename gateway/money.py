"""Money as whole nano-USD: read exactly, added exactly, shown as USD only at the edge.

Rule: no float takes part in arithmetic. A fraction of a nano-USD rounds up: what was spent is never understated.
"""

from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation

NANO_PER_USD = 1_000_000_000

# Redis Lua counts in doubles: whole numbers are exact up to 2**53, about nine million dollars.
MAX_NANO = 2**53 - 1

# Prices of a token are finer than a nano: whole zepto-USD (1e-21).
ZEPTO_PER_NANO = 10**12

# Enough digits for MAX_NANO beside any fraction that a price or cost literal carries.
_EXACT = Context(prec=60)


def nano_from_usd(usd: Decimal | int | str) -> int:
    """Return `usd` in nano-USD, a fraction rounded up.

    Raises ValueError unless it is finite, not negative and at most MAX_NANO.
    Exponents are bounded before any integer is built: `1e999999999` is refused, not expanded.
    """
    try:
        amount = Decimal(usd)
    except InvalidOperation:
        raise ValueError("not a number") from None
    if not amount.is_finite() or (amount.is_signed() and amount != 0):
        raise ValueError("must be a finite amount that is not negative")
    if amount != 0 and amount.adjusted() > 7:
        raise ValueError("must be at most 9007199 USD")
    nano = int((_EXACT.multiply(amount, NANO_PER_USD)).to_integral_value(rounding=ROUND_CEILING))
    if nano > MAX_NANO:
        raise ValueError("must be at most 9007199 USD")
    return nano


def usd_text(nano: int) -> str:
    """Return `nano` in USD as people write it: all its digits, no exponent, no zeros at the end."""
    whole, rest = divmod(nano, NANO_PER_USD)
    return f"{whole}.{rest:09d}".rstrip("0") if rest else str(whole)


def nano_from_zepto(zepto: int) -> int:
    """Return zepto-USD (1e-21) in nano-USD, a fraction rounded up."""
    return -(-zepto // ZEPTO_PER_NANO)


def usd_from_nano(nano: int) -> float | int:
    """Return `nano` as the JSON number shown at the edge; whole dollars as an integer."""
    whole, rest = divmod(nano, NANO_PER_USD)
    return whole if rest == 0 else nano / NANO_PER_USD
