"""Posts the settlement of a request once. The store keeps it until Redis acknowledges it, also through an outage.

Holds left by a process that died are settled by the sweeper.
"""

import asyncio
from collections.abc import Callable

from gateway import metrics
from gateway.call import milliseconds
from gateway.keys import Budget
from gateway.ledger.holds import Ledger
from gateway.ledger.outcomes import Booked, HandOver, Settlement
from gateway.ledger.sweeper import Sweeper
from gateway.logs import log
from gateway.metered.inflight import OpenRequest
from gateway.metered.settlement import posting, settlement
from gateway.money import usd_from_nano
from gateway.openrouter.prices import Prices
from gateway.store.connection import resolving


class Closing:
    """Posts settlements and hand-overs."""

    def __init__(self, ledger: Ledger, prices: Prices, sweeper: Sweeper) -> None:
        self._ledger = ledger
        self._prices = prices
        self._sweeper = sweeper

    def request_sweep(self, budget: Budget) -> None:
        """Have the overdue holds of a budget swept."""
        self._sweeper.request_sweep(budget)

    async def close(self, request: OpenRequest) -> None:
        """Post the settlement of `request`, once. Returns when it was sent to Redis, or queued during an outage."""
        if request.is_closed or not request.is_asked:
            return
        sent: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.close_then(request, resolving(sent))
        await sent
        request.reach("closed")

    def close_then(self, request: OpenRequest, then: Callable[[bool], None]) -> None:
        """Do as `close` with a request that is not closed yet; `then` is called where `close` returns."""
        request.is_closed = True
        request.reach("closing")
        owed = posting(request, self._prices.current)
        _note(request, owed)
        if isinstance(owed, HandOver):
            self._hand_over(request, owed, then)
        else:
            self._ledger.post_settlement(
                request.budget, request.request_id, owed, self._on_booked(request, owed), then, request.admission
            )

    def _hand_over(self, request: OpenRequest, owed: HandOver, then: Callable[[bool], None]) -> None:
        def on_result(is_written: bool) -> None:
            if is_written:
                metrics.count_settlement("open", owed.ended_by, 0, 0)
                self._sweeper.request_sweep(request.budget)
                return
            # A sweeper closed its hold as an orphan, or the hold was lost, so no sweeper will look its cost up.
            estimated = settlement(request, request.meter.outcome(), self._prices.current)
            on_booked = self._on_booked(request, estimated, owed)
            self._ledger.keep_settlement(request.budget, request.request_id, estimated, on_booked)

        self._ledger.post_hand_over(request.budget, request.request_id, owed, on_result, then)

    def _on_booked(
        self, request: OpenRequest, owed: Settlement, missed: HandOver | None = None
    ) -> Callable[[Booked], None]:
        """Return the callback for a settlement's result. `missed`: the hand-over that found no open hold, if any."""
        # What the entry says: an answer that broke off after its cost may have another end by the time of the reply.
        ended_by = owed.ended_by

        def on_result(booked: Booked) -> None:
            metrics.count_settlement(booked.status, ended_by, booked.cost_nano, booked.overrun_nano)
            if booked.overrun_nano and booked.is_first:
                cost_usd, overrun_usd = usd_from_nano(booked.cost_nano), usd_from_nano(booked.overrun_nano)
                log.warning("overrun", request_id=request.request_id, cost_usd=cost_usd, overrun_usd=overrun_usd)
            if missed is not None and booked.status != "settled" and request.admission is not None:
                self._sweeper.ask(
                    request.budget,
                    request.request_id,
                    missed.generation_id,
                    request.admission.funding,
                    ended_by=ended_by,
                )

        return on_result


def _note(request: OpenRequest, owed: Settlement | HandOver) -> None:
    """Add outcome and timings to the request's log line, and the timings to the metrics."""
    notes, started = request.call.notes, request.started
    notes["ended_by"] = request.ended_by
    if request.opened_at is not None:
        seconds = request.opened_at - started
        notes["upstream_ms"] = milliseconds(seconds)
        metrics.ADDED_SECONDS.note(seconds - request.waited_seconds)
    if request.first_byte_at is not None:
        seconds = request.first_byte_at - started
        notes["first_byte_ms"] = milliseconds(seconds)
        metrics.FIRST_BYTE_SECONDS.note(seconds)
    if isinstance(owed, HandOver):
        notes["ledger"] = "open"
        return
    notes["ledger"] = owed.status
    notes["prompt_tokens"], notes["completion_tokens"] = owed.prompt_tokens, owed.completion_tokens
    notes["cost_usd"] = usd_from_nano(owed.cost_nano)
