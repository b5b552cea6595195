"""The list of grants by expiry, so that the funding keys of expired ones can be deleted without scanning.

Rule: no admission reads this list. An expired grant is refused whether its key was deleted or not.
"""

from gateway import keys
from gateway.keys import Budget
from gateway.ledger.events import Events
from gateway.store.replies import text
from gateway.store.store import Store


class Endings:
    """The list of grants by expiry."""

    def __init__(self, store: Store, events: Events) -> None:
        self._store = store
        self._events = events

    async def expect(self, budget: Budget, *, after_ms: int) -> None:
        """Schedule `finish` of a grant, by any sweeping process, after `after_ms`. Raises Unavailable."""
        await self._store.run("index", [keys.ENDINGS], ["keep", budget.name, after_ms])

    async def take_due(self, *, most: int, lease_ms: int) -> list[Budget]:
        """Claim up to `most` expired grants for `lease_ms`. Raises Unavailable."""
        names = await self._store.run("index", [keys.ENDINGS], ["look", "", lease_ms, most])
        return [Budget.parse(text(name)) for name in names]

    async def finish(self, budget: Budget) -> None:
        """Delete the funding key of an expired grant, and unlist the grant. Safe to repeat. Raises Unavailable.

        While a hold of it is open it remains listed; the settlement of the last hold deletes the key.
        """
        left_ms = await self._store.run("finish", [budget.budget, budget.due, budget.events])
        if left_ms < 0:
            await self._events.list_again(budget, after_ms=0)
            await self._store.call("ZREM", keys.ENDINGS, budget.name)
        elif left_ms > 0:
            # The clock of the grant's own server decides, not that of the list's server.
            await self.expect(budget, after_ms=left_ms)
