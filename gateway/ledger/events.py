"""Webhook events: found without scanning, taken by one sender at a time, delivered in order for each budget.

Rule: an event is written by the script that makes the change it reports, never by itself, so a crash can neither lose
one nor invent one. The budget is listed for the senders before that.
"""

from dataclasses import dataclass
from typing import Any

from gateway import keys
from gateway.keys import Budget
from gateway.ledger.backlog import count_due
from gateway.store.replies import paired, strings, text
from gateway.store.store import Store

# The script runs within milliseconds of its announcement. If it runs later, the second pass finds its event.
_SOON_MS = 300
# The highest number that Redis gives an entry within one millisecond.
_LAST_NUMBER = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a budget. `entry_id`: its id in the budget's stream, which starts with the time in unix ms.

    `fields`: as the script wrote them, `event` first. `tries`: failed attempts so far. `replayed_from`: in a replay the
    entry before it; else empty.
    """

    entry_id: str
    fields: dict[str, str]
    tries: int = 0
    replayed_from: str = ""

    @property
    def at_ms(self) -> int:
        """When it happened."""
        return int(self.entry_id.partition("-")[0])


class Events:
    """The events of every budget, and the list of budgets that may have undelivered ones."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # -- the list ------------------------------------------------------------------------------------------

    async def announce(self, budget: Budget) -> None:
        """List a budget before an event of it is written.

        Returns when the command is on its way to Redis. While the list's server is away it is kept and sent later: an
        outage there must not prevent a revocation.
        """
        await self._store.post("index", *_list_call(budget, after_ms=_SOON_MS))

    def list_now(self, budget: Budget) -> None:
        """List a budget of which an event was written; does not wait for Redis."""
        self._store.keep("index", *_list_call(budget, after_ms=0))

    async def list_unlisted(self, budget: Budget) -> None:
        """List a budget of which a settlement wrote an event: its process may have died before it did.

        The sweeper calls this: it looks at every budget that had an open hold. Raises Unavailable.
        """
        await self.list_again(budget, after_ms=0)
        await self._store.call("HDEL", budget.budget, "unlisted_events")

    async def take_due(self, shard: int, *, most: int, lease_ms: int) -> list[Budget]:
        """Take listed budgets that are due; no other process gets them for `lease_ms`. Raises Unavailable."""
        names = await self._store.run("index", [keys.event_shard(shard)], ["look", "", lease_ms, most])
        return [Budget.parse(text(name)) for name in names]

    async def list_again(self, budget: Budget, *, after_ms: int) -> None:
        """Keep a budget listed. Raises Unavailable."""
        await self._store.run("index", *_list_call(budget, after_ms=after_ms))

    async def rest(self, budget: Budget, *, lease_ms: int) -> None:
        """Note that nothing is undelivered; the second time, a lease later, unlists the budget. Raises Unavailable."""
        await self._store.run("index", [budget.event_shard], ["rest", budget.name, lease_ms])

    async def count_late(self, before_ms: int) -> int:
        """Return how many listed budgets were due before `before_ms` (unix ms). Raises Unavailable."""
        return await count_due(self._store, map(keys.event_shard, range(keys.EVENT_SHARDS)), before_ms)

    # -- one budget's events -------------------------------------------------------------------------------

    async def take(self, budget: Budget, *, since_ms: int, lease_ms: int) -> Event | int | None:
        """Take the next undelivered event since `since_ms`, or of a replay; no other sender gets it for `lease_ms`.

        Returns the ms to wait while another sender has it or its backoff lasts; None when nothing is undelivered.
        Raises Unavailable.
        """
        wait_ms, *rest = await self._store.run("next_event", [budget.events, budget.delivery], [since_ms, lease_ms])
        if not rest:
            return None if wait_ms < 0 else int(wait_ms)
        return _event(rest)

    async def finish(self, budget: Budget, event: Event) -> None:
        """Mark an event as delivered or given up: the next one is due. Raises Unavailable."""
        await self._store.run("record_delivery", [budget.delivery], [event.entry_id, event.replayed_from, "", ""])

    async def retry_later(self, budget: Budget, event: Event, *, after_ms: int, is_attempt: bool) -> None:
        """Schedule another attempt; `is_attempt`: count the last one as failed. Raises Unavailable."""
        args: list[str | int] = [event.entry_id, event.replayed_from, after_ms, "1" if is_attempt else ""]
        await self._store.run("record_delivery", [budget.delivery], args)
        await self.list_again(budget, after_ms=after_ms)

    async def newest(self, budget: Budget) -> str | None:
        """Return the id of the last event's entry; None without any. Raises Unavailable."""
        found = await self._store.call("XREVRANGE", budget.events, "+", "-", "COUNT", 1)
        return text(found[0][0]) if found else None

    async def drop(self, budget: Budget, entry_id: str) -> None:
        """Delete the events up to that entry undelivered. Raises Unavailable."""
        await self._store.run("drop_events", [budget.events, budget.delivery], [entry_id])

    async def peek(self, budget: Budget, *, since_ms: int) -> tuple[Event, int] | None:
        """Return the next undelivered event and how many ms until it is due, without taking it; None without any.

        Raises Unavailable.
        """
        wait_ms, *rest = await self._store.run("next_event", [budget.events, budget.delivery], [since_ms, ""])
        return (_event(rest), max(0, wait_ms)) if rest else None

    async def replay(self, budget: Budget, entry_id: str) -> bool:
        """Deliver the events from that entry on again, as far as they are kept; return whether there are any.

        Raises Unavailable.
        """
        ms, _, number = entry_id.partition("-")
        before = f"{ms}-{int(number) - 1}" if int(number) else f"{int(ms) - 1}-{_LAST_NUMBER}"
        if not await self._store.call("XRANGE", budget.events, entry_id, "+", "COUNT", 1):
            return False
        await self._store.call("HSET", budget.delivery, "from", before, "next_ms", 0, "tries", 0)
        await self.list_again(budget, after_ms=0)
        return True


def _event(fields: list[Any]) -> Event:
    entry_id, tries, replayed_from, *flat = fields
    return Event(text(entry_id), strings(paired(flat)), tries, text(replayed_from))


def _list_call(budget: Budget, *, after_ms: int) -> tuple[list[str], list[str | int]]:
    return [budget.event_shard], ["keep", budget.name, after_ms]
