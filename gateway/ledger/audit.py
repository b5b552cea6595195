"""One budget read for checking: all that its sums can be recomputed from, as of one moment. For the operator."""

from dataclasses import dataclass

from gateway.keys import Budget
from gateway.ledger.outcomes import WINDOW_DAYS, Standing, standing_of
from gateway.ledger.record import Hold, read_entry, read_hold
from gateway.store.replies import by_name, paired, text
from gateway.store.store import Store

_ENTRIES_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Audit:
    """One consistent reading of a budget. `holds`: what is due, as (id, due ms, state, nano or None).

    `records`: what each request's hold shows, as (state, cost_nano), unless it has expired; read in one step with the
    request's last entry. `beyond`: the open holds whose requests may cost more; `waiting`: the requests that wait.
    `is_whole`: `entries` are all that were ever written; None when this Redis cannot tell.
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
    """Return all that a budget's sums can be checked against, as of one moment. Raises Unavailable."""
    names = [budget.budget, budget.days, budget.due, budget.ledger, budget.queue]
    entries: list[dict[str, str]] = []
    records: dict[str, bytes] = {}
    while True:
        after = entries[-1]["entry"] if entries else ""
        args: list[str | int] = [budget.hold(""), after, _ENTRIES_AT_ONCE]
        now_ms, today, added, length, kept, days, *read = await store.run("audit", names, args)
        holds, found, shown, waiting = read
        entries += [read_entry(name, paired(flat)) for name, flat in found]
        # A later entry of the same request brings the later word: the one that was read with its last entry stays.
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
    """Return a hold; None when it is gone or cannot be read."""
    try:
        return read_hold(raw)
    except ValueError:
        return None


def _held(raw: bytes) -> tuple[str, int | None]:
    """Return state and amount of a hold; an empty state and None when it is gone or cannot be read."""
    hold = _read(raw)
    return ("", None) if hold is None else (hold.state, hold.nano)


def _shown(raw: bytes) -> tuple[str, int]:
    """Return state and cost of a closed hold; an empty state when it cannot be read."""
    hold = _read(raw)
    return ("", 0) if hold is None else (hold.state, hold.cost_nano or 0)
