"""Keeps the gauges of `metrics` up to date: open and waiting requests, Redis, OpenRouter, the sweeper's backlog."""

import asyncio
import time
from collections.abc import Sized
from contextlib import suppress

from gateway import metrics
from gateway.errors import Unavailable
from gateway.ledger.backlog import LATE_MS, count_late
from gateway.ledger.events import Events
from gateway.openrouter.prices import Prices
from gateway.store.store import Store

# More often than Prometheus scrapes.
_LOOK_SECONDS = 1.0
# The backlog needs a command for each of twenty shards, and counts only what has waited for a minute.
_LOOKS_A_BACKLOG = 15


async def keep_watching(store: Store, prices: Prices, open_requests: Sized, waiting: Sized) -> None:
    """Update all gauges once a second until cancelled."""
    look = 0
    while True:
        update_gauges(store, prices, open_requests, waiting)
        if look % _LOOKS_A_BACKLOG == 0:
            with suppress(Unavailable):
                metrics.SWEEPER_LATE.set(await count_late(store, _now_ms()))
                metrics.WEBHOOKS_LATE.set(await Events(store).count_late(_now_ms() - LATE_MS))
        look += 1
        await asyncio.sleep(_LOOK_SECONDS)


def update_gauges(store: Store, prices: Prices, open_requests: Sized, waiting: Sized) -> None:
    """Set each gauge to its current value."""
    metrics.OPEN_REQUESTS.set(len(open_requests))
    metrics.WAITING_REQUESTS.set(len(waiting))
    metrics.STORE_UP.set(store.is_open)
    metrics.STORE_PENDING.set(store.pending)
    metrics.OPENROUTER_UP.set(not prices.is_away)
    fetched_ms = prices.current.fetched_ms if prices.current is not None else 0
    metrics.PRICES_AGE_SECONDS.set((_now_ms() - fetched_ms) / 1000)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
