"""Spend by app, user, model and day: `python -m scripts.report [--by app,model] [--days 30] [--app ID]`.

Rule: it sums the ledger's entries, so its sums are the balances that `verify` checks, as far back as entries are kept
(WATTFARE_LEDGER_DAYS). Test mode is shown only with `--mode test`.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.keys import Budget
from gateway.ledger.audit import read_audit
from gateway.money import usd_from_nano
from gateway.services import Services
from scripts.command import Answer, CommandRefused, run
from scripts.list_apps import owner_text
from scripts.table import csv_lines, table
from scripts.verify import budgets, by_request

PARTS = ("app", "user", "model", "day")
_DAY_SECONDS = 86_400


@dataclass(slots=True)
class Spent:
    """The sums of one row. `estimated_nano`: the part of `nano` whose cost OpenRouter never stated."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    nano: int = 0
    estimated_nano: int = 0

    def add(self, entries: Sequence[Mapping[str, str]]) -> None:
        """Add one request: the differences of its entries, and the tokens and status of its last entry."""
        last = entries[-1]
        nano = sum(int(entry["delta_nano"]) for entry in entries)
        self.requests += 1
        self.prompt_tokens += int(last["prompt_tokens"] or 0)
        self.completion_tokens += int(last["completion_tokens"] or 0)
        self.nano += nano
        self.estimated_nano += nano if last["status"] == "estimated" else 0

    def row(self) -> dict[str, object]:
        """Return the sums in the report's form."""
        return {
            "requests": self.requests,
            "promptTokens": self.prompt_tokens,
            "completionTokens": self.completion_tokens,
            "estimatedUsd": usd_from_nano(self.estimated_nano),
            "costUsd": usd_from_nano(self.nano),
        }


async def report(services: Services, arguments: argparse.Namespace) -> Mapping[str, object]:
    """Return `{days, mode, rows, total}`: a sorted row for each combination of the `--by` parts."""
    by = _parts(arguments.by)
    if arguments.days < 1:
        raise CommandRefused("--days must be 1 or more.")
    if arguments.app is not None and await services.apps.find(arguments.app) is None:
        raise CommandRefused(f"There is no app {arguments.app}. make list-apps names those there are.")
    first_day = int(time.time()) // _DAY_SECONDS - arguments.days + 1
    rows: dict[tuple[str, ...], Spent] = {}
    total = Spent()
    async for budget in budgets(services.store):
        if budget.mode != arguments.mode or arguments.app not in (None, budget.app_id):
            continue
        audit = await read_audit(services.store, budget)
        for entries in by_request(audit).values():
            if int(entries[0]["day"]) >= first_day:
                rows.setdefault(tuple(_values(by, budget, entries[-1])), Spent()).add(entries)
                total.add(entries)
    shown = [dict(zip(by, values, strict=True)) | spent.row() for values, spent in sorted(rows.items())]
    return {"days": arguments.days, "mode": arguments.mode, "rows": shown, "total": total.row()}


def _parts(text: str) -> list[str]:
    by = text.split(",")
    if not by or len(set(by)) != len(by) or not set(by) <= set(PARTS):
        raise CommandRefused(f"--by takes some of {','.join(PARTS)}, each once.")
    return by


def _values(by: Sequence[str], budget: Budget, entry: Mapping[str, str]) -> Iterator[str]:
    for part in by:
        match part:
            case "app":
                yield budget.app_id
            case "user":
                yield owner_text(budget)
            case "model":
                yield entry["model"]
            case _:
                yield datetime.fromtimestamp(int(entry["day"]) * _DAY_SECONDS, UTC).date().isoformat()


def _show(answer: Answer, arguments: argparse.Namespace) -> Iterator[str]:
    rows, total = answer["rows"], answer["total"]
    if arguments.csv:
        yield from csv_lines(rows)
    elif not rows:
        yield f"Nothing was spent in the last {answer['days']} days."
    else:
        first, *others = (name for name in rows[0] if name not in total)
        yield from table([*rows, {first: "total", **dict.fromkeys(others, ""), **total}])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="report", description="What was spent, by app, user, model and day.")
    parser.add_argument("--by", default="app,user,model,day", help="what to sum up by, in this order")
    parser.add_argument("--days", type=int, default=30, help="so many UTC days, today included")
    parser.add_argument("--app", help="only this app")
    parser.add_argument("--mode", choices=("live", "test"), default="live")
    parser.add_argument("--csv", action="store_true", help="print comma-separated values")
    run(parser, report, show=_show)
