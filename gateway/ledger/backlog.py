"""How much waits for a sweeper: budgets whose time to be looked at is long over."""

from gateway import keys
from gateway.store.store import Store

LATE_MS = 60_000
"""A sweeper looks each second: what has waited for a minute waits for nobody."""


async def count_late(store: Store, now_ms: int) -> int:
    """Return how many budgets should have been looked at a minute before `now_ms`. Raises Unavailable."""
    late = 0
    for number in range(keys.OPEN_SHARDS):
        late += await store.call("ZCOUNT", keys.open_shard(number), "-inf", now_ms - LATE_MS)
    return late
