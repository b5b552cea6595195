"""Counts the budgets that are overdue for a sweeper."""

from gateway import keys
from gateway.store.store import Store

LATE_MS = 60_000
"""A sweeper looks each second, so after a minute no sweeper is running."""


async def count_late(store: Store, now_ms: int) -> int:
    """Return how many budgets were due for a sweeper a minute before `now_ms`. Raises Unavailable."""
    late = 0
    for number in range(keys.OPEN_SHARDS):
        late += await store.call("ZCOUNT", keys.open_shard(number), "-inf", now_ms - LATE_MS)
    return late
