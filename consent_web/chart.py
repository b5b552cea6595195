"""The daily chart as SVG geometry; the page draws it and repeats it as a table."""

from dataclasses import dataclass
from datetime import UTC, datetime

from consent_web.account import day_ms

WIDTH, HEIGHT = 720, 160
_BASE, _TOP = HEIGHT - 22, 14  # room for the labels below and for the highest bar's edge above
_GAP = 4
_SECOND_MS = 1000


@dataclass(frozen=True, slots=True)
class Bar:
    """One day: where its bar stands, what it says. `label` is empty where the axis has no room."""

    x: float
    y: float
    width: float
    height: float
    day: str
    label: str
    nano: int


def bars(days: list[tuple[int, int]]) -> list[Bar]:
    """Return a bar for each (UTC day number, nano-USD); the highest fills the chart, a day without spend has none."""
    highest = max((nano for _, nano in days), default=0)
    step = WIDTH / max(1, len(days))
    made = []
    for place, (day, nano) in enumerate(days):
        height = (_BASE - _TOP) * nano / highest if highest else 0
        # A day with spend is visible, however little it is beside the highest.
        height = max(2.0, height) if nano else 0.0
        date = datetime.fromtimestamp(day_ms(day) / _SECOND_MS, UTC)
        label = date.strftime("%-d %b") if (len(days) - 1 - place) % 7 == 0 else ""
        made.append(
            Bar(
                x=round(place * step + _GAP / 2, 2),
                y=round(_BASE - height, 2),
                width=round(step - _GAP, 2),
                height=round(height, 2),
                day=date.strftime("%a %-d %b %Y"),
                label=label,
                nano=nano,
            )
        )
    return made
