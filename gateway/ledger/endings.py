"""The end of grants: what is dropped when one has expired, found without scanning.

Rule: no admission asks this list. A grant that has expired carries nothing more, whether its key was dropped or not.
"""

from gateway import keys
from gateway.keys import Budget
from gateway.ledger.events import Events
from gateway.store.replies import text
from gateway.store.store import Store


class Endings:
    """The list of grants by when they expire."""

    def __init__(self, store: Store, events: Events) -> None:
        self._store = store
        self._events = events

    async def expect(self, budget: Budget, *, after_ms: int) -> None:
        """Have whichever process sweeps `finish` a grant after so long. Raises Unavailable."""
        await self._store.run("index", [keys.ENDINGS], ["keep", budget.name, after_ms])

    async def ripe(self, *, most: int, lease_ms: int) -> list[Budget]:
        """Take grants that have expired; nobody else gets them for so long. Raises Unavailable."""
        names = await self._store.run("index", [keys.ENDINGS], ["look", "", lease_ms, most])
        return [Budget.parse(text(name)) for name in names]

    async def finish(self, budget: Budget) -> None:
        """Drop the funding key of a grant that has expired, and take it off the list. Safe to repeat.

        While a hold of it is open it stays listed; the settlement of the last one drops the key. Raises Unavailable.
        """
        left_ms = await self._store.run("finish", [budget.budget, budget.due, budget.events])
        if left_ms < 0:
            await self._events.look_again(budget, after_ms=0)
            await self._store.call("ZREM", keys.ENDINGS, budget.name)
        elif left_ms > 0:
            # Its own server's clock decides, not that of the list.
            await self.expect(budget, after_ms=left_ms)
