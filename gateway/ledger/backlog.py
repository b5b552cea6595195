"""Counts the budgets that are overdue for a sweeper."""

from collections.abc import Iterable

from gateway import keys
from gateway.store.store import Store

LATE_MS = 60_000
"""A sweeper looks each second, so after a minute no sweeper is running."""


async def count_late(store: Store, now_ms: int) -> int:
    """Return how many budgets were due for a sweeper a minute before `now_ms`. Raises Unavailable."""
    return await count_due(store, map(keys.open_shard, range(keys.OPEN_SHARDS)), now_ms - LATE_MS)


async def count_due(store: Store, shards: Iterable[str], before_ms: int) -> int:
    """Return how many members of these lists, one command each, were due before `before_ms`. Raises Unavailable."""
    due = 0
    for shard in shards:
        due += await store.call("ZCOUNT", shard, "-inf", before_ms)
    return due
