"""The daily chart: bars as SVG geometry, and a scale of round amounts. The page has the same data as a table."""

from dataclasses import dataclass
from datetime import UTC, datetime

from consent_web.account import day_ms
from consent_web.money_text import cap_text, usd

WIDTH, HEIGHT = 720, 160  # the SVG is stretched to the page's width; text is outside of it, so it is not stretched
_GAP = 4
_SECOND_MS = 1000
_LABEL_DAYS = 7
# The scale ends at one of these tenths of a power of ten: dense enough that the highest bar fills at least two thirds.
_TENTHS = (10, 12, 16, 20, 30, 40, 50, 60, 80, 100)


@dataclass(frozen=True, slots=True)
class Bar:
    """One day: its bar's geometry, its label and its amount."""

    x: float
    y: float
    width: float
    height: float
    day: str
    nano: int


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: bars, scale from the top down as (amount, y), day labels from left to right, and the highest day."""

    bars: list[Bar]
    scale: list[tuple[str, float]]
    days: list[str]
    most: str


def draw(days: list[tuple[int, int]]) -> Chart:
    """Return the chart of (UTC day number, nano-USD), oldest first. The scale ends at a round amount above all bars."""
    dates = [datetime.fromtimestamp(day_ms(day) / _SECOND_MS, UTC) for day, _ in days]
    highest = max((nano for _, nano in days), default=0)
    top = round_up(highest)
    step = WIDTH / max(1, len(days))
    bars = []
    for place, (_, nano) in enumerate(days):
        # A day with any spend gets a visible bar, even if tiny beside the highest.
        height = max(2.0, HEIGHT * nano / top) if nano > 0 else 0.0
        x, y = round(place * step + _GAP / 2, 2), round(HEIGHT - height, 2)
        bars.append(Bar(x, y, round(step - _GAP, 2), round(height, 2), dates[place].strftime("%a %-d %b %Y"), nano))
    scale = [(cap_text(top * part // 2), HEIGHT * (2 - part) / 2) for part in (2, 1, 0)] if highest else []
    best = max(bars, key=lambda bar: bar.nano, default=None)
    most = f"Most on {best.day}: {usd(best.nano)}." if best is not None and highest else ""
    return Chart(bars, scale, [date.strftime("%-d %b") for date in reversed(dates[::-_LABEL_DAYS])], most)


def round_up(nano: int) -> int:
    """Return the next amount that a scale may end at, at least 10 nano-USD; its half is round too."""
    unit = 10
    while unit * 10 < nano:
        unit *= 10
    return next(unit * tenths // 10 for tenths in _TENTHS if unit * tenths // 10 >= nano)
