"""What was spent, by app, user, model and day."""

import argparse
import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger.outcomes import Settlement
from gateway.services import Services
from scripts.command import CommandRefused
from scripts.list_apps import owner_text
from scripts.report import report
from scripts.table import csv_lines
from tests.gateway.process import command, environment
from tests.scripts.books import BUDGET, DAY_MS, connect, opened, spend, write_entry

pytestmark = pytest.mark.each_store


async def _reported(services: Services, **given: object) -> Any:
    asked = {"by": "user,model", "days": 30, "app": None, "mode": "live", **given}
    return await report(services, argparse.Namespace(**asked))


async def test_each_request_counts_once_and_sums_to_what_was_booked(redis_url: str, tmp_path: Path) -> None:
    """A correction changes its request's cost, not the number of requests; estimates are summed separately."""
    async with opened(redis_url, tmp_path) as services:
        await connect(services)
        await spend(services, "a", Settlement("estimated", 900), Settlement("settled", 300, model="m"))
        await spend(services, "b", Settlement("settled", 400, model="m", prompt_tokens=7, completion_tokens=2))
        await spend(services, "c", Settlement("estimated", 900, model="other"))
        answer = await _reported(services)
    first, second = answer["rows"]
    sums = {"requests": 2, "promptTokens": 7, "completionTokens": 2, "estimatedUsd": 0, "costUsd": 7e-07}
    assert first == {"user": owner_text(BUDGET), "model": "m", **sums}
    assert (second["model"], second["estimatedUsd"], second["costUsd"]) == ("other", 9e-07, 9e-07)
    assert (answer["total"]["requests"], answer["total"]["costUsd"]) == (3, 1.6e-06)


async def test_days_before_the_first_one_asked_for_are_left_out(redis_url: str, tmp_path: Path) -> None:
    """A day is the UTC day that the spend belongs to."""
    async with opened(redis_url, tmp_path) as services:
        await connect(services)
        await spend(services, "a", Settlement("settled", 400))
        (entry,) = await services.ledger.entries(BUDGET)
        old = {**entry, "request_id": "old", "day": str(int(entry["day"]) - 2)}
        await services.store.call("DEL", BUDGET.ledger)
        for moved, name in ((old, int(entry["settled_ms"]) - 2 * DAY_MS), (entry, int(entry["settled_ms"]))):
            await write_entry(services, BUDGET, moved, name=f"{name}-0")
        both = await _reported(services, by="day", days=3)
        newest = await _reported(services, by="day", days=2)
    today = datetime.fromtimestamp(int(entry["day"]) * 86_400, UTC).date().isoformat()
    assert [row["requests"] for row in both["rows"]] == [1, 1]
    assert [row["day"] for row in newest["rows"]] == [today]


async def test_it_is_printed_as_a_table_and_as_csv(redis_url: str, tmp_path: Path) -> None:
    """The table ends with a total; CSV has only the rows."""
    async with opened(redis_url, tmp_path) as services:
        await connect(services)
        await spend(services, "a", Settlement("settled", 400, model="m"))
    _, told, _ = await command("scripts.report", variables=environment(redis_url))
    _, rows, _ = await command("scripts.report", "--by", "model,user", "--csv", variables=environment(redis_url))
    assert told.splitlines()[0].split()[:5] == ["app", "user", "model", "day", "requests"]
    assert told.splitlines()[-1].startswith("total")
    (row,) = csv.DictReader(rows.splitlines())
    assert (row["user"], row["model"], row["requests"], row["costUsd"]) == (owner_text(BUDGET), "m", "1", "0.0000004")


@pytest.mark.parametrize("given", [{"by": "user,user"}, {"by": "colour"}, {"days": 0}, {"app": "appnone"}], ids=str)
async def test_a_question_that_cannot_be_meant_is_refused(
    redis_url: str, tmp_path: Path, given: dict[str, object]
) -> None:
    """The error lists the possible values."""
    async with opened(redis_url, tmp_path) as services:
        with pytest.raises(CommandRefused):
            await _reported(services, **given)


def test_a_cell_never_runs_as_a_formula() -> None:
    """User ids are chosen by apps, and spreadsheets run cells that begin with `=`."""
    assert list(csv_lines([{"user": "=1+1", "cost": 1e-09}])) == ["user,cost", "'=1+1,0.000000001"]
