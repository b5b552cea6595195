"""Formats and parses amounts for people. No floats are used."""

from decimal import Decimal

from gateway.money import NANO_PER_USD, nano_from_usd

NANO_PER_CENT = NANO_PER_USD // 100
# A lower monthly cap is considered a mistake, unless the app itself suggests less.
MIN_CAP_NANO = NANO_PER_USD // 2
# A higher monthly cap for one app is considered a typing error.
MAX_CAP_NANO = 1000 * NANO_PER_USD
_TWO_DIGITS_NANO = 10 * NANO_PER_CENT
PRESETS_NANO = tuple(dollars * NANO_PER_USD for dollars in (2, 5, 10, 20))


class CapRefused(ValueError):
    """The amount cannot be a cap; the message says which can."""


def usd(nano: int) -> str:
    """Return `$12.34`, rounded down to cents; below ten cents at least two significant digits: `$0.000023`."""
    if nano < 0:
        return f"–{usd(-nano)}"
    if 0 < nano < _TWO_DIGITS_NANO and nano % NANO_PER_CENT:
        # Many AI requests cost less than a cent, which would be shown as $0.00.
        places = 9 - (len(str(nano)) - 2)
        return f"$0.{nano // 10 ** (9 - places):0{places}d}" if places < 9 else f"${exact(nano)}"
    cents = nano // NANO_PER_CENT
    return f"${cents // 100:,}.{cents % 100:02d}"


def exact(nano: int) -> str:
    """Return the amount to the nano-USD, for titles and exports: `0.000000123`."""
    whole, rest = divmod(nano, NANO_PER_USD)
    digits = f"{rest:09d}".rstrip("0")
    return f"{whole}.{digits.ljust(2, '0')}"


def cap_text(nano: int) -> str:
    """Return a cap in cents, or with all digits if the app suggested a fraction of a cent."""
    return usd(nano) if nano % NANO_PER_CENT == 0 else f"${exact(nano)}"


def least_cap_nano(requested_nano: int | None) -> int:
    """Return the smallest cap a payer may set: half a dollar, or the app's suggestion if that is less."""
    return MIN_CAP_NANO if requested_nano is None else min(MIN_CAP_NANO, requested_nano)


def cap_range(requested_nano: int | None, joint: str) -> str:
    """Return the caps a payer may set, as `$0.50 {joint} $1,000.00`: whole cents, and the app's suggestion."""
    least = least_cap_nano(requested_nano)
    least_typed = -(-least // NANO_PER_CENT) * NANO_PER_CENT
    range_text = f"{usd(least_typed)} {joint} {usd(MAX_CAP_NANO)}"
    return range_text if least == least_typed else f"{range_text}, or {cap_text(least)}"


def cap_from_json(value: object, *, requested_nano: int | None) -> int:
    """Return the cap in nano-USD of a JSON number parsed as Decimal or int. Raises CapRefused."""
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        raise CapRefused("The cap must be a number of US dollars.")
    return _checked(Decimal(value), requested_nano)


def cap_from_text(text: str, *, requested_nano: int | None) -> int:
    """Return the cap in nano-USD of a typed text such as `10`, `10.5`, `10,50` or `$10`. Raises CapRefused."""
    typed = text.strip().removeprefix("US$").removeprefix("$").strip()
    whole, _, cents = typed.replace(",", ".", 1).partition(".")
    if not (whole or "0").isdecimal() or not (cents or "0").isdecimal() or not typed.isascii() or not typed:
        raise CapRefused("Type an amount such as 10 or 10.50.")
    return _checked(Decimal(f"{whole or 0}.{cents or 0}"), requested_nano)


def _checked(amount: Decimal, requested_nano: int | None) -> int:
    least = least_cap_nano(requested_nano)
    refusal = CapRefused(f"The cap must be between {cap_range(requested_nano, 'and')}.")
    if not amount.is_finite() or amount <= 0:
        raise refusal
    try:
        nano = nano_from_usd(amount)
    except ValueError:
        raise refusal from None
    if not least <= nano <= MAX_CAP_NANO:
        raise refusal
    if nano % NANO_PER_CENT and nano != requested_nano:
        raise CapRefused("The cap must be in whole cents.")
    return nano
