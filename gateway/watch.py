"""Keeps the states that the operator watches up to date: what is open, what waits, who is there."""

import asyncio
import time
from collections.abc import Sized
from contextlib import suppress

from gateway import metrics
from gateway.errors import Unavailable
from gateway.ledger.backlog import count_late
from gateway.openrouter.prices import Prices
from gateway.store.store import Store

# Prometheus asks every few seconds at most.
_LOOK_SECONDS = 1.0
# The backlog takes a command for each of sixteen lists, and counts what has waited for a minute.
_LOOKS_A_BACKLOG = 15


async def keep_watching(store: Store, prices: Prices, open_requests: Sized, waiting: Sized) -> None:
    """Look once a second, for ever."""
    look = 0
    while True:
        note(store, prices, open_requests, waiting)
        if look % _LOOKS_A_BACKLOG == 0:
            with suppress(Unavailable):
                metrics.SWEEPER_LATE.set(await count_late(store, _now_ms()))
        look += 1
        await asyncio.sleep(_LOOK_SECONDS)


def note(store: Store, prices: Prices, open_requests: Sized, waiting: Sized) -> None:
    """Take down each state as it is now."""
    metrics.OPEN_REQUESTS.set(len(open_requests))
    metrics.WAITING_REQUESTS.set(len(waiting))
    metrics.STORE_UP.set(store.is_open)
    metrics.STORE_PENDING.set(store.pending)
    metrics.OPENROUTER_UP.set(not prices.is_away)
    fetched_ms = prices.current.fetched_ms if prices.current is not None else 0
    metrics.PRICES_AGE_SECONDS.set((_now_ms() - fetched_ms) / 1000)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
