"""The requests of this process that wait in their budget's queue: which to wake, and when to poll.

Rule: the queue itself, over all processes, is in Redis (lua/include/queue.lua). This module admits no request: one
that is woken calls the ledger again.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field

from gateway.keys import wakes
from gateway.ledger.outcomes import QueuePlace
from gateway.metered.inflight import OpenRequest, Stopped

# A process's lease is 1,500 ms (lua/include/queue.lua), and the ticker may be 250 ms late.
RENEW_SECONDS = 0.4
# A waiting request keeps its body, the parsed values and some kilobytes. The limit protects the process's memory; one
# budget may use half of it, so that its requests leave room for others.
MOST_WAITERS = 20_000
MOST_BODY_BYTES = 256 * 1024 * 1024

# Requests that were woken before `enter`: the wake message and the script's reply arrive by two connections.
_MOST_UNKNOWN = 1000

_NO_PLACE = QueuePlace()


@dataclass(slots=True)
class _Waiter:
    """One request with a place in the queue. `is_called`: it should call the ledger again."""

    request: OpenRequest
    place: int
    is_woken: bool = False


@dataclass(slots=True)
class _Group:
    """The waiting requests of one budget by request id.

    `order`: the places, in order, of those that are not calling the ledger just now; without the others, the first is
    found without passing thousands that call at once.
    `renew_at`: when the first of them polls without being woken, which renews the process's lease for all of them.
    """

    waiters: dict[str, _Waiter] = field(default_factory=dict)
    order: list[tuple[int, str]] = field(default_factory=list)
    body_bytes: int = 0
    renew_at: float = 0.0

    @property
    def first(self) -> _Waiter | None:
        """The first of the requests in `order`."""
        return self.waiters[self.order[0][1]] if self.order else None

    def wake_first(self) -> None:
        """Wake the first request, which then computes when to poll."""
        if (first := self.first) is not None:
            first.request.wake()


class WaitingRequests:
    """All waiting requests of one process. `process`: its name; `may_wait`: whether requests wait at all."""

    def __init__(self, process: str, *, may_wait: bool) -> None:
        self._first_turn = QueuePlace(wakes(process)) if may_wait else _NO_PLACE
        self._groups: dict[str, _Group] = {}
        self._unknown: set[str] = set()
        self._count = 0
        self._body_bytes = 0
        self.is_stopping = False

    def __len__(self) -> int:
        return self._count

    def turn(self, request: OpenRequest) -> QueuePlace:
        """Return the turn of a new request, which does not wait if there is no room."""
        if not self._count:
            return self._first_turn
        size = request.chat.kept_bytes
        group = self._groups.get(request.budget.queue)
        is_full = self._count >= MOST_WAITERS or self._body_bytes + size > MOST_BODY_BYTES
        if group is not None:
            is_full |= len(group.waiters) >= MOST_WAITERS // 2 or group.body_bytes + size > MOST_BODY_BYTES // 2
        return _NO_PLACE if is_full else self._first_turn

    def enter(self, request: OpenRequest, place: int) -> None:
        """Register a request with its place, so that wake messages find it."""
        group = self._groups.setdefault(request.budget.queue, _Group())
        if request.request_id in group.waiters:
            return
        # The wake message may have arrived before the script's reply.
        is_woken = request.request_id in self._unknown
        group.waiters[request.request_id] = _Waiter(request, place, is_woken)
        self._count_in(group, request, 1)

    def leave(self, request: OpenRequest) -> None:
        """Unregister a request, if it is registered, and wake the next one of its budget."""
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
        """Record that a call has just renewed this process's lease in the budget's queue."""
        if (group := self._groups.get(request.budget.queue)) is not None:
            group.renew_at = request.clock() + RENEW_SECONDS

    async def until_woken(self, request: OpenRequest, until: float) -> None:
        """Wait until the request should call again, at the latest `until` (the loop's time). Raises Stopped."""
        group = self._groups[request.budget.queue]
        waiter = group.waiters[request.request_id]
        turn = (waiter.place, request.request_id)
        insort(group.order, turn)
        try:
            while True:
                if request.is_over:
                    raise Stopped
                limit = min(until, group.renew_at) if group.first is waiter else until
                if waiter.is_woken or self.is_stopping or request.clock() >= limit:
                    break
                await request.news(limit)
        finally:
            del group.order[bisect_left(group.order, turn)]
        waiter.is_woken = False
        # Its poll renews the lease for all, so the next poll is due a period later.
        group.renew_at = request.clock() + RENEW_SECONDS
        group.wake_first()

    def handle_wake(self, message: bytes) -> tuple[str, str] | None:
        """Handle a wake message: the queue's name, and the request to wake; without a request all of the queue.

        Returns queue and request if that request does not wait here, or not yet.
        """
        queue, _, request_id = message.decode().partition(" ")
        if not request_id:
            self.wake(queue)
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

    def wake(self, queue: str) -> None:
        """Wake every request of one queue."""
        if (group := self._groups.get(queue)) is not None:
            for waiter in group.waiters.values():
                _call(waiter)

    def wake_all(self) -> None:
        """Wake every request, because wake messages may have been lost."""
        for queue in tuple(self._groups):
            self.wake(queue)

    def stop(self) -> None:
        """End every wait, because the process stops."""
        self.is_stopping, self._first_turn = True, _NO_PLACE
        self.wake_all()


def _call(waiter: _Waiter) -> None:
    waiter.is_woken = True
    waiter.request.wake()
