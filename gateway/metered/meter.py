"""The state table of one request, which decides what is owed from the events that happened.

Only this file changes the state, and only by events of the table.
A stated cost is always booked; an absent cost is not zero; a request that was refused before any work costs nothing.
"""

from dataclasses import dataclass
from typing import Literal

from gateway.openrouter.dialects import WIRE, Dialect, Wire
from gateway.openrouter.reading import Reading
from gateway.openrouter.refusals import concerns_funding
from gateway.openrouter.usage import Usage, fit_id

# Literals, because a member of an Enum takes twenty times as long to name, and each request names ten.
State = Literal[
    "held",  # a hold exists, the request was not sent
    "sent",  # the request was sent, no answer yet
    "open",  # upstream answered 2xx, the body is being read
    "refused",  # upstream answered another status
    "abandoned",  # the client disconnected or was revoked; upstream may still be read
    "closed",
]
RequestEvent = Literal["sent", "opened", "refused", "ended", "cut", "client_gone", "revoked"]

_Row = dict[RequestEvent, State]
_LEAVE: _Row = {"client_gone": "abandoned", "revoked": "abandoned"}
_STOP: _Row = {"ended": "closed", "cut": "closed"}
_ANSWER: _Row = {"opened": "open", "refused": "refused"}
_NEVER_SENT: _Row = {"cut": "closed", "client_gone": "closed", "revoked": "closed"}

TRANSITIONS: dict[State, _Row] = {
    "held": {"sent": "sent", **_ANSWER, **_NEVER_SENT},
    # A repeated `sent` changes nothing.
    "sent": {"sent": "sent", "cut": "closed", **_ANSWER, **_LEAVE},
    "open": {**_LEAVE, **_STOP},
    "refused": {"client_gone": "refused", "revoked": "refused", **_STOP},
    "abandoned": {"opened": "abandoned", "refused": "refused", **_LEAVE, **_STOP},
    # Later events of a closed request change nothing, such as a client's disconnect after the last byte.
    "closed": {"ended": "closed", **_NEVER_SENT},
}


@dataclass(slots=True)
class Settle:
    """Owed: `cost_nano`, as stated by upstream."""

    cost_nano: int
    usage: Usage
    generation_id: str | None


@dataclass(slots=True)
class Void:
    """Nothing is owed. `reason`: `not_sent`, `refused` or `failed` (a 200 without work that ended or had an error)."""

    reason: str


@dataclass(slots=True)
class Reconcile:
    """Something may be owed: look the cost up at `/generation`, and settle at the estimate if that fails.

    `is_free`: upstream ended or failed without any work, so the estimate is zero. Otherwise the stated part of `usage`
    and `completion_bytes` are the input of `pricing.estimate_nano`. `is_outdone`: a cost was stated before the end, but
    work came with it or after it, so more may be owed.
    """

    generation_id: str | None
    is_free: bool
    completion_bytes: int
    usage: Usage | None = None
    is_outdone: bool = False


Outcome = Settle | Void | Reconcile


class Meter:
    """Follows one request from hold to outcome. Every event is reported once, in order."""

    # Only what each request reads at once is set in `__init__`: 3.11 finds the value of a class slowly.
    status: int | None = None
    is_accepted = False
    """Whether upstream answered 2xx."""
    was_sent = False
    """Whether the request's last byte was sent, or upstream answered."""
    _header_id: str | None = None
    _ended_well = False

    def __init__(self, wire: Wire = WIRE[Dialect.CHAT]) -> None:
        self.state: State = "held"
        self._wire = wire
        self._reading = Reading(wire)
        self._is_read = False

    def sent(self) -> None:
        """Record that the request's last byte was sent: from now on work may be billed without an answer."""
        self._move("sent")
        self.was_sent = True

    def opened(self, status: int, coding: str | None = None, generation_id: str | None = None) -> None:
        """Record upstream's status line and headers. `coding`: Content-Encoding; `generation_id`: X-Generation-Id."""
        self.status = status
        self.is_accepted = is_accepted = 200 <= status < 300
        self._move("opened" if is_accepted else "refused")
        self.was_sent = True
        self._header_id = fit_id(generation_id)
        if coding is not None:
            self._reading = Reading(self._wire, coding)

    def body(self, chunk: bytes) -> bool:
        """Read the next bytes of the answer, in any split; ignored once it is closed or `outcome` was called.

        Returns whether the terminal event was read, as `is_done`.
        """
        reading = self._reading
        if not self._is_read:
            reading.feed(chunk)
        return reading.scanner.done

    def ended(self, last: bytes = b"") -> None:
        """Record that the body is complete. `last`: its last bytes, if `body` was not called with them."""
        self._ended_well = self.state != "closed"
        self._move("ended")
        self._finish(last)

    def cut(self) -> None:
        """Record that the connection to upstream failed or was cut."""
        self._move("cut")
        self._finish()

    def client_gone(self) -> None:
        """Record that the caller disconnected."""
        self._move("client_gone")

    def revoked(self) -> None:
        """Record that the connection was revoked during the answer."""
        self._move("revoked")

    @property
    def generation_id(self) -> str | None:
        """The id for the look-up of the true cost, once known: the header's, else the body's."""
        return self._header_id or self._reading.scanner.generation_id

    @property
    def usage(self) -> Usage | None:
        """The last usage so far."""
        return self._reading.scanner.usage

    @property
    def states_cost(self) -> bool:
        """Whether a cost was stated so far, which happens at the end of an answer."""
        return self.usage is not None and self.usage.cost_nano is not None

    @property
    def is_done(self) -> bool:
        """Whether the terminal event was read; upstream may hang open after it."""
        return self._reading.scanner.done

    @property
    def payload(self) -> int:
        """A number that grows with all received bytes except comments, blanks and pings."""
        return self._reading.scanner.payload_bytes + self._reading.unread_bytes

    @property
    def events(self) -> int:
        """The number of a stream's events so far."""
        return self._reading.scanner.events

    def accepts_event(self, *, is_labelled: bool) -> bool:
        """Return whether an error event of ours can be appended: the answer so far is a stream of unencoded events.

        `is_labelled`: whether the Content-Type is that of a stream, which decides until the first byte.
        """
        reading = self._reading
        if reading.is_encoded or not reading.is_decided:
            return is_labelled and not reading.is_encoded
        return reading.is_event_stream and (is_labelled or self.events > 0)

    @property
    def funding_refused(self) -> bool:
        """Whether upstream refused the funding key or its credit, by its status or inside a 200."""
        errors = self._reading.scanner.errors
        if not errors:
            return False
        status = None if self.is_accepted else self.status
        return any(concerns_funding(error, status) for error in errors)

    def outcome(self) -> Outcome:
        """Return what is owed by the events so far; a last unfinished event of the stream is read too."""
        if not self._is_read:
            self._finish()
        if not self.was_sent:
            return Void("not_sent")
        if self.status is not None and not self.is_accepted:
            return self._refused(self.status)
        scanner = self._reading.scanner
        usage, generation_id = scanner.usage, self.generation_id
        if usage is not None and usage.cost_nano is not None:
            # Without the end, more may have been billed than stated; without an id it cannot be looked up.
            if self._ended_well or scanner.done or generation_id is None:
                return Settle(usage.cost_nano, usage, generation_id)
            return self._reconcile(is_free=False)
        if self._failed and generation_id is None:
            return Void("failed")
        return self._reconcile(is_free=self._failed)

    @property
    def _failed(self) -> bool:
        """Whether upstream itself ended, or stated an error, without any work; an unreadable body may contain some."""
        reading = self._reading
        has_ended = self._ended_well or reading.scanner.done or bool(reading.scanner.errors)
        return has_ended and not (reading.scanner.has_work or reading.is_blind)

    def _refused(self, status: int) -> Outcome:
        usage = self.usage
        if usage is not None and usage.cost_nano:
            return Settle(usage.cost_nano, usage, self.generation_id)
        if status >= 500 and self.generation_id is not None:
            return self._reconcile(is_free=True)
        return Void("refused")

    def _reconcile(self, *, is_free: bool) -> Reconcile:
        scanner = self._reading.scanner
        return Reconcile(
            generation_id=self.generation_id,
            is_free=is_free,
            completion_bytes=scanner.completion_bytes + self._reading.unread_bytes,
            usage=self.usage,
            is_outdone=self.states_cost and scanner.is_outdone,
        )

    def _move(self, event: RequestEvent) -> None:
        """Apply an event to the table; one that the state does not allow is a bug, and raises KeyError."""
        self.state = TRANSITIONS[self.state][event]

    def _finish(self, last: bytes = b"") -> None:
        if not self._is_read:
            self._is_read = True
            self._reading.finish(last)
