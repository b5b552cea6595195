"""Requests in flight: their state and deadlines, and how a revocation or a disconnect ends them.

Rule: only a request's handler acts for it. Events elsewhere set the request's state and wake the handler, which ends
the request by the rule of that state (docs/ledger.md). One ticker checks the deadlines of all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from aiohttp import web

from gateway import metrics
from gateway.call import Call
from gateway.errors import Unavailable
from gateway.keys import Budget
from gateway.ledger.holds import Ledger
from gateway.ledger.outcomes import Admission, Renewal
from gateway.logs import log
from gateway.metered.answer import Answer
from gateway.metered.body import ChatRequest
from gateway.metered.meter import Meter
from gateway.openrouter.dialects import WIRE

# How long an answer is read after its caller is gone, until its id or cost is known. A stream has its id in its head,
# which comes early. Any other is billed in full also after a disconnect (openrouter.md §1.6), so closing it early saves
# nothing. An answer that has stated its cost is at its end, and a later cost would replace it; a refusal is short.
UNTIL_ID_SECONDS = 10.0
UNTIL_WHOLE_SECONDS = 300.0
UNTIL_END_SECONDS = 1.0
# How long upstream is read after an answer's end: it may hang open (openrouter.md §10.3), or send comments.
AFTER_END_SECONDS = 1.0
# How many times within the limit of comments alone a new payload is checked for.
_LOOKS = 8
# At a shutdown, how long requests that outlived the drain may still wait for their id.
_AT_THE_END_SECONDS = 2.0
# A quarter of the shortest deadline (one second): late enough to be cheap with thousands of streams.
_TICK_SECONDS = 0.25
# The size of the cache of listed budgets; a full cache is cleared and refills.
_MOST_INDEXED = 100_000

_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")

NEVER = float("inf")


class Stopped(ConnectionResetError):
    """The request is over: the caller is gone or cut off, and no more about the cost will be learned."""


class OpenRequest:
    """One metered request, from the request of its hold on."""

    # Initial values that are seldom read are class attributes: an instance need not set them, but reads them four times
    # as slowly as its own.
    is_asked = False
    """Whether a hold may exist, even if its admission failed."""
    waited_seconds = 0.0
    """The time in the queue, if its bound did not fit at once."""
    admission: Admission | None = None
    is_closed = False
    """Whether its settlement was posted."""
    is_informed = False
    """Whether a caller that was cut off has got the error."""
    attached: str | None = None
    """The generation id that was posted to Redis."""
    answer: Answer | None = None
    refused: web.Response | None = None
    """The error that the caller got instead of an answer, while upstream is still read."""
    is_midway = False
    """Whether its handler only waits for the next piece of a stream, which may be relayed without it."""
    is_settling = False
    """Whether its settlement was posted without the handler, and is not with Redis's connection yet."""
    unwritten = b""
    """A piece that was fed to the meter, and waits for the handler to be written."""
    last_piece = b""
    """The last piece written to the caller."""
    ended_by = "complete"
    opened_at: float | None = None
    first_byte_at: float | None = None
    due_ms = 0
    """When its hold becomes overdue, by Redis's clock, as last known."""
    _payload = 0
    _limit = _writes_until = NEVER
    _waiter: asyncio.Future[None] | None = None

    def __init__(self, budget: Budget, call: Call, chat: ChatRequest, loop: asyncio.AbstractEventLoop) -> None:
        self.budget = budget
        self.call = call
        self.request_id = call.request_id
        """Its id, which is also its hold's id."""
        self.chat = chat
        self.meter = Meter(WIRE[chat.dialect])
        self.clock = loop.time
        self.started = self.renewed_at = self._payload_at = self._looked_at = loop.time()
        self._create_future = loop.create_future
        self.gone = ""
        """Why nothing more is written to the caller: `client` (it disconnected) or `revoked`."""
        self.over_at = self._ends_at = NEVER
        """When to stop reading upstream, once the answer's end was read."""

    @property
    def has_answered(self) -> bool:
        """Whether a head was written to the caller."""
        return self.refused is not None or (self.answer is not None and self.answer.has_begun)

    @property
    def at_event_end(self) -> bool:
        """Whether the bytes written so far certainly end with a complete event."""
        return self.last_piece.endswith(_EVENT_ENDS)

    def response(self) -> web.Response | Answer:
        """Return the caller's response. Raises Stopped if there is none, or it is incomplete."""
        if self.refused is not None:
            return self.refused
        if self.answer is None or (self.gone == "client" and not self.answer.has_ended):
            raise Stopped
        return self.answer

    def reach(self, point: str) -> None:
        """Called at each named point of the path; does nothing. The crash tests kill the process there."""

    # -- what the handler reports --------------------------------------------------------------------------

    def held(self, admission: Admission) -> None:
        """Record the hold, and the sealed key for a look-up of its cost."""
        self.admission = admission
        self.due_ms = admission.due_ms
        self.call.notes["hold_nano"] = admission.hold_nano
        metrics.count_hold()

    def sent(self) -> None:
        """Record that the whole request was sent: OpenRouter may start from now on, so a cut no longer voids it."""
        if not self.meter.was_sent and self.meter.state == "held":
            self.meter.sent()

    def opened(self, status: int, coding: str | None, generation_id: str | None) -> None:
        """Record upstream's status line and headers; `coding`: its Content-Encoding."""
        self.opened_at = self._payload_at = self._looked_at = self.clock()
        self.meter.opened(status, coding, generation_id)

    def feed(self, piece: bytes) -> None:
        """Feed a part of the answer to the meter."""
        if self.first_byte_at is None:
            self.first_byte_at = self.clock()
        if self.meter.body(piece) and self.over_at == NEVER:
            self.over_at = self.clock() + AFTER_END_SECONDS
        if self.gone:
            self._ends_at = min(self._ends_at, self.clock() + self.read_on_seconds)

    @property
    def is_past_end(self) -> bool:
        """Whether the second after the answer's end has passed."""
        return self.over_at != NEVER and self.clock() >= self.over_at

    def idle_limit(self, last_heard: float, seconds: float) -> float:
        """Return the deadline of comments alone; `last_heard`: when upstream last sent anything."""
        if last_heard - self._looked_at >= seconds / _LOOKS:
            self._looked_at = last_heard
            if (payload := self.meter.payload) != self._payload:
                self._payload, self._payload_at = payload, last_heard
        return self._payload_at + seconds

    def end(self, ended_by: str, last: bytes = b"") -> None:
        """Record a complete answer. `last`: its last bytes, if they were not fed."""
        if last and self.first_byte_at is None:
            self.first_byte_at = self.clock()
        self.ended_by = self.gone or ended_by
        self.meter.ended(last)

    def break_off(self) -> None:
        """Record that upstream failed or was cut; a refusal that was read completely stays one."""
        if self.meter.state != "closed":
            self.ended_by = self.gone or "upstream"
        self.meter.cut()

    def leave(self) -> None:
        """Record that the request stops because its caller disconnected or was cut off."""
        if self.meter.state != "closed":
            self.ended_by = self.gone or "client"
        if self.gone == "revoked":
            self.meter.revoked()
        else:
            self.meter.client_gone()

    # -- waiting -------------------------------------------------------------------------------------------

    def news(self, limit: float) -> asyncio.Future[None]:
        """Return a future that is done at the next event, or when the ticker finds the loop's time past `limit`."""
        self._limit = limit if self._ends_at == NEVER else min(limit, self._ends_at)
        self._waiter = self._create_future()
        return self._waiter

    def wake(self) -> None:
        """Wake the handler."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def settled(self, _is_sent: bool) -> None:
        """Record that its settlement was sent, or queued during an outage, and wake the handler."""
        self.is_settling = False
        self.reach("closed")
        self.wake()

    def fail(self, fault: Exception) -> None:
        """Raise `fault` in the handler, where it waits for news."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(fault)

    async def within(self, seconds: float, step: Awaitable[object]) -> None:
        """Wait for the caller to read; drop it if it takes too long. Raises ConnectionError."""
        self._writes_until = self.clock() + seconds
        try:
            await step
        finally:
            self._writes_until = NEVER

    def tick(self, now: float) -> None:
        """Act on passed deadlines."""
        if now >= self._writes_until:
            self._drop_caller()
        elif now >= self._limit:
            self.wake()

    # -- what others report --------------------------------------------------------------------------------

    @property
    def read_on_seconds(self) -> float:
        """How long upstream is read without a caller: 0, unless its id, or the end of a refusal or cost, is missing."""
        if self.budget.mode != "live" or self.meter.state not in ("sent", "open", "refused"):
            return 0
        if self.meter.state != "refused" and self.meter.generation_id is None:
            return UNTIL_ID_SECONDS if self.chat.stream else UNTIL_WHOLE_SECONDS
        return UNTIL_END_SECONDS if self.meter.state == "refused" or self.meter.states_cost else 0

    @property
    def is_over(self) -> bool:
        """Whether it must stop: its caller is gone, and its id or cost is known, or the time for that has passed."""
        return self.gone != "" and (not self.read_on_seconds or self.clock() >= self._ends_at)

    def hang_up(self) -> None:
        """Record that the caller disconnected."""
        self._let_go("client")

    def cut(self) -> None:
        """Record that the connection was revoked, or its app closed."""
        self._let_go("revoked")
        if self._writes_until != NEVER:
            # A caller that does not read could not receive the error either.
            self._drop_caller()

    def stop(self, seconds: float) -> None:
        """Record that the process stops; an answer's id is waited for within the limit."""
        self._let_go("client")
        self._ends_at = min(self._ends_at, self.clock() + seconds)
        self.wake()

    def _let_go(self, why: str) -> None:
        if not self.gone:
            self.gone = why
            self._ends_at = self.clock() + self.read_on_seconds
        self.wake()

    def _drop_caller(self) -> None:
        if self.call.connection.transport is not None:
            self.call.connection.transport.abort()


class Inflight:
    """All requests in flight of this process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._open: dict[str, set[OpenRequest]] = {}
        self._indexed: dict[str, float] = {}
        self._ended = asyncio.Event()

    def __len__(self) -> int:
        return sum(len(group) for group in self._open.values())

    def __iter__(self) -> Iterator[OpenRequest]:
        return (request for group in tuple(self._open.values()) for request in tuple(group))

    def add(self, request: OpenRequest) -> None:
        """Register a request with its task, so that a revocation finds it."""
        self._open.setdefault(request.budget.name, set()).add(request)
        request.call.on_hang_up(request.hang_up)

    def remove(self, request: OpenRequest) -> None:
        """Unregister a request that has ended."""
        request.call.on_hang_up(None)
        group = self._open[request.budget.name]
        group.discard(request)
        if not group:
            del self._open[request.budget.name]
        if not self._open:
            self._ended.set()

    async def ended(self, seconds: float) -> None:
        """Wait until no request is open, within the limit."""
        try:
            async with asyncio.timeout(seconds):
                while self._open:
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            pass

    async def end(self) -> None:
        """End every running request, because the process stops."""
        for request in self:
            request.stop(_AT_THE_END_SECONDS)
        await self.ended(_AT_THE_END_SECONDS + 2 * _TICK_SECONDS)
        tasks = [request.call.connection.task for request in self if request.call.connection.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def carries(self, name: str, request_id: str) -> bool:
        """Return whether this process has an open request of the budget of that name."""
        return any(request.request_id == request_id for request in self._open.get(name, ()))

    def cut_budget(self, name: str) -> None:
        """End every request of one budget."""
        for request in tuple(self._open.get(name, ())):
            request.cut()

    def cut_app(self, app_id: str) -> None:
        """End every request of one app."""
        for request in self:
            if request.budget.app_id == app_id:
                request.cut()

    async def check(self, is_closed: Callable[[str], Awaitable[bool]]) -> None:
        """Cut the requests of budgets that were revoked, and of apps that were closed, while cuts were missed.

        Raises Unavailable if not all could be checked; those that could are cut.
        """
        unanswered: Unavailable | None = None
        for app_id in {request.budget.app_id for request in self}:
            try:
                if await is_closed(app_id):
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

    def is_indexed(self, budget: Budget, now: float) -> bool:
        """Return whether the budget was listed for the sweeper recently; it is listed at most twice in a lease."""
        return now < self._indexed.get(budget.name, 0)

    async def index(self, budget: Budget, now: float) -> None:
        """Put the budget on the sweeper's list. Raises Unavailable."""
        if len(self._indexed) > _MOST_INDEXED:
            self._indexed.clear()
        # Only a confirmed listing is cached; until then each request lists the budget again, which changes nothing.
        await self._ledger.index(budget, self._listed(budget, now))

    def _listed(self, budget: Budget, now: float) -> Callable[[], None]:
        def listed() -> None:
            self._indexed[budget.name] = now + self._ledger.lease_ms / 2000

        return listed

    async def tick(self) -> None:
        """Check all deadlines, and renew the holds of long requests before they are overdue, until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            third_seconds = self._ledger.lease_ms / 3000
            await asyncio.sleep(min(_TICK_SECONDS, third_seconds))
            now = clock()
            for request in self:
                try:
                    request.tick(now)
                    if request.admission is not None and now - request.renewed_at >= third_seconds:
                        self._renew(request, now)
                except Exception as fault:
                    # An exception of one request must not end the ticker, which would let every hold become overdue.
                    log.error("tick_failed", error=type(fault).__name__)

    def _renew(self, request: OpenRequest, now: float) -> None:
        """Post the renewal of one hold; the store repeats it until it is acknowledged."""
        if request.is_closed:
            return
        request.renewed_at = now

        def renewed(renewal: Renewal) -> None:
            request.due_ms = renewal.due_ms
            if not renewal.is_active:
                self.cut_budget(request.budget.name)

        if not self.is_indexed(request.budget, now):
            self._ledger.keep_index(request.budget, self._listed(request.budget, now))
        self._ledger.keep_renewal(request.budget, request.request_id, request.meter.generation_id or "", renewed)
