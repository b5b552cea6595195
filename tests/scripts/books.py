"""What verify is tried on: budgets with a history, and the stores they are in."""

import argparse
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from gateway.keys import Budget
from gateway.ledger.outcomes import Settlement
from gateway.ledger.worst_case import WorstCase
from gateway.owners import Grant
from gateway.payers.connections import Approval, Term
from gateway.services import Services, open_services
from gateway.settings import Settings
from scripts.verify import verify
from tests.gateway.stack import RINGS

BUDGET = Budget.of_user("live", "app2222222222222222", "a:b}{c/ü")
KEY = "sk-or-v1-ada"
DAY_MS = 86_400_000


@contextlib.asynccontextmanager
async def opened(
    redis_url: str, folder: Path, upstream: str = "http://127.0.0.1:1", **more: str
) -> AsyncIterator[Services]:
    variables = {"REDIS_URL": redis_url, "OPENROUTER_BASE_URL": upstream, "WATTFARE_DATA_DIR": str(folder)}
    settings = Settings.load({**RINGS, **variables, "WATTFARE_REDIS_DEADLINE_MS": "5000", **more})
    async with open_services(settings) as services:
        yield services


async def connect(services: Services, budget: Budget = BUDGET) -> None:
    key = KEY if budget.mode == "live" else None
    term = Term(100, 3_600_000) if isinstance(budget.owner, Grant) else None
    await services.connections.approve(budget, Approval(10**10, key, term=term))


async def spend(services: Services, request_id: str, *settlements: Settlement, budget: Budget = BUDGET) -> None:
    await services.ledger.index(budget)
    await services.ledger.admit(budget, request_id, WorstCase(1000, 0, 1), model="m", estimate_nano=1)
    for settlement in settlements:
        await services.ledger.settle(budget, request_id, settlement)


async def checked(services: Services, *, against_upstream: bool = False) -> Any:
    return await verify(services, argparse.Namespace(against_upstream=against_upstream))


async def write_entry(services: Services, budget: Budget, entry: Mapping[str, str | int], *, name: str = "*") -> None:
    """Put an entry into a ledger, as `settle.lua` writes them; `name` is its stream id."""
    of_request = (entry["status"], entry["generation_id"], entry["ended_by"], entry["model"], entry["hold_nano"])
    of_admission = (entry["day"], entry["admitted_ms"], entry["funding_version"], 0, 0, 0)
    tokens = f"{entry['prompt_tokens']} {entry['completion_tokens']}"
    closed = (*of_request, *of_admission, entry["cost_nano"], entry["overrun_nano"], tokens)
    fields = (
        "request_id",
        entry["request_id"],
        "delta_nano",
        entry["delta_nano"],
        "closed",
        "\n".join(map(str, closed)),
    )
    await services.store.call("XADD", budget.ledger, name, *fields)
