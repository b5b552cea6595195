"""Delivers webhook events: at least once, in order for each budget, with backoff until an event is three days old.

Runs beside every sweeper. Rule: a slow or failing endpoint delays no other app's events: each app has a few concurrent
requests of its own, and pauses as a whole while all of them fail.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import ClassVar

from gateway import metrics
from gateway.errors import Unavailable
from gateway.keys import EVENT_SHARDS, Budget
from gateway.ledger.events import Event, Events
from gateway.logs import log
from gateway.settings import Settings
from gateway.store.store import Store
from gateway.webhooks.delivery import Delivery, Outcome
from gateway.webhooks.endpoints import Endpoint, Endpoints
from gateway.webhooks.messages import Message, message_of

_LOOK_SECONDS = 1.0
_MOST_BUDGETS = 100
# The wait after each failed attempt; the last one repeats until the event is too old.
BACKOFF_SECONDS = (5, 30, 120, 600, 3600, 21_600)
# Outlasts a weekend. An operator can replay older events.
PATIENCE_MS = 3 * 86_400_000
# Concurrent requests to one app: enough for its users' events, and no flood for a server that hangs.
_MOST_OF_AN_APP = 4
_MOST_AT_ONCE = 200
# Events of one budget that are sent in a row before another budget of the app gets the slot, as in a replay.
_MOST_IN_A_ROW = 20
# Budgets of one app that wait for a slot in this process; more are left to other processes, or to later.
_MOST_WAITING = 32
_CROWDED_MS = 2000
# One user's event that an app refuses must not delay the others. Only so many failures in a row pause the app.
_FAILURES_TO_PAUSE = 5
_LONGEST_PAUSE_SECONDS = 600


class _AppState:
    """What this process knows of one app's endpoint, and its slots for concurrent requests."""

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(_MOST_OF_AN_APP)
        self.budgets = 0
        self.attempts = 0
        self.failures = 0
        self.paused_until = 0.0

    @property
    def is_failing(self) -> bool:
        """Whether so many attempts failed in a row that the app pauses, and one attempt at a time follows."""
        return self.failures >= _FAILURES_TO_PAUSE

    def note(self, outcome: Outcome, now: float) -> None:
        """Record the outcome of an attempt."""
        if outcome.is_delivered:
            self.failures, self.paused_until = 0, 0.0
            return
        if now < self.paused_until:
            return  # The attempt began before the pause.
        self.failures += 1
        asked = outcome.retry_after_seconds or 0
        if self.is_failing:
            asked = max(asked, backoff_seconds(self.failures - _FAILURES_TO_PAUSE))
        self.paused_until = now + min(asked, _LONGEST_PAUSE_SECONDS)


class Sender:
    """Finds undelivered events and delivers them."""

    reached: ClassVar[Callable[[str], None]] = staticmethod(lambda _point: None)
    """Called at each named point; the crash tests set it to kill the process there."""

    def __init__(
        self,
        store: Store,
        events: Events,
        endpoints: Endpoints,
        delivery: Delivery,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._endpoints = endpoints
        self._delivery = delivery
        # Longer than one attempt takes, so that no other process makes the same one.
        self._lease_ms = int(delivery.seconds * 2000)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._apps: dict[str, _AppState] = {}
        self._slots = asyncio.Semaphore(_MOST_AT_ONCE)

    @classmethod
    def of(cls, store: Store, events: Events, endpoints: Endpoints, settings: Settings) -> "Sender":
        """Return the sender that the settings ask for."""
        delivery = Delivery(seconds=settings.webhooks.seconds, loopback=settings.webhooks.loopback)
        return cls(store, events, endpoints, delivery)

    async def run(self) -> None:
        """Look through every shard for ever. Of several processes one takes a budget."""
        while True:
            for shard in random.sample(range(EVENT_SHARDS), EVENT_SHARDS):
                try:
                    for budget in await self._events.take_due(shard, most=_MOST_BUDGETS, lease_ms=self._lease_ms):
                        self.notice(budget)
                except Unavailable:
                    pass  # Other shards may be on servers that answer.
                except Exception as fault:
                    log.error("webhooks_failed", error=type(fault).__name__)
            await asyncio.sleep(_LOOK_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - spreads processes out

    def notice(self, budget: Budget) -> None:
        """Deliver the events of one budget, unless that is under way."""
        if budget.name not in self._tasks:
            self._tasks[budget.name] = asyncio.get_running_loop().create_task(self._follow(budget))

    async def idle(self, *budgets: Budget) -> None:
        """Wait until what is under way for these budgets, or for all, has been attempted."""
        names = {budget.name for budget in budgets} or set(self._tasks)
        await asyncio.gather(*(task for name, task in self._tasks.items() if name in names), return_exceptions=True)

    async def close(self) -> None:
        """Stop; events under way are released to other senders."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._delivery.close()

    async def _follow(self, budget: Budget) -> None:
        try:
            await self._deliver_in_turn(budget)
        except Unavailable:
            pass  # The budget stays listed and is due again after the lease.
        except Exception as fault:
            log.error("webhooks_failed", error=type(fault).__name__, app_id=budget.app_id)
        finally:
            del self._tasks[budget.name]

    async def _deliver_in_turn(self, budget: Budget) -> None:
        state = self._apps.setdefault(budget.app_id, _AppState())
        if state.budgets >= _MOST_OF_AN_APP + _MOST_WAITING:
            await self._events.list_again(budget, after_ms=_spread(_CROWDED_MS))
            return
        state.budgets += 1
        try:
            async with state.slots, self._slots:
                await self._deliver(budget, state)
        finally:
            state.budgets -= 1
            if not state.budgets and not state.failures:
                self._apps.pop(budget.app_id, None)

    async def _deliver(self, budget: Budget, state: _AppState) -> None:
        """Deliver the events of one budget until none is left or an attempt fails. Raises Unavailable."""
        for _ in range(_MOST_IN_A_ROW):
            endpoint = await self._endpoints.find(budget.app_id) or await self._drop_unwanted(budget)
            if endpoint is None or not endpoint.secrets or endpoint.gone_ms is not None:
                await self._events.rest(budget, lease_ms=self._lease_ms)
                return
            if (pause_seconds := state.paused_until - self._clock()) > 0:
                await self._events.list_again(budget, after_ms=_spread(pause_seconds * 1000))
                return
            if state.is_failing and state.attempts:
                await self._events.list_again(budget, after_ms=_spread(_CROWDED_MS))
                return
            state.attempts += 1
            try:
                is_next_due = await self._deliver_next(budget, endpoint, state)
            finally:
                state.attempts -= 1
            if not is_next_due:
                return
        await self._events.list_again(budget, after_ms=0)

    async def _deliver_next(self, budget: Budget, endpoint: Endpoint, state: _AppState) -> bool:
        """Attempt the next event; return whether another may follow at once. Raises Unavailable."""
        event = await self._events.take(budget, since_ms=endpoint.since_ms, lease_ms=self._lease_ms)
        if event is None:
            await self._events.rest(budget, lease_ms=self._lease_ms)
            return False
        if isinstance(event, int):
            await self._events.list_again(budget, after_ms=event)
            return False
        Sender.reached("taken")
        message = message_of(budget, self._account(budget), event)
        outcome = await self._attempt(budget, endpoint, event, message)
        Sender.reached("sent")
        state.note(outcome, self._clock())
        return await self._is_done(budget, endpoint, event, message, outcome)

    async def _drop_unwanted(self, budget: Budget) -> Endpoint | None:
        """Drop the events of an app without an endpoint; return the endpoint if one was set meanwhile.

        Raises Unavailable.
        """
        newest = await self._events.newest(budget)
        # Read again: only events that were there before this are dropped, so none since an endpoint was set.
        endpoint = await self._endpoints.find(budget.app_id)
        if endpoint is None and newest is not None:
            await self._events.drop(budget, newest)
        return endpoint

    async def _attempt(self, budget: Budget, endpoint: Endpoint, event: Event, message: Message) -> Outcome:
        try:
            return await self._delivery.send(endpoint.url, endpoint.secrets, message)
        except asyncio.CancelledError:
            # Other senders need not wait for the lease.
            with contextlib.suppress(Unavailable):
                await self._events.retry_later(budget, event, after_ms=0, is_attempt=False)
            raise

    async def _is_done(
        self, budget: Budget, endpoint: Endpoint, event: Event, message: Message, outcome: Outcome
    ) -> bool:
        """Record the outcome of an attempt; return whether the budget's next event may be sent. Raises Unavailable."""
        said = {"app_id": budget.app_id, "webhook_id": message.message_id, "type": message.event}
        if outcome.is_delivered:
            await self._events.finish(budget, event)
            metrics.webhooks_of("delivered").inc()
            log.info("webhook_delivered", **said, tries=event.tries + 1)
            return True
        metrics.webhooks_of("failed").inc()
        if outcome.is_gone:
            await self._endpoints.disable(endpoint)
            await self._events.retry_later(budget, event, after_ms=0, is_attempt=False)
            log.warning("webhook_gone", **said)
            return False
        if _now_ms() - event.at_ms >= PATIENCE_MS and event.tries:
            await self._endpoints.note_undelivered(
                budget.app_id, {"webhookId": message.message_id, "type": message.event, "failure": outcome.failure}
            )
            await self._events.finish(budget, event)
            metrics.webhooks_of("given_up").inc()
            log.error("webhook_given_up", **said, failure=outcome.failure, tries=event.tries + 1)
            return True
        wait_ms = _spread(max(backoff_seconds(event.tries), outcome.retry_after_seconds or 0) * 1000)
        await self._events.retry_later(budget, event, after_ms=wait_ms, is_attempt=True)
        log.warning("webhook_failed", **said, failure=outcome.failure, tries=event.tries + 1, wait_ms=wait_ms)
        return False

    def _account(self, budget: Budget) -> str:
        if not self._store.salt:
            raise Unavailable
        return budget.account(self._store.salt)


def backoff_seconds(tries: int) -> int:
    """Return the wait after a failed attempt that `tries` others preceded."""
    return BACKOFF_SECONDS[min(tries, len(BACKOFF_SECONDS) - 1)]


def _spread(ms: float) -> int:
    """Return a wait up to a tenth longer, so that events which failed together are not retried together."""
    return int(ms * random.uniform(1.0, 1.1))  # noqa: S311 - no secret


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
