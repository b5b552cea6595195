"""What a wallet's owner sees: each connection with its app, its origin, its spend and its state."""

import time
from dataclasses import dataclass

from aiohttp import web

from consent_web import guard, texts
from consent_web.site import SITE, Site
from gateway.errors import InvalidRequest
from gateway.keys import Budget
from gateway.ledger.holds import Standing
from gateway.payers.wallets import Visit

DAYS = 30
_DAY_SECONDS = 86_400
_STATES = {"active": "Active", "paused": "Paused", "revoked": "Stopped"}
LIVING = frozenset({"active", "paused"})


@dataclass(frozen=True, slots=True)
class Connected:
    """One connection as its payer sees it. `ref` names it in our URLs and says nothing to anyone else."""

    ref: str
    budget: Budget
    name: str
    origin: str
    standing: Standing

    @property
    def is_test(self) -> bool:
        """Whether it can never cost anything."""
        return self.budget.mode == "test"

    @property
    def is_living(self) -> bool:
        """Whether it can spend, now or after a resume."""
        return self.standing.state in LIVING

    @property
    def state(self) -> str:
        """The state in words; a connection without a usable key says so."""
        fields = self.standing.fields
        if self.standing.state == "active" and not self.is_test and not fields.get("funding"):
            return "No funding"
        if self.standing.state == "active" and fields.get("funding_refused") == b"1":
            return "Key refused"
        return _STATES.get(self.standing.state, "Stopped")

    @property
    def share(self) -> float:
        """How much of the cap is spent, from 0 to 100."""
        cap = self.standing.cap_nano
        return min(100.0, round(self.standing.spent_nano * 100 / cap, 2)) if cap else 0.0

    @property
    def used_ms(self) -> int:
        """When a request was last let through, in unix milliseconds; 0 for never."""
        return int(self.standing.fields.get("used_ms", 0))

    @property
    def connected_ms(self) -> int:
        """When it was last approved, in unix milliseconds."""
        return int(self.standing.fields.get("connected_ms", 0))


async def owner(request: web.Request) -> Visit:
    """Return the stay in a wallet. Raises InvalidRequest 404: without one there is nothing here to see."""
    stay = await guard.visit(request)
    if stay is None:
        raise InvalidRequest("This browser has no AI budget yet, or was signed out of it.", status=404)
    return stay


async def connections(site: Site, stay: Visit) -> list[Connected]:
    """Return the stay's connections: those that can spend first, then by spend. Raises Unavailable."""
    found = [await _connected(site, budget) for budget in await site.wallets.budgets(stay)]
    # A connection that another wallet took over since is that one's to see.
    mine = [one for one in found if one.standing.fields.get("wallet") == stay.wallet_id.encode()]
    return sorted(mine, key=lambda one: (not one.is_living, one.is_test, -one.standing.spent_nano, one.name))


async def bar(site: Site, stay: Visit) -> None:
    """Let no approval of this stay that waits for its app become a connection. Raises Unavailable."""
    for budget in await site.wallets.budgets(stay):
        await site.connections.bar(budget)


async def connection(request: web.Request) -> tuple[Visit, Connected]:
    """Return the connection that the path names, if it is the stay's own. Raises InvalidRequest 404, Unavailable."""
    site, stay = request.app[SITE], await owner(request)
    for budget in await site.wallets.budgets(stay):
        if budget.account(site.store.salt) == request.match_info["ref"]:
            one = await _connected(site, budget)
            if one.standing.fields.get("wallet") == stay.wallet_id.encode():
                return stay, one
    raise InvalidRequest("There is no such app in your AI budget.", status=404)


async def daily(site: Site, budget: Budget) -> list[tuple[int, int]]:
    """Return (UTC day number, nano-USD) for each day of the rolling month, oldest first. Raises Unavailable."""
    spent = await site.ledger.days(budget)
    today = int(time.time()) // _DAY_SECONDS
    return [(day, spent.get(day, 0)) for day in range(today - DAYS + 1, today + 1)]


def day_ms(day: int) -> int:
    """Return when a UTC day began, in unix milliseconds."""
    return day * _DAY_SECONDS * 1000


async def _connected(site: Site, budget: Budget) -> Connected:
    standing = await site.ledger.standing(budget)
    app = await site.apps.find(budget.app_id)
    return Connected(
        ref=budget.account(site.store.salt),
        budget=budget,
        name=texts.app_name(app.name if app is not None else ""),
        origin=standing.fields.get("origin", b"").decode() or "imported by the operator",
        standing=standing,
    )
