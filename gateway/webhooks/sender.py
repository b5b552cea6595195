"""Tells apps what happened, in order for each budget, at least once, until they have taken it or it is too old.

Runs beside every sweeper. Rule: an endpoint that is slow or away holds up nobody else: each app has a few places of its
own, and rests as a whole while everything it is sent fails.
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
# After each try in vain the next wait; the last one over and over, until the event is too old.
BACKOFF_SECONDS = (5, 30, 120, 600, 3600, 21_600)
# Long enough for a weekend; then an operator may have it told again.
PATIENCE_MS = 3 * 86_400_000
# Connections to one app at once: its users' events need no more, and a server that hangs is not flooded.
_MOST_OF_AN_APP = 4
_MOST_AT_ONCE = 200
# Budgets of one app that wait for a place here; more are left to other processes, or to later.
_MOST_WAITING = 32
_CROWDED_MS = 2000
# Of an app that fails for one user only, the others are still told. Where so many tries fail in a row it rests.
_FAILURES_TO_REST = 5
_LONGEST_REST_SECONDS = 600


class _Lane:
    """One app's share of this sender."""

    def __init__(self) -> None:
        self.room = asyncio.Semaphore(_MOST_OF_AN_APP)
        self.budgets = 0
        self.failures = 0
        self.rests_until = 0.0

    def note(self, outcome: Outcome, now: float) -> None:
        """Take down what became of a try."""
        if outcome.is_delivered:
            self.failures, self.rests_until = 0, 0.0
            return
        if now < self.rests_until:
            return  # It began before the rest did.
        self.failures += 1
        asked = outcome.retry_after_seconds or 0
        if self.failures >= _FAILURES_TO_REST:
            asked = max(asked, backoff_seconds(self.failures - _FAILURES_TO_REST))
        self.rests_until = now + min(asked, _LONGEST_REST_SECONDS)


class Sender:
    """Looks for events and tells them."""

    reached: ClassVar[Callable[[str], None]] = staticmethod(lambda _point: None)
    """Called at each named point; the crash tests set it to kill the process there."""

    def __init__(self, store: Store, events: Events, endpoints: Endpoints, delivery: Delivery) -> None:
        self._store = store
        self._events = events
        self._endpoints = endpoints
        self._delivery = delivery
        # Twice as long as one try: nobody else tries what is being tried.
        self._lease_ms = int(delivery.seconds * 2000)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._lanes: dict[str, _Lane] = {}
        self._room = asyncio.Semaphore(_MOST_AT_ONCE)

    @classmethod
    def of(cls, store: Store, events: Events, endpoints: Endpoints, settings: Settings) -> "Sender":
        """Return the sender that the settings ask for."""
        delivery = Delivery(seconds=settings.webhooks.seconds, loopback=settings.webhooks.loopback)
        return cls(store, events, endpoints, delivery)

    async def run(self) -> None:
        """Look through every shard for ever. Of several processes one tells a budget's event."""
        while True:
            for shard in random.sample(range(EVENT_SHARDS), EVENT_SHARDS):
                try:
                    for budget in await self._events.ripe(shard, most=_MOST_BUDGETS, lease_ms=self._lease_ms):
                        self.notice(budget)
                except Unavailable:
                    pass  # The others may lie on servers that answer.
                except Exception as fault:
                    log.error("webhooks_failed", error=type(fault).__name__)
            await asyncio.sleep(_LOOK_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - spreads processes out

    def notice(self, budget: Budget) -> None:
        """Tell what is to be told of one budget, unless that is being done."""
        if budget.name not in self._tasks:
            self._tasks[budget.name] = asyncio.get_running_loop().create_task(self._follow(budget))

    async def idle(self) -> None:
        """Wait until what is being told has been tried."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def close(self) -> None:
        """Stop; what is being told is given back for whoever sends next."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._delivery.close()

    async def _follow(self, budget: Budget) -> None:
        try:
            await self._tell_in_turn(budget)
        except Unavailable:
            pass  # Its place in the list is leased: it is looked at again.
        except Exception as fault:
            log.error("webhooks_failed", error=type(fault).__name__, app_id=budget.app_id)
        finally:
            del self._tasks[budget.name]

    async def _tell_in_turn(self, budget: Budget) -> None:
        lane = self._lanes.setdefault(budget.app_id, _Lane())
        if lane.budgets >= _MOST_OF_AN_APP + _MOST_WAITING:
            await self._events.look_again(budget, after_ms=_spread(_CROWDED_MS))
            return
        lane.budgets += 1
        try:
            async with lane.room, self._room:
                await self._tell(budget, lane)
        finally:
            lane.budgets -= 1
            if not lane.budgets and not lane.failures:
                self._lanes.pop(budget.app_id, None)

    async def _tell(self, budget: Budget, lane: _Lane) -> None:
        """Tell one budget's events until there is none or one fails. Raises Unavailable."""
        clock = asyncio.get_running_loop().time
        endpoint = await self._endpoints.find(budget.app_id)
        while endpoint is not None and endpoint.secrets and endpoint.gone_ms is None:
            if (rest_seconds := lane.rests_until - clock()) > 0:
                await self._events.look_again(budget, after_ms=_spread(rest_seconds * 1000))
                return
            event = await self._events.take(budget, since_ms=endpoint.since_ms, lease_ms=self._lease_ms)
            if isinstance(event, int):
                await self._events.look_again(budget, after_ms=event)
                return
            if event is None:
                break
            Sender.reached("taken")
            message = message_of(budget, self._account(budget), event)
            outcome = await self._try(budget, endpoint, event, message)
            Sender.reached("sent")
            lane.note(outcome, clock())
            if not await self._is_done(budget, endpoint, event, message, outcome):
                return
        await self._events.rest(budget, lease_ms=self._lease_ms)

    async def _try(self, budget: Budget, endpoint: Endpoint, event: Event, message: Message) -> Outcome:
        try:
            return await self._delivery.send(endpoint.url, endpoint.secrets, message)
        except asyncio.CancelledError:
            # A sender that is stopped gives it back at once.
            with contextlib.suppress(Unavailable):
                await self._events.put_off(budget, event, after_ms=0, is_attempt=False)
            raise

    async def _is_done(
        self, budget: Budget, endpoint: Endpoint, event: Event, message: Message, outcome: Outcome
    ) -> bool:
        """Note what became of a try; tell whether the next event of the budget may be told now. Raises Unavailable."""
        said = {"app_id": budget.app_id, "webhook_id": message.message_id, "type": message.event}
        if outcome.is_delivered:
            await self._events.done(budget, event)
            metrics.webhooks_of("delivered").inc()
            log.info("webhook_delivered", **said, tries=event.tries + 1)
            return True
        metrics.webhooks_of("failed").inc()
        if outcome.is_gone:
            await self._endpoints.switch_off(endpoint)
            await self._events.put_off(budget, event, after_ms=0, is_attempt=False)
            log.warning("webhook_gone", **said)
            return False
        if _now_ms() - event.at_ms >= PATIENCE_MS and event.tries:
            await self._endpoints.note_untold(
                budget.app_id, {"webhookId": message.message_id, "type": message.event, "failure": outcome.failure}
            )
            await self._events.done(budget, event)
            metrics.webhooks_of("given_up").inc()
            log.error("webhook_given_up", **said, failure=outcome.failure, tries=event.tries + 1)
            return True
        wait_ms = _spread(max(backoff_seconds(event.tries), outcome.retry_after_seconds or 0) * 1000)
        await self._events.put_off(budget, event, after_ms=wait_ms, is_attempt=True)
        log.warning("webhook_failed", **said, failure=outcome.failure, tries=event.tries + 1, wait_ms=wait_ms)
        return False

    def _account(self, budget: Budget) -> str:
        if not self._store.salt:
            raise Unavailable
        return budget.account(self._store.salt)


def backoff_seconds(tries: int) -> int:
    """Return how long to wait after so many tries in vain before the last one."""
    return BACKOFF_SECONDS[min(tries, len(BACKOFF_SECONDS) - 1)]


def _spread(ms: float) -> int:
    """Return a wait of a tenth more at most, so that what failed together does not come back together."""
    return int(ms * random.uniform(1.0, 1.1))  # noqa: S311 - no secret


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
