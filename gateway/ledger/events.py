"""What apps are told of by webhook: found without scanning, taken by one sender, in order for each budget.

Rule: an event is written by the script that does what it tells of, never by itself. The list of budgets that may have
something to tell is written before, so a crash can neither lose an event nor invent one.
"""

from dataclasses import dataclass
from typing import Any

from gateway import keys
from gateway.keys import Budget
from gateway.store.replies import paired, strings, text
from gateway.store.store import Store

# The script runs within milliseconds of its announcement. One that comes later is found by the second look.
_SOON_MS = 300
# Of the events of one millisecond, as Redis numbers them.
_LAST_NUMBER = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a budget. `entry_id`: its id in the budget's stream, which starts with the time in unix ms.

    `fields`: as the script wrote them, `event` first. `tries`: how often it was tried in vain. `replayed_from`: where
    it is told again, the entry before it; else empty.
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
    """The events of every budget, and the list of budgets that may have some to tell."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # -- the list ------------------------------------------------------------------------------------------

    async def expect(self, budget: Budget) -> None:
        """Have a budget looked at in a moment: an event may be written now.

        On its way to Redis when this returns. Where the list's server is away it is kept for it: that must keep nobody
        from revoking.
        """
        await self._store.post("index", *_words(budget, after_ms=_SOON_MS))

    def note(self, budget: Budget) -> None:
        """Have a budget looked at: an event was written. Waits for nothing."""
        self._store.keep("index", *_words(budget, after_ms=0))

    async def recall(self, budget: Budget) -> None:
        """Have a budget looked at of which a settlement wrote an event: its process may have died before it said so.

        Whoever sweeps a budget asks this; whatever has open holds is swept. Raises Unavailable.
        """
        if await self._store.call("HEXISTS", budget.budget, "untold"):
            await self.look_again(budget, after_ms=0)
            await self._store.call("HDEL", budget.budget, "untold")

    async def ripe(self, shard: int, *, most: int, lease_ms: int) -> list[Budget]:
        """Take budgets whose time to be looked at has come; nobody else gets them for so long. Raises Unavailable."""
        names = await self._store.run("index", [keys.event_shard(shard)], ["look", "", lease_ms, most])
        return [Budget.parse(text(name)) for name in names]

    async def look_again(self, budget: Budget, *, after_ms: int) -> None:
        """Keep a budget on the list. Raises Unavailable."""
        await self._store.run("index", *_words(budget, after_ms=after_ms))

    async def rest(self, budget: Budget, *, lease_ms: int) -> None:
        """Note that nothing is to be told; twice, a lease apart, takes it off the list. Raises Unavailable."""
        await self._store.run("index", [budget.event_shard], ["rest", budget.name, lease_ms])

    async def count_late(self, before_ms: int) -> int:
        """Return how many budgets should have been looked at before then, in unix ms. Raises Unavailable."""
        late = 0
        for number in range(keys.EVENT_SHARDS):
            late += await self._store.call("ZCOUNT", keys.event_shard(number), "-inf", before_ms)
        return late

    # -- one budget's events -------------------------------------------------------------------------------

    async def take(self, budget: Budget, *, since_ms: int, lease_ms: int) -> Event | int | None:
        """Take the next event to tell, of those since then or that are told again; nobody else gets it for so long.

        Returns the ms to wait where another sender has it or it waits for another try; None where there is none.
        Raises Unavailable.
        """
        wait_ms, *rest = await self._store.run("next_event", [budget.events, budget.told], [since_ms, lease_ms])
        if not rest:
            return None if wait_ms < 0 else int(wait_ms)
        return _event(rest)

    async def done(self, budget: Budget, event: Event) -> None:
        """Note that an event is done with: the next one is due. Raises Unavailable."""
        await self._store.run("told", [budget.told], [event.entry_id, event.replayed_from, "", ""])

    async def put_off(self, budget: Budget, event: Event, *, after_ms: int, is_attempt: bool) -> None:
        """Note that an event is to be tried again; `is_attempt`: after it was tried in vain. Raises Unavailable."""
        words: list[str | int] = [event.entry_id, event.replayed_from, after_ms, "1" if is_attempt else ""]
        await self._store.run("told", [budget.told], words)
        await self.look_again(budget, after_ms=after_ms)

    async def following(self, budget: Budget, *, since_ms: int) -> tuple[Event, int] | None:
        """Return the event that is to be told next and how many ms until then, and take nothing; None for none.

        Raises Unavailable.
        """
        wait_ms, *rest = await self._store.run("next_event", [budget.events, budget.told], [since_ms, ""])
        return (_event(rest), max(0, wait_ms)) if rest else None

    async def replay(self, budget: Budget, entry_id: str) -> bool:
        """Have the event with that id and all that are kept of those after it told again; tell whether there is any.

        Raises Unavailable.
        """
        ms, _, number = entry_id.partition("-")
        before = f"{ms}-{int(number) - 1}" if int(number) else f"{int(ms) - 1}-{_LAST_NUMBER}"
        if not await self._store.call("XRANGE", budget.events, entry_id, "+", "COUNT", 1):
            return False
        await self._store.call("HSET", budget.told, "from", before, "next_ms", 0, "tries", 0)
        await self.look_again(budget, after_ms=0)
        return True


def _event(words: list[Any]) -> Event:
    entry_id, tries, replayed_from, *flat = words
    return Event(text(entry_id), strings(paired(flat)), tries, text(replayed_from))


def _words(budget: Budget, *, after_ms: int) -> tuple[list[str], list[str | int]]:
    return [budget.event_shard], ["keep", budget.name, after_ms]
