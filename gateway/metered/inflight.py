"""Requests in flight: what each has been through, how long it may go on, and how a revocation or a hang-up reaches it.

Rule: the handler carries its request. Whatever happens elsewhere sets the request's state and wakes the handler, which
ends the request by the rule of that state (docs/ledger.md). One ticker watches the deadlines of all.
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
from gateway.metered.meter import Meter, State
from gateway.openrouter.dialects import WIRE

# How long an answer may go on without its caller, because what it costs is still to be told. A stream's headers, and
# the id in them, come early. One that is not streamed is billed in full whoever hangs up (openrouter.md §1.6), so that
# hanging up saves nothing. One that has stated its cost is written, its end is on the way, and a later cost counts.
UNTIL_ID_SECONDS = 10.0
UNTIL_WHOLE_SECONDS = 300.0
UNTIL_END_SECONDS = 1.0
# After its end nothing more of an answer is owed to the caller; upstream may hang open (openrouter.md §10.3), or go on
# sending comments.
AFTER_END_SECONDS = 1.0
# How often it is looked whether anything but comments came, in the time that comments alone may take.
_LOOKS = 8
# A process that stops has let its streams finish already.
_AT_THE_END_SECONDS = 2.0
# The shortest limit that it watches is a second; a quarter of that is late enough to be cheap for thousands of streams.
_TICK_SECONDS = 0.25
# Budgets whose place on the sweeper's list is remembered; the memory is dropped whole beyond that, and refills.
_MOST_INDEXED = 100_000

_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")

NEVER = float("inf")


class Stopped(ConnectionResetError):
    """Nothing more is worth waiting for: the caller is gone or cut off, and what can be told of the cost was told."""


class OpenRequest:
    """One metered request, from the moment it asks for a hold."""

    # What it begins with stands on the class: to set it on each request would take a third of the time to make one.
    is_asked = False
    """Whether a hold may exist, whatever was answered."""
    waited_seconds = 0.0
    """Until it was decided, where its bound did not fit at once."""
    admission: Admission | None = None
    is_closed = False
    """Whether what it owes was posted."""
    gone = ""
    """Why nothing more goes to the caller: `client` (who hung up) or `revoked`."""
    is_told = False
    """Whether a caller who was cut off has been told so."""
    attached: str | None = None
    """The generation id that was sent to Redis."""
    answer: Answer | None = None
    refused: web.Response | None = None
    """What a caller was told instead of an answer, while upstream is still heard."""
    last_piece = b""
    """What went to the caller last."""
    over_at = NEVER
    """When the answer is over, because its end was seen, whatever upstream still sends."""
    ended_by = "complete"
    opened_at: float | None = None
    first_byte_at: float | None = None
    due_ms = 0
    """When its hold is overdue, by Redis's clock, as far as is known."""
    _payload = 0
    _ends_at = _limit = _writes_until = NEVER
    _waiter: asyncio.Future[None] | None = None

    def __init__(self, budget: Budget, call: Call, chat: ChatRequest) -> None:
        loop = asyncio.get_running_loop()
        self.budget = budget
        self.call = call
        self.chat = chat
        self.meter = Meter(WIRE[chat.dialect])
        self.clock = loop.time
        self.started = self.renewed_at = self._payload_at = self._looked_at = loop.time()
        self.task = asyncio.current_task(loop)
        self._create_future = loop.create_future

    @property
    def request_id(self) -> str:
        """The request's id, which is its hold's id too."""
        return self.call.request_id

    def note_timings(self) -> None:
        """Have the log say how many milliseconds upstream's headers, and its first byte, came after the start."""
        notes = self.call.notes
        if self.opened_at is not None:
            notes["upstream_ms"] = round((self.opened_at - self.started) * 1000, 2)
        if self.first_byte_at is not None:
            notes["first_byte_ms"] = round((self.first_byte_at - self.started) * 1000, 2)

    @property
    def has_answered(self) -> bool:
        """Whether a head has left for the caller."""
        return self.refused is not None or (self.answer is not None and self.answer.has_begun)

    @property
    def has_length(self) -> bool:
        """Whether its answer says how long it is."""
        return self.answer is not None and self.answer.has_length

    @property
    def at_event_end(self) -> bool:
        """Whether what went to the caller so far surely ends with a whole event."""
        return self.last_piece.endswith(_EVENT_ENDS)

    def response(self) -> web.StreamResponse:
        """Return what the caller got. Raises Stopped when that is nothing, or not the whole of it."""
        if self.refused is not None:
            return self.refused
        if self.answer is None or (self.gone == "client" and not self.answer.has_ended):
            raise Stopped
        return self.answer

    def reach(self, point: str) -> None:
        """Do nothing when the path has come to a named point; the crash tests kill the process there."""

    # -- what the handler reports --------------------------------------------------------------------------

    def held(self, admission: Admission) -> None:
        """Note the hold, and the sealed key that its cost may be asked for with."""
        self.admission = admission
        self.due_ms = admission.due_ms
        self.call.notes["hold_nano"] = admission.hold_nano
        metrics.count_hold()

    def sent(self) -> None:
        """Note that the whole request is on its way: OpenRouter can begin only now, and a cut ends it no more."""
        if not self.meter.was_sent and self.meter.state is State.HELD:
            self.meter.sent()

    def opened(self, status: int, coding: str | None, generation_id: str | None) -> None:
        """Note upstream's status line and headers; `coding` is its Content-Encoding."""
        self.opened_at = self._payload_at = self._looked_at = self.clock()
        self.meter.opened(status, coding=coding, generation_id=generation_id)

    def feed(self, piece: bytes) -> None:
        """Note a part of the answer."""
        if self.first_byte_at is None:
            self.first_byte_at = self.clock()
        self.meter.body(piece)
        if self.over_at == NEVER and self.meter.is_done:
            self.over_at = self.clock() + AFTER_END_SECONDS
        if self.gone:
            self._ends_at = min(self._ends_at, self.clock() + self.farewell_seconds)

    @property
    def is_past_end(self) -> bool:
        """Whether its end was seen and its last second has gone, whatever still comes."""
        return self.over_at != NEVER and self.clock() >= self.over_at

    def idle_limit(self, last_heard: float, seconds: float) -> float:
        """Return until when comments alone may keep it alive; `last_heard`: when upstream last sent anything."""
        if last_heard - self._looked_at >= seconds / _LOOKS:
            self._looked_at = last_heard
            if (payload := self.meter.payload) != self._payload:
                self._payload, self._payload_at = payload, last_heard
        return self._payload_at + seconds

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

    # -- waiting -------------------------------------------------------------------------------------------

    def news(self, limit: float) -> asyncio.Future[None]:
        """Return what is done once something has happened, or once the ticker finds the loop's time past `limit`."""
        self._limit = min(limit, self._ends_at)
        self._waiter = self._create_future()
        return self._waiter

    def wake(self) -> None:
        """Have the handler look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def within(self, seconds: float, step: Awaitable[object]) -> None:
        """Wait for the caller to take something; one that takes longer is dropped. Raises ConnectionError."""
        self._writes_until = self.clock() + seconds
        try:
            await step
        finally:
            self._writes_until = NEVER

    def tick(self, now: float) -> None:
        """Act on a deadline that has passed."""
        if now >= self._writes_until:
            self._drop_caller()
        elif now >= self._limit:
            self.wake()

    # -- what others report --------------------------------------------------------------------------------

    @property
    def farewell_seconds(self) -> float:
        """How long it may go on without its caller: 0, unless what it costs is still to be told, or to its end."""
        if self.budget.mode != "live" or self.meter.state not in {State.SENT, State.OPEN}:
            return 0
        if self.meter.generation_id is None:
            return UNTIL_ID_SECONDS if self.chat.stream else UNTIL_WHOLE_SECONDS
        return UNTIL_END_SECONDS if self.meter.states_cost else 0

    @property
    def is_over(self) -> bool:
        """Whether it must stop: its caller is gone, and it has told what its cost depends on, or had time to."""
        return self.gone != "" and (not self.farewell_seconds or self.clock() >= self._ends_at)

    def hang_up(self) -> None:
        """Note that the caller is gone."""
        self._let_go("client")

    def cut(self) -> None:
        """Note that the connection was revoked, or its app closed."""
        self._let_go("revoked")
        if self._writes_until != NEVER:
            # Who takes nothing hears no last words either.
            self._drop_caller()

    def stop(self, seconds: float) -> None:
        """Note that the process stops; an answer may tell its id for so long."""
        self._let_go("client")
        self._ends_at = min(self._ends_at, self.clock() + seconds)
        self.wake()

    def _let_go(self, why: str) -> None:
        if not self.gone:
            self.gone = why
            self._ends_at = self.clock() + self.farewell_seconds
        self.wake()

    def _drop_caller(self) -> None:
        if self.call.request.transport is not None:
            self.call.request.transport.abort()


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
        """Keep a request, and the task that carries it, where a revocation finds it."""
        self._open.setdefault(request.budget.name, set()).add(request)
        request.call.on_hang_up(request.hang_up)

    def remove(self, request: OpenRequest) -> None:
        """Let go of a request that has ended."""
        request.call.on_hang_up(None)
        group = self._open[request.budget.name]
        group.discard(request)
        if not group:
            del self._open[request.budget.name]
        if not self._open:
            self._ended.set()

    async def ended(self, seconds: float) -> None:
        """Wait until no request is open, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                while self._open:
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            pass

    async def end(self) -> None:
        """End whatever still runs: the process stops."""
        for request in self:
            request.stop(_AT_THE_END_SECONDS)
        await self.ended(_AT_THE_END_SECONDS + 2 * _TICK_SECONDS)
        tasks = [request.task for request in self if request.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def carries(self, name: str, request_id: str) -> bool:
        """Tell whether a request of the budget of that name is open here."""
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
        """Cut whatever was revoked, or whose app was closed, while nobody told us.

        Raises Unavailable if it could not ask for all; what it could is cut.
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
        """Tell whether the budget was put on the sweeper's list lately: it is, at most twice a lease."""
        return now < self._indexed.get(budget.name, 0)

    async def index(self, budget: Budget, now: float) -> None:
        """Put the budget on the sweeper's list. Raises Unavailable."""
        if len(self._indexed) > _MOST_INDEXED:
            self._indexed.clear()
        # Listed is what Redis said it has listed: until then each request says so anew, which changes nothing.
        await self._ledger.index(budget, self._listed(budget, now))

    def _listed(self, budget: Budget, now: float) -> Callable[[], None]:
        def listed() -> None:
            self._indexed[budget.name] = now + self._ledger.lease_ms / 2000

        return listed

    async def tick(self) -> None:
        """Watch every deadline, and renew the holds of long requests before the sweeper takes them, for ever."""
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
                    # One request that goes wrong takes no other along: who stops renewing loses every hold.
                    log.error("tick_failed", error=type(fault).__name__)

    def _renew(self, request: OpenRequest, now: float) -> None:
        """Post the renewal of one hold: the store repeats it until Redis has it, and the next comes in any case."""
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
