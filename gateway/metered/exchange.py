"""Requests in flight: what each has been through, and how a revocation reaches it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar

from aiohttp import web

from gateway.call import Call
from gateway.errors import Unavailable
from gateway.keys import Budget
from gateway.ledger.holds import Admission, Ledger
from gateway.logs import log
from gateway.metered.body import ChatRequest
from gateway.metered.meter import Meter, State
from gateway.openrouter.client import Reply

# How long an answer may go on without its caller, because what it costs is still to be told. A stream's headers, and
# the id in them, come early. One that is not streamed is billed in full whoever hangs up (openrouter.md §1.6), so that
# hanging up saves nothing. One that has stated its cost is written, its end is on the way, and a later cost counts.
UNTIL_ID_SECONDS = 10.0
UNTIL_WHOLE_SECONDS = 300.0
UNTIL_END_SECONDS = 1.0
# A process that stops has let its streams finish already.
_AT_THE_END_SECONDS = 2.0
# After an outage the holds of the living are renewed before the sweeper looks at them.
_RENEW_AGAIN_SECONDS = 0.25


class Exchange:
    """One metered request, from the moment it asks for a hold."""

    reached: ClassVar[Callable[["Exchange", str], None]] = staticmethod(lambda _exchange, _point: None)
    """Called at each named point of the path; the crash tests set it to kill the process there."""

    def __init__(self, budget: Budget, call: Call, chat: ChatRequest) -> None:
        self.budget = budget
        self.call = call
        self.chat = chat
        self.meter = Meter()
        self.asked = False
        self.is_held = False
        self.funding = b""
        self.due_ms = 0
        """When its hold is overdue, by Redis's clock, as far as is known."""
        self.gone = ""
        """Why nothing more goes to the caller: `client` (who hung up) or `revoked`."""
        self.dismissed = asyncio.Event()
        """Set when the caller must be told that the connection was revoked, or the answer came to its end."""
        self.attached: str | None = None
        self.response: web.StreamResponse | None = None
        self.at_event_end = True
        """Whether what went to the caller so far ends with a whole event."""
        self.ended_by = "complete"
        self.started = time.monotonic()
        self.carrier: asyncio.Task[web.StreamResponse] | None = None
        self.farewell: asyncio.TimerHandle | None = None
        self._opened: float | None = None
        self._first_chunk: float | None = None

    @property
    def request_id(self) -> str:
        """The request's id, which is its hold's id too."""
        return self.call.request_id

    @property
    def timings(self) -> dict[str, float]:
        """Milliseconds from admission to upstream's headers and to its first byte."""
        marks = {"upstream_ms": self._opened, "first_byte_ms": self._first_chunk}
        return {name: round((at - self.started) * 1000, 2) for name, at in marks.items() if at is not None}

    def held(self, admission: Admission) -> None:
        """Note the hold, and the sealed key that its cost may be asked for with."""
        self.is_held = True
        self.funding = admission.funding
        self.due_ms = admission.due_ms
        self.call.notes["hold_nano"] = admission.hold_nano

    def sent(self) -> None:
        """Note that the whole request is on its way: OpenRouter can begin only now, and a cut ends it no more."""
        if self.meter.state is State.HELD:
            self.meter.sent()

    def opened(self, reply: Reply) -> None:
        """Note upstream's status line and headers."""
        self._opened = time.monotonic()
        self.meter.opened(
            reply.status,
            content_type=reply.headers.get("Content-Type", ""),
            generation_id=reply.headers.get("X-Generation-Id"),
        )

    def note_chunk(self) -> None:
        """Note that a part of the answer came in."""
        if self._first_chunk is None:
            self._first_chunk = time.monotonic()

    def end(self, ended_by: str) -> None:
        """Note an answer that came to its end."""
        self.ended_by = self.gone or ended_by
        self.meter.ended()

    def break_off(self) -> None:
        """Note that upstream failed or broke off; a refusal that was read to its end stays one."""
        if self.meter.state is not State.CLOSED:
            self.ended_by = self.gone or "upstream"
        self.meter.cut()

    def leave(self) -> None:
        """Note that it stops because the caller is gone, or may not go on."""
        if self.meter.state is not State.CLOSED:
            self.ended_by = self.gone or "client"
        if self.gone == "revoked":
            self.meter.revoked()
        else:
            self.meter.client_gone()

    def reach(self, point: str) -> None:
        """Note that the path has come to `point`."""
        Exchange.reached(self, point)

    @property
    def farewell_seconds(self) -> float:
        """How long it may go on without its caller: 0, unless what it costs is still to be told, or to its end."""
        if self.budget.mode != "live" or self.meter.state not in {State.SENT, State.OPEN}:
            return 0
        if self.meter.generation_id is None:
            return UNTIL_ID_SECONDS if self.chat.stream else UNTIL_WHOLE_SECONDS
        return UNTIL_END_SECONDS if self.meter.states_cost else 0

    def note_gone(self, why: str) -> None:
        """Note that nothing more goes to the caller; see to it that the rest does not go on for ever."""
        self.gone = self.gone or why
        if why == "revoked":
            self.dismissed.set()
        if self.farewell is None and self.farewell_seconds and self.carrier is not None:
            self.farewell = asyncio.get_running_loop().call_later(self.farewell_seconds, self.carrier.cancel)

    def let_go(self, why: str) -> None:
        """Close upstream, which stops the billing; but first let an answer tell what its cost depends on.

        After it nothing reaches the caller but what ends the answer, and nothing new goes upstream.
        """
        self.note_gone(why)
        # Again and again until it ends: a library in between may have swallowed the first cancellation.
        if not self.farewell_seconds and self.carrier is not None and not self.carrier.done():
            self.carrier.cancel()


class Exchanges:
    """All requests in flight of this process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._open: dict[str, set[Exchange]] = {}
        self._indexed: dict[str, float] = {}

    def __len__(self) -> int:
        return sum(len(group) for group in self._open.values())

    def start(
        self, exchange: Exchange, carrying: Coroutine[Any, Any, web.StreamResponse]
    ) -> "asyncio.Task[web.StreamResponse]":
        """Carry `exchange` in a task of its own, from this moment where a revocation finds it; return the task."""
        carrier = exchange.carrier = asyncio.get_running_loop().create_task(carrying)
        self._open.setdefault(exchange.budget.name, set()).add(exchange)
        carrier.add_done_callback(lambda _: self._forget(exchange))
        return carrier

    def _forget(self, exchange: Exchange) -> None:
        exchange.dismissed.set()
        if exchange.farewell is not None:
            exchange.farewell.cancel()
        if exchange.carrier is not None and not exchange.carrier.cancelled():
            # Taken here: the caller may be gone, and what nobody takes is told by the loop, OpenRouter's words and all.
            exchange.carrier.exception()
        group = self._open[exchange.budget.name]
        group.discard(exchange)
        if not group:
            del self._open[exchange.budget.name]

    async def end(self) -> None:
        """End whatever still runs: the process stops."""
        running = [exchange for group in self._open.values() for exchange in group]
        carriers = [exchange.carrier for exchange in running if exchange.carrier is not None]
        for exchange in running:
            exchange.let_go("client")
        if carriers:
            await asyncio.wait(carriers, timeout=_AT_THE_END_SECONDS)
        for carrier in carriers:
            carrier.cancel()
        await asyncio.gather(*carriers, return_exceptions=True)

    def cut_budget(self, name: str) -> None:
        """End every request of one budget."""
        for exchange in tuple(self._open.get(name, ())):
            exchange.let_go("revoked")

    def cut_app(self, app_id: str) -> None:
        """End every request of one app."""
        for group in tuple(self._open.values()):
            for exchange in tuple(group):
                if exchange.budget.app_id == app_id:
                    exchange.let_go("revoked")

    async def index(self, budget: Budget) -> None:
        """Have the budget on the sweeper's list, written at most twice a lease. Raises Unavailable."""
        now = time.monotonic()
        half_lease_seconds = self._ledger.lease_ms / 2000
        if now - self._indexed.get(budget.name, -half_lease_seconds) < half_lease_seconds:
            return
        if len(self._indexed) > 100_000:
            self._indexed.clear()
        await self._ledger.index(budget)
        self._indexed[budget.name] = now

    async def check(self, is_closed: Callable[[str], Awaitable[bool]] | None = None) -> None:
        """Cut whatever was revoked, or whose app was closed, while nobody told us.

        Raises Unavailable if it could not ask for all; what it could is cut.
        """
        unanswered: Unavailable | None = None
        app_ids = {exchange.budget.app_id for group in self._open.values() for exchange in group}
        for app_id in app_ids if is_closed is not None else ():
            try:
                if is_closed is not None and await is_closed(app_id):
                    self.cut_app(app_id)
            except Unavailable as away:
                unanswered = away
        for name in tuple(self._open):
            try:
                if not (await self._ledger.standing(Budget.parse(name))).is_connected:
                    self.cut_budget(name)
            except Unavailable as away:
                unanswered = away
        if unanswered is not None:
            raise unanswered

    async def keep_alive(self) -> None:
        """Renew the holds of long requests for ever, before the sweeper takes them for orphans."""
        third = self._ledger.lease_ms / 3000
        due, left = time.monotonic() + third, list[Exchange]()
        while True:
            pause = due - time.monotonic()
            await asyncio.sleep(min(pause, _RENEW_AGAIN_SECONDS) if left else pause)
            if time.monotonic() >= due:
                due = time.monotonic() + third
                left = [each for group in self._open.values() for each in group if each.is_held]
            try:
                left = await self._renew(left, older_than=third)
            except Exception as fault:
                # Who stops renewing loses every hold; the next try may pass.
                log.error("renewal_failed", error=type(fault).__name__)
                left = []

    async def _renew(self, exchanges: list[Exchange], *, older_than: float) -> list[Exchange]:
        """Renew each hold; return those whose master is away: they keep no other from it."""
        oldest = time.monotonic() - older_than
        left = []
        for exchange in exchanges:
            if exchange.started > oldest or exchange.carrier is None or exchange.carrier.done():
                continue
            # The sweeper's list may lie on another master than the hold.
            outcomes = [await self._tried(step(exchange)) for step in (self._index_one, self._renew_one)]
            if not all(outcomes):
                left.append(exchange)
        return left

    @staticmethod
    async def _tried(step: Coroutine[Any, Any, None]) -> bool:
        """Tell whether Redis answered."""
        try:
            await step
        except Unavailable:
            return False
        except Exception as fault:
            # One hold that Redis has strange words for takes no other along.
            log.error("renewal_failed", error=type(fault).__name__)
        return True

    async def _index_one(self, exchange: Exchange) -> None:
        await self.index(exchange.budget)

    async def _renew_one(self, exchange: Exchange) -> None:
        generation_id = exchange.meter.generation_id or ""
        renewal = await self._ledger.renew(exchange.budget, exchange.request_id, generation_id)
        exchange.due_ms = renewal.due_ms
        if not renewal.is_active:
            self.cut_budget(exchange.budget.name)
