"""Reads one budget consistently, with all data from which its sums can be recomputed. For operator's tools."""

from dataclasses import dataclass

from gateway.keys import Budget
from gateway.ledger.outcomes import WINDOW_DAYS, Standing, standing_of
from gateway.ledger.record import Hold, read_entry, read_hold
from gateway.store.replies import by_name, paired, text
from gateway.store.store import Store

_ENTRIES_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Audit:
    """One consistent reading of a budget. `holds`: the entries of `due`, as (id, due ms, state, nano or None).

    `records`: each request's hold as (state, cost_nano), unless expired; read atomically with the request's last entry.
    `beyond`: open holds below their request's bound; `waiting`: ids of waiting requests. `is_whole`: whether `entries`
    are all that were ever written; None if this Redis cannot tell.
    """

    now_ms: int
    today: int
    standing: Standing
    days: dict[int, int]
    holds: tuple[tuple[str, int, str, int | None], ...]
    entries: list[dict[str, str]]
    records: dict[str, tuple[str, int]]
    beyond: tuple[str, ...]
    waiting: tuple[str, ...]
    is_whole: bool | None


async def read_audit(store: Store, budget: Budget) -> Audit:
    """Return a consistent reading of a budget. Raises Unavailable."""
    names = [budget.budget, budget.days, budget.due, budget.ledger, budget.queue]
    entries: list[dict[str, str]] = []
    records: dict[str, bytes] = {}
    while True:
        after = entries[-1]["entry"] if entries else ""
        args: list[str | int] = [budget.hold(""), after, _ENTRIES_AT_ONCE]
        now_ms, today, added, length, kept, days, *read = await store.run("audit", names, args)
        holds, found, shown, waiting = read
        entries += [read_entry(name, paired(flat)) for name, flat in found]
        # A later batch overwrites a request's record, so it is the one read with the request's last entry.
        ids = [entry["request_id"] for entry in entries[len(entries) - len(found) :]]
        records.update(zip(ids, shown, strict=True))
        if len(found) < _ENTRIES_AT_ONCE:
            break
    open_holds = [(text(name), _read(raw)) for name, raw in zip(holds[::3], holds[2::3], strict=True)]
    by_day = {int(day): int(nano) for day, nano in paired(days).items()}
    spent = sum(nano for day, nano in by_day.items() if day > today - WINDOW_DAYS)
    return Audit(
        now_ms=now_ms,
        today=today,
        standing=standing_of(spent, by_name(paired(kept)), now_ms=now_ms),
        days=by_day,
        holds=tuple(
            (text(name), due_ms, *_held(raw))
            for name, due_ms, raw in zip(holds[::3], holds[1::3], holds[2::3], strict=True)
        ),
        entries=entries,
        records={each: _shown(raw) for each, raw in records.items() if raw},
        beyond=tuple(name for name, hold in open_holds if hold is not None and hold.is_beyond),
        waiting=tuple(text(name) for name in waiting),
        is_whole=None if added < 0 else added == length == len(entries),
    )


def _read(raw: bytes) -> Hold | None:
    """Return a hold; None if it is missing or unreadable."""
    try:
        return read_hold(raw)
    except ValueError:
        return None


def _held(raw: bytes) -> tuple[str, int | None]:
    """Return state and amount of a hold; an empty state and None if it is missing or unreadable."""
    hold = _read(raw)
    return ("", None) if hold is None else (hold.state, hold.nano)


def _shown(raw: bytes) -> tuple[str, int]:
    """Return state and cost of a closed hold; an empty state if it is unreadable."""
    hold = _read(raw)
    return ("", 0) if hold is None else (hold.state, hold.cost_nano or 0)
