"""Summaries of spend for people: the weekly trend, models by spend, the outcome of requests."""

from dataclasses import dataclass

from consent_web.money_text import usd

_WEEK_DAYS = 7
# Above this factor a percentage is no longer helpful.
_MANY_TIMES = 10
# Status of a ledger entry → its word on the page and an explanation.
_RESULTS = {
    "settled": ("Paid", "What OpenRouter charged."),
    "estimated": ("Estimated", "OpenRouter has not said the cost; this is reckoned from what was sent and received."),
    "void": ("Not charged", "It did not reach a model, or OpenRouter refused it."),
}
_CORRECTED = ("Corrected", "OpenRouter said the cost later; this is the difference to what was booked first.")


@dataclass(frozen=True, slots=True)
class Trend:
    """Spend of today and of the last seven UTC days, in nano-USD, and a comparison with the week before, as text."""

    today_nano: int
    week_nano: int
    words: str


@dataclass(frozen=True, slots=True)
class ModelSpend:
    """One model's spend in nano-USD, its requests, and its share of the total in percent."""

    model: str
    nano: int
    requests: int
    share: float


def trend(days: list[tuple[int, int]]) -> Trend:
    """Return the trend of (UTC day number, nano-USD), oldest first, today last."""
    amounts = [nano for _, nano in days]
    week, before = sum(amounts[-_WEEK_DAYS:]), sum(amounts[-2 * _WEEK_DAYS : -_WEEK_DAYS])
    return Trend(amounts[-1] if amounts else 0, week, _compared(week, before))


def added(many: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """Return the daily spend of several budgets, summed, oldest first."""
    sums: dict[int, int] = {}
    for days in many:
        for day, nano in days:
            sums[day] = sums.get(day, 0) + nano
    return sorted(sums.items())


def models(entries: list[dict[str, str]]) -> list[ModelSpend]:
    """Return the spend of each model in the ledger's entries, highest first."""
    spent: dict[str, int] = {}
    requests: dict[str, set[str]] = {}
    for entry in entries:
        name = entry["model"] or "–"
        spent[name] = spent.get(name, 0) + int(entry["delta_nano"])
        requests.setdefault(name, set()).add(entry["request_id"])
    total = sum(spent.values())
    made = [
        ModelSpend(name, nano, len(requests[name]), round(100 * nano / total, 2) if total > 0 and nano > 0 else 0.0)
        for name, nano in spent.items()
    ]
    return sorted(made, key=lambda one: (-one.nano, one.model))


def result(entry: dict[str, str]) -> dict[str, str]:
    """Return an entry's outcome: `result` (a word), its `meaning`, and `above` (the cost above its hold, or empty)."""
    is_first = entry["delta_nano"] == entry["cost_nano"]
    label, meaning = _RESULTS.get(entry["status"], (entry["status"], "")) if is_first else _CORRECTED
    overrun = int(entry["overrun_nano"])
    return {"result": label, "meaning": meaning, "above": usd(overrun) if overrun else ""}


def above_holds(count: int, nano: int) -> str:
    """Return a sentence on `count` requests that cost `nano` more than their holds; empty for none."""
    if not count:
        return ""
    which = "One request" if count == 1 else f"{count} requests"
    return f"{which} cost {usd(nano)} more than was set aside; counted in full."


def _compared(week_nano: int, before_nano: int) -> str:
    if not before_nano:
        return "Nothing in the 7 days before." if week_nano else ""
    if week_nano >= _MANY_TIMES * before_nano:
        return f"More than {_MANY_TIMES} times the 7 days before."
    change = round(100 * (week_nano - before_nano) / before_nano)
    if not change:
        return "As much as in the 7 days before."
    return f"{abs(change)} % {'more' if change > 0 else 'less'} than in the 7 days before."
