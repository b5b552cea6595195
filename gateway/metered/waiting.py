"""The requests of this process that wait for money of their budget: whom to wake, and when to ask again.

Rule: the queue itself, over all processes, is in Redis (lua/include/queue.lua). Nothing here lets anybody through: who
is woken asks the ledger again.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field

from gateway.keys import wakes
from gateway.ledger.outcomes import Turn
from gateway.metered.inflight import OpenRequest, Stopped

# A process has 1,500 ms to say that it lives (lua/include/queue.lua); the ticker may be a quarter of a second late.
RENEW_SECONDS = 0.4
# A waiter costs its body, what was read from it and some kilobytes. Beyond this a process would wait itself out of
# memory; one budget gets half of it at most, so that its waiters leave room for others'.
MOST_WAITERS = 20_000
MOST_BODY_BYTES = 256 * 1024 * 1024

# Requests that were called before they were known here: a word of Redis and an answer come by two connections.
_MOST_UNKNOWN = 1000

_NO_TURN = Turn()


@dataclass(slots=True)
class _Waiter:
    """One request with a place in the queue. `is_called`: it should ask again."""

    request: OpenRequest
    place: int
    is_called: bool = False


@dataclass(slots=True)
class _Group:
    """The waiters of one budget by request id.

    `order`: the places, in order, of those that wait for a word; who asks just now is not among them, so that the
    first is found without passing by thousands that ask at once.
    `renew_at`: when the first of them asks again unasked, which says for all of them that this process lives.
    """

    waiters: dict[str, _Waiter] = field(default_factory=dict)
    order: list[tuple[int, str]] = field(default_factory=list)
    body_bytes: int = 0
    renew_at: float = 0.0

    @property
    def first(self) -> _Waiter | None:
        """Who came first of those that wait for a word."""
        return self.waiters[self.order[0][1]] if self.order else None

    def wake_first(self) -> None:
        """Have the first look when it is to ask."""
        if (first := self.first) is not None:
            first.request.wake()


class Waiting:
    """All requests of one process that wait. `process`: its name; `may_wait`: whether any request waits at all."""

    def __init__(self, process: str, *, may_wait: bool) -> None:
        self._first_turn = Turn(wakes(process)) if may_wait else _NO_TURN
        self._groups: dict[str, _Group] = {}
        self._unknown: set[str] = set()
        self._count = 0
        self._body_bytes = 0
        self.is_stopping = False

    def __len__(self) -> int:
        return self._count

    def turn(self, request: OpenRequest) -> Turn:
        """Return what a new request may do: wait, or, where there is no room, not."""
        if not self._count:
            return self._first_turn
        size = request.chat.kept_bytes
        group = self._groups.get(request.budget.queue)
        is_full = self._count >= MOST_WAITERS or self._body_bytes + size > MOST_BODY_BYTES
        if group is not None:
            is_full |= len(group.waiters) >= MOST_WAITERS // 2 or group.body_bytes + size > MOST_BODY_BYTES // 2
        return _NO_TURN if is_full else self._first_turn

    def enter(self, request: OpenRequest, place: int) -> None:
        """Keep a request that got a place in the queue where a word of Redis finds it."""
        group = self._groups.setdefault(request.budget.queue, _Group())
        if request.request_id in group.waiters:
            return
        # The script may have called it before its answer was here.
        is_called = request.request_id in self._unknown
        group.waiters[request.request_id] = _Waiter(request, place, is_called)
        self._count_in(group, request, 1)

    def leave(self, request: OpenRequest) -> None:
        """Let go of a request, if it is kept; whoever is first then asks for its budget."""
        group = self._groups.get(request.budget.queue)
        waiter = None if group is None else group.waiters.pop(request.request_id, None)
        if group is None or waiter is None:
            return
        self._count_in(group, request, -1)
        if not group.waiters:
            del self._groups[request.budget.queue]
        group.wake_first()

    def _count_in(self, group: _Group, request: OpenRequest, number: int) -> None:
        size = number * request.chat.kept_bytes
        group.body_bytes += size
        self._body_bytes += size
        self._count += number

    def renewed(self, request: OpenRequest) -> None:
        """Note that Redis has just heard from this process about the request's budget."""
        if (group := self._groups.get(request.budget.queue)) is not None:
            group.renew_at = request.clock() + RENEW_SECONDS

    async def called(self, request: OpenRequest, until: float) -> None:
        """Wait until it is time to ask again, at the latest `until` (the loop's time). Raises Stopped."""
        group = self._groups[request.budget.queue]
        waiter = group.waiters[request.request_id]
        turn = (waiter.place, request.request_id)
        insort(group.order, turn)
        try:
            while True:
                if request.is_over:
                    raise Stopped
                limit = min(until, group.renew_at) if group.first is waiter else until
                if waiter.is_called or self.is_stopping or request.clock() >= limit:
                    break
                await request.news(limit)
        finally:
            del group.order[bisect_left(group.order, turn)]
        waiter.is_called = False
        # It asks for all: the next one has its time too.
        group.renew_at = request.clock() + RENEW_SECONDS
        group.wake_first()

    def hear(self, said: bytes) -> tuple[str, str] | None:
        """Act on a word of Redis: the queue's name, and the request that should ask again; without one all of it.

        Returns queue and request where that does not wait here: not yet, or not any more.
        """
        queue, _, request_id = said.decode().partition(" ")
        if not request_id:
            self.call(queue)
            return None
        group = self._groups.get(queue)
        named = None if group is None else group.waiters.get(request_id)
        if named is not None:
            _call(named)
            return None
        if len(self._unknown) >= _MOST_UNKNOWN:
            self._unknown.clear()
        self._unknown.add(request_id)
        return queue, request_id

    def call(self, queue: str) -> None:
        """Have everybody ask again who waits in one queue."""
        if (group := self._groups.get(queue)) is not None:
            for waiter in group.waiters.values():
                _call(waiter)

    def call_all(self) -> None:
        """Have everybody ask again: words of Redis may have been missed."""
        for queue in tuple(self._groups):
            self.call(queue)

    def stop(self) -> None:
        """Have nobody wait any more: the process stops."""
        self.is_stopping, self._first_turn = True, _NO_TURN
        self.call_all()


def _call(waiter: _Waiter) -> None:
    waiter.is_called = True
    waiter.request.wake()
