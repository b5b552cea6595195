"""What the ledger is told, and what it answers: values, no more.

What each request makes is a NamedTuple: a frozen dataclass takes five times as long to make.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.store.replies import text

# The rolling month: the UTC day of the spend and the 29 days before it, as in lua/include/window.lua.
WINDOW_DAYS = 30
_DAY_SECONDS = 86_400


class Admission(NamedTuple):
    """A placed hold. `max_tokens` is set when the answer must be shortened; `funding` is the sealed key.

    `due_ms`: when it is overdue, by Redis's clock, unless it is renewed; `post_sent` needs it.
    `is_overdue`: another hold of this budget waits for the sweeper. `uses_left`: how many requests a grant still
    carries; None where they are not counted. `is_beyond`: it may cost more than is held; one open request of a budget
    at most is so. `admitted`: what its hold says of it, for `settle.lua`.
    """

    hold_nano: int
    max_tokens: int | None
    remaining_nano: int | None
    funding: bytes
    due_ms: int
    is_overdue: bool = False
    uses_left: int | None = None
    is_beyond: bool = False
    admitted: bytes = b""


class Waiting(NamedTuple):
    """No hold yet. `place`: its place in the order of arrival, 0 without one.

    `needs_terms`: ask again with what the request is expected to cost. Else it waits for the requests in flight.
    """

    place: int
    needs_terms: bool


class Turn(NamedTuple):
    """Where a request stands among those that wait. `channel`: what its process hears; empty: it does not wait.

    `place`: what an earlier answer told, 0 before. `is_over`: it has waited for its time.
    """

    channel: str = ""
    place: int = 0
    is_over: bool = False


class Settlement(NamedTuple):
    """How a request ended. `status`: `settled` (OpenRouter stated the cost), `estimated` or `void`.

    `ended_by`: complete, client, upstream, revoked, refused, crash. `funding`: `works`, `refused`, or empty: nothing
    was learnt about the funding key.
    """

    status: str
    cost_nano: int = 0
    generation_id: str = ""
    model: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    funding: str = ""
    ended_by: str = "complete"


class HandOver(NamedTuple):
    """An open hold that is left to the sweeper at once: its true cost must be asked for.

    `estimate_nano` is booked if it is not to be had. `funding`: `refused`, or empty.
    """

    generation_id: str
    estimate_nano: int
    ended_by: str
    funding: str


class Booked(NamedTuple):
    """What the ledger now says of a request; `is_first` is false when it had been closed before."""

    is_first: bool
    status: str
    cost_nano: int
    overrun_nano: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What a budget is worth now, by Redis's clock."""

    state: str
    cap_nano: int | None
    spent_nano: int
    held_nano: int
    fields: dict[str, bytes]
    now_ms: int = field(default=0, compare=False)
    """When it was read."""
    oldest_day: int | None = None
    """The first UTC day of the window with spend, as far as it was asked for."""

    @property
    def resets_at(self) -> int | None:
        """When spend next falls out of the window, in unix seconds; None without any."""
        return None if self.oldest_day is None else (self.oldest_day + WINDOW_DAYS) * _DAY_SECONDS

    @property
    def is_connected(self) -> bool:
        """Whether the budget may be spent from."""
        return self.state == "active"

    @property
    def uses(self) -> int | None:
        """How many requests a grant carries in all; None for a connection, whose requests are not counted."""
        found = self.fields.get("uses")
        return None if found is None else int(found)

    @property
    def used(self) -> int:
        """How many of them are open or were billed."""
        return int(self.fields.get("used", 0))

    @property
    def expires_ms(self) -> int:
        """When a grant expires, in unix milliseconds; 0 for a connection."""
        return int(self.fields.get("expires_ms", 0))

    @property
    def has_ended(self) -> bool:
        """Whether a grant is used up or has expired: its state says neither."""
        return self.uses is not None and (self.used >= self.uses or self.now_ms >= self.expires_ms)

    @property
    def end(self) -> str:
        """Why a grant carries nothing: `unknown`, `ended`, `expired`, `used_up`; empty while it lives."""
        if not self.is_connected:
            return "ended" if self.state else "unknown"
        if not self.has_ended:
            return ""
        return "expired" if self.now_ms >= self.expires_ms else "used_up"

    @property
    def revocations(self) -> int:
        """How often it was revoked or barred: what was approved before the last time never connects."""
        return int(self.fields.get("revocations", 0))

    @property
    def overruns(self) -> int:
        """How many requests ever cost more than their hold."""
        return int(self.fields.get("overruns", 0))

    @property
    def overrun_nano(self) -> int:
        """By how much in all."""
        return int(self.fields.get("overrun_nano", 0))

    @property
    def remaining_nano(self) -> int | None:
        """Cap less settled spend, never below 0; None without a cap."""
        return None if self.cap_nano is None else max(0, self.cap_nano - self.spent_nano)


class Renewal(NamedTuple):
    """Whether a hold was still open to be renewed, whether its budget is still active, and when it is overdue now."""

    is_held: bool
    is_active: bool
    due_ms: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Overdue holds that this process alone may work on now. `next_due_ms`: None when no hold is left.

    `started_ms`: when the server that holds them was started, by its own clock.
    """

    now_ms: int
    started_ms: int
    next_due_ms: int | None
    request_ids: tuple[str, ...]


def sum_by_day(entries: Iterable[dict[str, str]]) -> dict[int, int]:
    """Return nano-USD by UTC day number, folded from ledger entries."""
    days: dict[int, int] = {}
    for entry in entries:
        days[int(entry["day"])] = days.get(int(entry["day"]), 0) + int(entry["delta_nano"])
    return days


def standing_of(
    spent_nano: int, fields: dict[str, bytes], *, now_ms: int = 0, oldest_day: int | None = None
) -> Standing:
    """Return what a budget's hash says, and what was spent in the window."""
    cap = fields.get("cap_nano", b"")
    return Standing(
        state=text(fields.get("state", b"")),
        cap_nano=int(cap) if cap else None,
        spent_nano=spent_nano,
        held_nano=int(fields.get("held_nano", 0)),
        fields=fields,
        now_ms=now_ms,
        oldest_day=oldest_day,
    )
