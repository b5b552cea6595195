"""What was spent, put so that a person sees it: the trend of days, models by spend, requests in plain words."""

from dataclasses import dataclass

from consent_web.money_text import usd

_WEEK_DAYS = 7
# From here on a percentage is no help any more.
_MANY_TIMES = 10
# What became of a request, and what that means.
_RESULTS = {
    "settled": ("Paid", "What OpenRouter charged."),
    "estimated": ("Estimated", "OpenRouter has not said the cost; this is reckoned from what was sent and received."),
    "void": ("Not charged", "It did not reach a model, or OpenRouter refused it."),
}
_CORRECTED = ("Corrected", "OpenRouter said the cost later; this is the difference to what was booked first.")


@dataclass(frozen=True, slots=True)
class Trend:
    """What was spent today and in the last seven UTC days, in nano-USD, and how that compares, in words."""

    today_nano: int
    week_nano: int
    words: str


@dataclass(frozen=True, slots=True)
class ModelSpend:
    """One model's part: nano-USD, requests, and its share of all in percent."""

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
    """Return the days of several budgets added up, oldest first."""
    sums: dict[int, int] = {}
    for days in many:
        for day, nano in days:
            sums[day] = sums.get(day, 0) + nano
    return sorted(sums.items())


def models(entries: list[dict[str, str]]) -> list[ModelSpend]:
    """Return what each model took of the ledger's entries, the dearest first."""
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
    """Return what became of a ledger's entry as `result`, a word, what that word means, and `above`: over its hold."""
    is_first = entry["delta_nano"] == entry["cost_nano"]
    word, meaning = _RESULTS.get(entry["status"], (entry["status"], "")) if is_first else _CORRECTED
    overrun = int(entry["overrun_nano"])
    return {"result": word, "meaning": meaning, "above": usd(overrun) if overrun else ""}


def above_holds(count: int, nano: int) -> str:
    """Return what so many requests cost above what was set aside for them, in words; empty when nothing."""
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
