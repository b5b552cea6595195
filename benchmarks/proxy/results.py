"""Figures of a run: medians of interleaved samples, as JSON and as tables of ratios to nginx + Lua."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.proxy.limits import BARE, LUA

# What a row states, in this order, with its unit and how many digits are of use.
UNITS: Mapping[str, tuple[str, int]] = {
    "cpu_us": ("CPU µs/request", 1),
    "redis_us": ("Redis CPU µs/request", 1),
    "per_second": ("requests/s", 0),
    "core_share": ("share of its core", 2),
    "others_share": ("share of others", 2),
    "added_p50_ms": ("added ms, p50", 3),
    "added_p99_ms": ("added ms, p99", 3),
    "first_added_p50_ms": ("added ms to the first byte, p50", 3),
    "first_added_p99_ms": ("added ms to the first byte, p99", 3),
    "stream_kb": ("kB/open stream", 1),
    "idle_mb": ("MB idle", 1),
}
# So much of a core goes to kernel threads and the gateway that waits for its turn; more is somebody else.
_MOST_OTHERS_SHARE = 0.1
_RATIOS = ("cpu_us", "redis_us", "added_p50_ms", "added_p99_ms", "stream_kb", "idle_mb")


@dataclass(frozen=True, slots=True)
class Result:
    """What one contender showed in one row. `values` are medians of `samples`."""

    row: str
    contender: str
    values: Mapping[str, float]
    samples: Sequence[Mapping[str, float]] = ()

    @classmethod
    def of(cls, row: str, contender: str, samples: Sequence[Mapping[str, float]]) -> "Result":
        """Return the medians of some samples."""
        values = {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}
        return cls(row, contender, values, samples)

    def as_json(self) -> dict[str, object]:
        """Return it as the results file holds it."""
        return dataclasses.asdict(self)


def report(results: Sequence[Result]) -> str:
    """Return every figure as text, one line a row and contender, with ratios to nginx + Lua of the same row."""
    lines = []
    for result in results:
        limit = _limit(results, result.row)
        parts = [_figure(name, value, limit.get(name)) for name, value in result.values.items()]
        lines.append(f"{result.row:<38}{result.contender:<14}" + "   ".join(parts))
    return "\n".join(lines)


def _figure(name: str, value: float, limit: float | None) -> str:
    unit, digits = UNITS[name]
    ratio = f" ({_times(value / limit)})" if limit and name in _RATIOS else ""
    return f"{value:,.{digits}f} {unit}{ratio}"


def readme_table(results: Sequence[Result], machine: str) -> str:
    """Return the README's table: what was measured on, and for each row multiples of nginx + Lua in that same row."""
    names = list(dict.fromkeys(result.contender for result in results))
    shown = [name for name in (BARE, LUA) if name in names] + [name for name in names if name not in (BARE, LUA)]
    lines = [machine, "", f"| | {' | '.join(shown)} |", f"| --- |{' --- |' * len(shown)}"]
    for row in dict.fromkeys(result.row for result in results):
        by_name = {result.contender: result.values for result in results if result.row == row}
        limit = by_name.get(LUA, {})
        for name in (name for name in _RATIOS if name in limit):
            cells = (_cell(name, by_name.get(contender, {}).get(name), limit[name], contender) for contender in shown)
            lines.append(f"| {row}: {UNITS[name][0].split('/')[0]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(name: str, value: float | None, limit: float, contender: str) -> str:
    unit, digits = UNITS[name]
    if value is None or limit == 0 or (value == 0 and name == "redis_us"):
        return "–"
    if contender == LUA:
        return f"1 ({value:,.{digits}f} {_short(unit)})"
    return _times(value / limit)


def _short(unit: str) -> str:
    return next(short for short in ("µs", "ms", "kB", "MB") if short in unit)


def _times(ratio: float) -> str:
    return f"{ratio:.2f}×" if ratio < 1 else f"{ratio:.1f}×"


def _limit(results: Iterable[Result], row: str) -> Mapping[str, float]:
    return next((result.values for result in results if (result.row, result.contender) == (row, LUA)), {})


def disturbed(results: Iterable[Result]) -> list[str]:
    """Return a line for each result that other programs on the core have spoilt."""
    shares = ((result, result.values.get("others_share", 0)) for result in results)
    return [
        f"DISTURBED: {result.row}, {result.contender}: other programs used {share:.0%} of its core"
        for result, share in shares
        if share > _MOST_OTHERS_SHARE
    ]


def with_table(text: str, table: str) -> str:
    """Return a document with what stands between its two markers replaced. Raises ValueError without markers."""
    begin, end = "<!-- bench:begin -->", "<!-- bench:end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the document lacks {begin} … {end}")
    return f"{before}{begin}\n{table}\n{end}{after}"
