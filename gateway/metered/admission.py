"""Admission: a request gets its hold at its bound, else on its terms, else after a wait. CONTRACT §3, steps 1 to 7.

Rule: one script decides (lua/admit.lua). This module calls it: with the bound; if that does not fit, once more with the
terms; and again whenever the waiting request is woken.
"""

import contextlib
import time
from collections.abc import Awaitable
from dataclasses import dataclass

from gateway import metrics
from gateway.call import milliseconds
from gateway.errors import BudgetExceeded, InvalidRequest, Unavailable, WattfareError
from gateway.ledger.holds import Ledger
from gateway.ledger.outcomes import Admission, Queued, QueuePlace
from gateway.ledger.worst_case import Terms, WorstCase
from gateway.metered import waiting
from gateway.metered.expected import expected_case
from gateway.metered.inflight import Inflight, OpenRequest, Stopped
from gateway.metered.pricing import estimate_nano, worst_case
from gateway.metered.test_mode import simulated_worst_case
from gateway.metered.turns import turn_of
from gateway.openrouter.dialects import WIRE
from gateway.openrouter.prices import Prices

SHORTEN_HEADER = "x-wattfare-shorten"


@dataclass(slots=True)
class _Arguments:
    """The arguments with which the admission of a queued request is repeated until it is decided."""

    worst: WorstCase | None
    estimate_nano: int
    terms: Terms | None
    turn: QueuePlace
    may_shorten: bool


class Admissions:
    """Places holds in the ledger. `goes_beyond`: WATTFARE_HOLDS is `expected`. `manage_url`: the payer's dashboard."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        prices: Prices,
        inflight: Inflight,
        waiting: waiting.WaitingRequests,
        goes_beyond: bool,
        wait_seconds: float,
        manage_url: str,
    ) -> None:
        self._ledger = ledger
        self._prices = prices
        self._inflight = inflight
        self._waiting = waiting
        self._goes_beyond = goes_beyond
        self._wait_seconds = wait_seconds
        self._manage_url = manage_url

    async def admit(self, request: OpenRequest) -> Admission:
        """Return the hold. Once `is_asked` is set, a hold may exist even if this raises.

        Raises InvalidRequest, NotConnected, BudgetExceeded, GrantInvalid, FundingInvalid, Unavailable, Stopped.
        """
        budget, chat = request.budget, request.chat
        may_shorten = SHORTEN_HEADER not in request.call.headers or _may_shorten(request)
        terms = None
        if budget.mode == "test":
            worst, estimate = simulated_worst_case(chat), 0
            if worst is not None:
                terms = _terms(request, worst, may_shorten=may_shorten, goes_beyond=self._goes_beyond)
        else:
            prices = self._prices.current
            worst = worst_case(chat, prices, now_ms=_now_ms())
            estimate = estimate_nano(chat, prices, completion_bytes=0)
            if not self._goes_beyond and worst is not None:
                terms = _terms(request, worst, may_shorten=may_shorten, goes_beyond=False)
        turn = self._waiting.turn(request)
        try:
            if not self._inflight.is_indexed(budget, request.clock()):
                await self._inflight.index(budget, request.clock())
            found = await self._ask(request, worst, estimate, terms, turn)
            if not isinstance(found, Admission):
                found = await self._wait(request, found, _Arguments(worst, estimate, terms, turn, may_shorten))
        except Unavailable:
            raise
        except BudgetExceeded as refused:
            request.is_asked = False
            if self._waiting.is_stopping and refused.fields["limit"] == "in_flight":
                raise _stopping() from None
            await self._explain(request, refused)
            raise
        except Exception:
            request.is_asked = False
            raise
        finally:
            if request.waited_seconds:
                request.call.notes["waited_ms"] = milliseconds(request.waited_seconds)
                metrics.WAIT_SECONDS.observe(request.waited_seconds)
        return found

    def _ask(
        self, request: OpenRequest, worst: WorstCase | None, estimate_nano: int, terms: Terms | None, turn: QueuePlace
    ) -> Awaitable[Admission | Queued]:
        """Call the script once, of a budget that is listed for the sweeper. Raises like `admit`."""
        request.is_asked = True
        request.reach("asked")
        return self._ledger.admit(
            request.budget,
            request.request_id,
            worst,
            model=request.chat.model,
            estimate_nano=estimate_nano,
            terms=terms,
            turn=turn,
        )

    async def _wait(self, request: OpenRequest, found: Admission | Queued, arguments: _Arguments) -> Admission:
        """Send the terms if they are needed, and wait for the turn. The queue is left in any case."""
        channel = arguments.turn.channel
        began = request.clock()
        until = began + self._wait_seconds
        is_decided = False
        try:
            while isinstance(found, Queued):
                if found.place:
                    self._waiting.enter(request, found.place)
                self._waiting.renewed(request)
                if found.needs_terms:
                    arguments.terms = await self._expected(request, arguments)
                else:
                    await self._until_woken(request, until)
                # A request whose terms are needed after its waiting time has no place any more, and gets no new one.
                is_over = arguments.turn.is_over or (not found.needs_terms and request.clock() >= until)
                arguments.turn = QueuePlace(channel, found.place, is_over)
                if not self._inflight.is_indexed(request.budget, request.clock()):
                    await self._inflight.index(request.budget, request.clock())
                found = await self._ask(
                    request, arguments.worst, arguments.estimate_nano, arguments.terms, arguments.turn
                )
            is_decided = True
        except Unavailable:
            # The other waiting requests of this budget would get the same error, one after the other.
            self._waiting.wake(request.budget.queue)
            raise
        except WattfareError:
            is_decided = True
            raise
        finally:
            request.waited_seconds = request.clock() - began
            self._waiting.leave(request)
            if channel and not is_decided:
                self._ledger.keep_leave(request.budget, request.request_id, channel)
        return found

    async def _until_woken(self, request: OpenRequest, until: float) -> None:
        """Wait until the next call is due. Raises Stopped, and Unavailable when the process stops."""
        request.reach("waiting")
        await self._waiting.until_woken(request, until)
        if self._waiting.is_stopping:
            request.is_asked = False
            raise _stopping()

    async def _expected(self, request: OpenRequest, arguments: _Arguments) -> Terms:
        """Return the terms of a request whose bound does not fit."""
        bound = arguments.worst
        if bound is None:
            raise AssertionError("without a bound no terms are asked for")
        budget = request.budget
        # One count at a time for each budget and each app, so that many requests of one do not delay those of others.
        async with turn_of(budget.queue), turn_of(f"count:{budget.app_id}"):
            if request.is_over:
                raise Stopped
            expected = await expected_case(request.chat, self._prices.current, bound, now_ms=_now_ms())
        return _terms(request, expected or bound, may_shorten=arguments.may_shorten, goes_beyond=True)

    async def _explain(self, request: OpenRequest, refused: BudgetExceeded) -> None:
        """Add to a refusal when spend next leaves the window, and where the payer can raise the cap."""
        refused.fields["resetsAt"] = None
        with contextlib.suppress(Unavailable):
            refused.fields["resetsAt"] = (await self._ledger.standing(request.budget)).resets_at
        refused.fields["manageUrl"] = self._manage_url


def _terms(request: OpenRequest, expected: WorstCase, *, may_shorten: bool, goes_beyond: bool) -> Terms:
    ceilings = WIRE[request.chat.dialect].ceilings
    return Terms(expected, goes_beyond, may_shorten, request.chat.ceiling_field or (ceilings[0] if ceilings else ""))


def _may_shorten(request: OpenRequest) -> bool:
    """Return whether the request's header permits shortening. Raises InvalidRequest."""
    if request.call.headers.getall(SHORTEN_HEADER) != ["never"]:
        raise InvalidRequest(f"{SHORTEN_HEADER} can be `never` alone: refuse what does not fit, and shorten nothing.")
    return False


def _stopping() -> Unavailable:
    return Unavailable("This process is stopping. Nothing was spent. Send the request again.")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
