"""What waits for a sweeper."""

from pathlib import Path

import pytest

from gateway.ledger.backlog import LATE_MS, count_late
from tests.scripts.books import BUDGET, connect, opened, spend

pytestmark = pytest.mark.each_store


async def test_what_nobody_looks_at_for_a_minute_is_counted(redis_url: str, tmp_path: Path) -> None:
    """A budget with an open hold is listed for its lease; a minute after that it is late."""
    async with opened(redis_url, tmp_path) as services:
        await connect(services)
        await spend(services, "a")
        due_ms = int(float(await services.store.call("ZSCORE", BUDGET.open_shard, BUDGET.name)))
        assert await count_late(services.store, due_ms + LATE_MS - 1) == 0
        assert await count_late(services.store, due_ms + LATE_MS) == 1
