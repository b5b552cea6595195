"""The results of a run: medians of interleaved samples, as JSON and as tables of ratios to nginx + Lua."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.proxy.limits import BARE, LUA


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured quantity. `is_cost`: lower is better, so it is shown as a multiple of nginx + Lua's."""

    label: str
    unit: str
    digits: int
    is_cost: bool = True


METRICS: Mapping[str, Metric] = {
    "cpu_us": Metric("CPU", "µs", 1),
    "redis_us": Metric("Redis' CPU", "µs", 1),
    "per_second": Metric("requests a second", "", 0, is_cost=False),
    "core_share": Metric("its share of the core", "", 2, is_cost=False),
    "others_share": Metric("others' share", "", 2, is_cost=False),
    "added_p50_ms": Metric("added, p50", "ms", 3),
    "added_p99_ms": Metric("added, p99", "ms", 3),
    "first_added_p50_ms": Metric("added to first byte, p50", "ms", 3),
    "first_added_p99_ms": Metric("added to first byte, p99", "ms", 3),
    "stream_kb": Metric("memory a stream", "kB", 1),
    "idle_mb": Metric("memory", "MB", 1),
}
# The quantities shown together in one cell of the README's table.
_CELLS: Mapping[str, Sequence[str]] = {
    "CPU · Redis' CPU, a request": ("cpu_us", "redis_us"),
    "added, p50 · p99": ("added_p50_ms", "added_p99_ms"),
    "added to first byte, p50 · p99": ("first_added_p50_ms", "first_added_p99_ms"),
    "memory, a stream": ("stream_kb",),
    "memory": ("idle_mb",),
}
# Kernel threads and the idle gateway use up to this share of a core; a larger one is another program's.
_MOST_OTHERS_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Result:
    """One contender's result in one row. `values`: medians of `samples`."""

    row: str
    contender: str
    values: Mapping[str, float]
    samples: Sequence[Mapping[str, float]] = ()

    @classmethod
    def of(cls, row: str, contender: str, samples: Sequence[Mapping[str, float]]) -> "Result":
        """Return the result with the medians of the samples."""
        values = {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}
        return cls(row, contender, values, samples)

    def as_json(self) -> dict[str, object]:
        """Return the result in the form of the results file."""
        return dataclasses.asdict(self)


def report(results: Sequence[Result]) -> str:
    """Return all results as text: one line for each row and contender, with multiples of nginx + Lua's."""
    lines = []
    for result in results:
        limit = _limit(results, result.row)
        parts = [_measured(name, value, limit.get(name)) for name, value in result.values.items() if value]
        lines.append(f"{result.row:<38}{result.contender:<14}" + "   ".join(parts))
    return "\n".join(lines)


def _measured(name: str, value: float, limit: float | None) -> str:
    measure = METRICS[name]
    multiple = f" ({_times(value / limit)})" if limit and measure.is_cost else ""
    return f"{measure.label} {_figure(name, value)}{multiple}"


def readme_table(results: Sequence[Result], machine: str) -> str:
    """Return the README's table: the machine, and for each row the multiples of nginx + Lua's figures."""
    names = list(dict.fromkeys(result.contender for result in results))
    shown = [name for name in (BARE, LUA) if name in names] + [name for name in names if name not in (BARE, LUA)]
    lines = [machine, "", f"| | | {' | '.join(shown)} |", f"| --- | --- |{' --- |' * len(shown)}"]
    for row in dict.fromkeys(result.row for result in results):
        by_name = {result.contender: result.values for result in results if result.row == row}
        limit = by_name.get(LUA, {})
        for label, measures in _CELLS.items():
            if measures[0] in limit:
                cells = (_cell(measures, by_name.get(name, {}), limit, is_limit=name == LUA) for name in shown)
                lines.append(f"| {row} | {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(measures: Sequence[str], values: Mapping[str, float], limit: Mapping[str, float], *, is_limit: bool) -> str:
    """Return the multiples of the yardstick for each quantity; for the yardstick itself the figures."""
    stated = [name for name in measures if values.get(name) and limit.get(name)]
    if is_limit:
        return "1 (" + " · ".join(_figure(name, limit[name]) for name in stated) + ")"
    return " · ".join(_times(values[name] / limit[name]) for name in stated) or "–"


def _figure(name: str, value: float) -> str:
    measure = METRICS[name]
    return f"{value:,.{measure.digits}f} {measure.unit}".rstrip()


def _times(multiple: float) -> str:
    digits = 2 if multiple < 1 else 1 if multiple < 100 else 0
    return f"{multiple:,.{digits}f}×"


def _limit(results: Iterable[Result], row: str) -> Mapping[str, float]:
    return next((result.values for result in results if (result.row, result.contender) == (row, LUA)), {})


def disturbed(results: Iterable[Result]) -> list[str]:
    """Return a line for each result that other programs on the core disturbed."""
    shares = ((result, result.values.get("others_share", 0)) for result in results)
    return [
        f"DISTURBED: {result.row}, {result.contender}: other programs used {share:.0%} of its core"
        for result, share in shares
        if share > _MOST_OTHERS_SHARE
    ]


def with_table(text: str, table: str) -> str:
    """Return a document with the text between its two markers replaced. Raises ValueError without markers."""
    begin, end = "<!-- bench:begin -->", "<!-- bench:end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the document lacks {begin} … {end}")
    return f"{before}{begin}\n{table}\n{end}{after}"
