"""The values that the ledger takes and returns.

Values made for each request are dataclasses that are not frozen: a NamedTuple takes twice as long to create, a frozen
dataclass five times.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.store.replies import text

# The rolling month: the UTC day of the spend and the 29 days before it, as in lua/include/window.lua.
WINDOW_DAYS = 30
_DAY_SECONDS = 86_400


@dataclass(slots=True)
class Admission:
    """A placed hold. `max_tokens`: set when the answer must be shortened; `funding`: the sealed key.

    `due_ms`: when it becomes overdue, by Redis's clock, unless renewed; `post_sent` needs it. `is_overdue`: another
    hold of this budget is overdue. `uses_left`: the remaining requests of a grant; None for a connection. `is_beyond`:
    the request's bound is above its hold, which is true for at most one open request of a budget. `admitted`: the
    hold's fields as stored by `admit.lua`, with which `settle.lua` need not read the hold.
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


class Queued(NamedTuple):
    """No hold yet. `place`: its place in the queue, 0 without one.

    `needs_terms`: retry with the request's terms; otherwise it waits for requests in flight.
    """

    place: int
    needs_terms: bool


class QueuePlace(NamedTuple):
    """A request's position in the queue. `channel`: its process's wake channel; empty: it does not wait.

    `place`: from an earlier reply, 0 before. `is_over`: its waiting time has passed.
    """

    channel: str = ""
    place: int = 0
    is_over: bool = False


@dataclass(slots=True)
class Settlement:
    """A request's outcome. `status`: `settled` (OpenRouter stated the cost), `estimated` or `void`.

    `ended_by`: complete, client, upstream, revoked, refused, crash. `funding`: `works`, `refused`, or empty if nothing
    was learned about the funding key.
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
    """Leaves an open hold to the sweeper at once, because its true cost must be requested.

    `estimate_nano`: booked if the cost cannot be obtained. `funding`: `refused`, or empty.
    """

    generation_id: str
    estimate_nano: int
    ended_by: str
    funding: str


@dataclass(slots=True)
class Booked:
    """A request's state after a settlement; `is_first`: False if it was already closed."""

    is_first: bool
    status: str
    cost_nano: int
    overrun_nano: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget's current state, by Redis's clock."""

    state: str
    cap_nano: int | None
    spent_nano: int
    held_nano: int
    fields: dict[str, bytes]
    now_ms: int = field(default=0, compare=False)
    """When it was read."""
    oldest_day: int | None = None
    """The first UTC day of the window with spend; None if there is none or it was not read."""

    @property
    def resets_at(self) -> int | None:
        """When spend next leaves the window, in unix seconds; None without spend."""
        return None if self.oldest_day is None else (self.oldest_day + WINDOW_DAYS) * _DAY_SECONDS

    @property
    def is_connected(self) -> bool:
        """Whether the budget is active."""
        return self.state == "active"

    @property
    def uses(self) -> int | None:
        """The total number of a grant's requests; None for a connection."""
        found = self.fields.get("uses")
        return None if found is None else int(found)

    @property
    def used(self) -> int:
        """How many of a grant's requests are open or were billed."""
        return int(self.fields.get("used", 0))

    @property
    def expires_ms(self) -> int:
        """The expiry of a grant in unix milliseconds; 0 for a connection."""
        return int(self.fields.get("expires_ms", 0))

    @property
    def has_ended(self) -> bool:
        """Whether a grant is used up or expired, which its `state` does not show."""
        return self.uses is not None and (self.used >= self.uses or self.now_ms >= self.expires_ms)

    @property
    def end(self) -> str:
        """Why a grant cannot be used: `unknown`, `ended`, `expired`, `used_up`; empty while it can."""
        if not self.is_connected:
            return "ended" if self.state else "unknown"
        if not self.has_ended:
            return ""
        return "expired" if self.now_ms >= self.expires_ms else "used_up"

    @property
    def revocations(self) -> int:
        """How often it was revoked or barred: approvals made before the last time are void."""
        return int(self.fields.get("revocations", 0))

    @property
    def overruns(self) -> int:
        """How many requests cost more than their hold."""
        return int(self.fields.get("overruns", 0))

    @property
    def overrun_nano(self) -> int:
        """The total cost above holds."""
        return int(self.fields.get("overrun_nano", 0))

    @property
    def remaining_nano(self) -> int | None:
        """Cap minus settled spend, never below 0; None without a cap."""
        return None if self.cap_nano is None else max(0, self.cap_nano - self.spent_nano)


class Renewal(NamedTuple):
    """Whether the hold was still open, whether its budget is active, and when the hold is overdue now."""

    is_held: bool
    is_active: bool
    due_ms: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Overdue holds claimed by this process. `next_due_ms`: None if no hold is open.

    `started_ms`: when their Redis server was started, by its own clock. `has_unlisted_events`: a settlement wrote an
    event, and its process may have died before it listed the budget for the senders.
    """

    now_ms: int
    started_ms: int
    next_due_ms: int | None
    request_ids: tuple[str, ...]
    has_unlisted_events: bool = False


def sum_by_day(entries: Iterable[dict[str, str]]) -> dict[int, int]:
    """Sum ledger entries to nano-USD by UTC day number."""
    days: dict[int, int] = {}
    for entry in entries:
        days[int(entry["day"])] = days.get(int(entry["day"]), 0) + int(entry["delta_nano"])
    return days


def standing_of(
    spent_nano: int, fields: dict[str, bytes], *, now_ms: int = 0, oldest_day: int | None = None
) -> Standing:
    """Return the standing for a budget's hash and its spend of the window."""
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
