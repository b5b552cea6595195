"""How many calls a minute an app may make with its secret keys, counted over all processes: against loops, not users.

In the ordinary case a call costs Redis nothing. Each process counts an app's calls itself, and tells Redis of them when
they have come to a thousandth of what a minute allows; the answer says how far all processes have come.
So beyond the limit a fleet lets through at most that thousandth for each further process, and what comes to those while
a report is on its way (a millisecond). Over time the limit is kept: what was let through too soon is waited for.

Rule: only what a secret key proves counts. Else whoever holds a session token or a publishable key could stop the app.
"""

import secrets
import time

from gateway import keys, metrics
from gateway.errors import RateLimited
from gateway.payers.apps import Caller
from gateway.store.connection import Reply
from gateway.store.store import Store

_MINUTE_SECONDS = 60.0
# Sixty-four processes are six per cent off at most, and with the usual limit Redis is told of every 585th call.
_SHARE = 1024
# Some 4 MB. Dropped whole when there are more: an app may then make in one process what a minute allows once more.
_MOST_APPS = 10_000
# A report that Redis refused is never answered, and one that was lost in an outage late.
_ANSWER_SECONDS = 10.0
# A sum of steps that are no whole binary fractions is off by less than this.
_ROUNDING_SECONDS = 1e-6


class _Count:
    """One app's calls in one mode. All times are of `time.monotonic`, in seconds."""

    __slots__ = ("free_at", "is_acknowledged", "since", "unreported")

    def __init__(self, now: float) -> None:
        self.free_at = now
        """Until when its calls so far would take, spread evenly: those of all processes, as far as is known."""
        self.unreported = 0
        """How many calls no report has told of."""
        self.since = now
        """When the last report left."""
        self.is_acknowledged = True
        """Whether that report was answered."""


class AppPace:
    """The counts of one process. `per_minute`: how many calls one app may make in one mode."""

    def __init__(self, store: Store, per_minute: int) -> None:
        self._store = store
        self._clock = time.monotonic
        self._per_minute = per_minute
        self._step = _MINUTE_SECONDS / per_minute
        self._most = _MINUTE_SECONDS + _ROUNDING_SECONDS
        self._share = max(1, per_minute // _SHARE)
        self._counts: dict[tuple[str, str], _Count] = {}

    def admit(self, caller: Caller) -> None:
        """Count one call of an app. Raises RateLimited, and then counts nothing."""
        now = self._clock()
        count = self._counts.get((caller.mode, caller.app.app_id))
        if count is None:
            count = self._begin(caller, now)
        free_at = now + self._step
        if count.free_at > now:
            free_at = count.free_at + self._step
            if free_at - now > self._most:
                raise _too_often(free_at - now - _MINUTE_SECONDS)
        count.free_at = free_at
        count.unreported += 1
        if count.unreported >= self._share and (count.is_acknowledged or now - count.since > _ANSWER_SECONDS):
            self._report(caller, count, now)

    def _begin(self, caller: Caller, now: float) -> _Count:
        if len(self._counts) >= _MOST_APPS:
            self._counts.clear()
        return self._counts.setdefault((caller.mode, caller.app.app_id), _Count(now))

    def _report(self, caller: Caller, count: _Count, now: float) -> None:
        """Tell Redis of the calls since the last report, and take over what it knows of other processes."""
        pace, report = keys.app_pace(caller.mode, caller.app.app_id, secrets.token_hex(8))
        args = count.unreported, self._per_minute, round((now - count.since) * 1000)
        count.unreported, count.since, count.is_acknowledged = 0, now, False

        def on_reply(reply: Reply) -> None:
            count.is_acknowledged = True
            # Those that came meanwhile are in no report yet.
            count.free_at = self._clock() + float(reply) / 1000 + count.unreported * self._step
            if count.unreported >= self._share:
                self._report(caller, count, self._clock())

        if not self._store.keep("app_pace", [pace, report], args, on_reply):
            count.is_acknowledged = True


def _too_often(seconds: float) -> RateLimited:
    metrics.limited_by("app").inc()
    message = "This app's calls come too fast, those of all its users together. Wait as long as Retry-After says."
    return RateLimited(message, retry_after_seconds=max(1, -int(-seconds // 1)), limit="app")
