"""How requests are closed: each outcome becomes a settlement, in a task that outlives caller, client and outage.

A settlement that Redis cannot take waits here, bounded in number, and is tried again. What a dying process leaves
behind, the sweeper finds.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway import metrics
from gateway.errors import Unavailable
from gateway.ledger.holds import Booked, Ledger, Settlement
from gateway.logs import log
from gateway.metered.exchange import Exchange
from gateway.metered.meter import Outcome, Reconcile, Settle, Void
from gateway.metered.pricing import estimate_nano
from gateway.money import usd_from_nano
from gateway.openrouter.prices import Prices
from gateway.store.store import Store

T = TypeVar("T")

# Some 2 kB each: what waits through an outage stays within tens of MB.
MOST_WAITING = 20_000
_PAUSE_SECONDS = 0.1
_AGAIN_SECONDS = 5.0


class Closing:
    """Closes exchanges beside the request path."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        prices: Prices,
        *,
        on_handed_over: Callable[[Exchange], None],
        on_given_up: Callable[[Exchange, str], None],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._prices = prices
        self._on_handed_over = on_handed_over
        self._on_given_up = on_given_up
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def close(self, exchange: Exchange) -> None:
        """Settle, void or hand over what `exchange` owes. Returns at once."""
        if not exchange.asked:
            return
        exchange.call.is_told = True
        if len(self._tasks) >= MOST_WAITING:
            log.error("settlement_left_to_sweeper", request_id=exchange.request_id)
            return
        task = asyncio.get_running_loop().create_task(self._close(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def drain(self, seconds: float) -> None:
        """Wait until every settlement begun has reached Redis, at most so long."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=seconds)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Let go of a task; a bug in it is said without its values, and leaves the hold to the sweeper."""
        self._tasks.discard(task)
        bug = None if task.cancelled() else task.exception()
        if bug is not None:
            log.error("settlement_left_to_sweeper", error=type(bug).__name__)

    async def _close(self, exchange: Exchange) -> None:
        exchange.reach("closing")
        outcome = exchange.meter.outcome() if exchange.is_held else Void("not_sent")
        reconcile = self._worth_asking(exchange, outcome)
        if reconcile is not None:
            estimate = self._estimate(exchange, reconcile)
            if await self._until_done(lambda: self._hand_over(exchange, reconcile, estimate)):
                self._on_handed_over(exchange)
                self._tell(exchange, "open", None)
                return
        settlement = self._settlement(exchange, outcome)
        booked = await self._until_done(lambda: self._ledger.settle(exchange.budget, exchange.request_id, settlement))
        exchange.reach("closed")
        self._tell(exchange, booked.status, settlement, booked)
        if reconcile is not None and booked.status != "settled":
            # A sweeper took it for an orphan while it ran, or its hold was lost: nobody else will ask.
            self._on_given_up(exchange, reconcile.generation_id or "")

    @staticmethod
    def _worth_asking(exchange: Exchange, outcome: Outcome) -> Reconcile | None:
        if isinstance(outcome, Reconcile) and outcome.generation_id and exchange.budget.mode == "live":
            return outcome
        return None

    async def _hand_over(self, exchange: Exchange, reconcile: Reconcile, estimate: int) -> bool:
        return await self._ledger.hand_over(
            exchange.budget,
            exchange.request_id,
            generation_id=reconcile.generation_id or "",
            estimate_nano=estimate,
            ended_by=exchange.ended_by,
            funding="refused" if exchange.meter.funding_refused else "",
        )

    def _settlement(self, exchange: Exchange, outcome: Outcome) -> Settlement:
        meter = exchange.meter
        funding = ""
        if meter.funding_refused:
            funding = "refused"
        elif meter.status is not None and 200 <= meter.status < 300:
            funding = "works"
        match outcome:
            case Settle():
                return Settlement(
                    "settled",
                    outcome.cost_nano,
                    outcome.generation_id or "",
                    exchange.chat.model,
                    outcome.usage.prompt_tokens,
                    outcome.usage.completion_tokens,
                    funding,
                    exchange.ended_by,
                )
            case Reconcile() if exchange.budget.mode == "live":
                # No id to ask by, or no hold to keep it in: the estimate is all there will ever be.
                estimate = self._estimate(exchange, outcome)
                return Settlement(
                    "estimated" if estimate else "void",
                    estimate,
                    model=exchange.chat.model,
                    prompt_tokens=outcome.prompt_tokens,
                    completion_tokens=outcome.completion_tokens,
                    funding=funding,
                    ended_by=exchange.ended_by,
                )
            case _:
                return Settlement("void", model=exchange.chat.model, funding=funding, ended_by=exchange.ended_by)

    def _estimate(self, exchange: Exchange, reconcile: Reconcile) -> int:
        if reconcile.is_free:
            return 0
        return estimate_nano(
            exchange.chat,
            self._prices.current,
            completion_bytes=reconcile.completion_bytes,
            prompt_tokens=reconcile.prompt_tokens,
            completion_tokens=reconcile.completion_tokens,
        )

    async def _until_done(self, step: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await step()
            except Unavailable:
                # The store may be open all the same, when one slot is on its way; or closed for a master of others.
                await asyncio.sleep(_PAUSE_SECONDS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_AGAIN_SECONDS):
                        await self._store.opened()

    @staticmethod
    def _tell(exchange: Exchange, status: str, settlement: Settlement | None, booked: Booked | None = None) -> None:
        notes: dict[str, object] = {"ledger": status, "ended_by": exchange.ended_by, **exchange.timings}
        if settlement is not None:
            notes |= {"prompt_tokens": settlement.prompt_tokens, "completion_tokens": settlement.completion_tokens}
        if booked is not None:
            notes["cost_usd"] = usd_from_nano(booked.cost_nano)
            if booked.overrun_nano:
                notes["overrun_usd"] = usd_from_nano(booked.overrun_nano)
        metrics.count_settlement(
            status,
            exchange.ended_by,
            usd_from_nano(booked.cost_nano) if booked is not None else 0,
            usd_from_nano(booked.overrun_nano) if booked is not None else 0,
        )
        if "first_byte_ms" in exchange.timings:
            metrics.FIRST_BYTE_SECONDS.observe(exchange.timings["first_byte_ms"] / 1000)
        response = exchange.response
        exchange.call.is_told = False
        exchange.call.tell(response.status if response is not None else exchange.call.status, **notes)
