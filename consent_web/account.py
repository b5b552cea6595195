"""Reads a payer's connections and grants for the dashboard: app, origin, spend and state."""

import asyncio
import time
from dataclasses import dataclass

from aiohttp import web

from consent_web import guard, texts
from consent_web.site import SITE, Site
from consent_web.spending import above_holds, added
from gateway.errors import InvalidRequest
from gateway.payers.connections import Connection
from gateway.payers.logins import Visit

DAYS = 30  # the rolling month of the ledger
_DAY_SECONDS = 86_400
_STATES = {"active": "Active", "paused": "Paused", "revoked": "Stopped"}
_ENDS = {"used_up": "Used up", "expired": "Expired", "ended": "Ended"}


@dataclass(frozen=True, slots=True)
class Connected(Connection):
    """A connection or grant with its app's name, sanitised for display."""

    name: str

    @property
    def ref(self) -> str:
        """Its id in our URLs."""
        return self.account

    @property
    def requested_by(self) -> str:
        """The origin that requested it, or a phrase when there is none."""
        return self.origin or "imported by the operator"

    @property
    def is_grant(self) -> bool:
        """Whether it is a one-time grant."""
        return self.standing.uses is not None

    @property
    def requests(self) -> str:
        """How many of a grant's requests are used, as text."""
        return f"{self.standing.used} of {self.standing.uses} request{'' if self.standing.uses == 1 else 's'}"

    @property
    def state(self) -> str:
        """The state as text; a connection without a usable key says so."""
        if self.is_grant and self.standing.end:
            return _ENDS[self.standing.end]
        if self.standing.state == "active" and not self.is_test and not self.is_funded:
            return "No funding"
        if self.standing.state == "active" and self.is_refused:
            return "Key refused"
        return _STATES.get(self.standing.state, "Stopped")

    @property
    def above_holds(self) -> str:
        """What its requests cost above their holds, as text; empty if nothing."""
        return above_holds(*self.overruns)

    @property
    def share(self) -> float:
        """Spend in percent of the cap, from 0 to 100."""
        cap = self.standing.cap_nano
        return min(100.0, round(self.standing.spent_nano * 100 / cap, 2)) if cap else 0.0


async def owner(request: web.Request) -> Visit:
    """Return the browser's visit to its wallet. Raises InvalidRequest 404 without one, Unavailable."""
    visit = await guard.visit(request)
    if visit is None:
        raise InvalidRequest("This browser has no AI budget yet, or was signed out of it.", status=404)
    return visit


async def connections(site: Site, visit: Visit) -> list[Connected]:
    """Return the connections and grants of a visit's wallet: those that can spend first, then by spend.

    Raises Unavailable.
    """
    found = [await site.connections.find(budget) for budget in await site.wallets.budgets(visit)]
    # A budget that another wallet has re-approved is still listed here, but only its current payer may see it.
    mine = [await _named(site, one) for one in found if one.wallet in visit.wallet_ids]
    return sorted(mine, key=lambda one: (not one.is_living, one.is_test, -one.standing.spent_nano, one.name))


async def is_lost_by_leaving(site: Site, visit: Visit) -> bool:
    """Return whether leaving the wallet would leave apps spending that nobody could see or stop any more.

    Raises Unavailable.
    """
    if await site.wallets.is_recoverable(visit):
        return False
    return any(one.is_living and not one.is_test for one in await connections(site, visit))


async def bar_approvals(site: Site, visit: Visit) -> None:
    """Void the approvals of a visit's budgets that were not carried out yet. Raises Unavailable."""
    for budget in await site.wallets.budgets(visit):
        await site.connections.bar(budget)


async def connection(request: web.Request) -> tuple[Visit, Connected]:
    """Return the connection or grant in the path, if the visit may see it. Raises InvalidRequest 404, Unavailable."""
    site, visit = request.app[SITE], await owner(request)
    for budget in await site.wallets.budgets(visit):
        if site.connections.account(budget) == request.match_info["ref"]:
            one = await site.connections.find(budget)
            if one.wallet in visit.wallet_ids:
                return visit, await _named(site, one)
    raise InvalidRequest("There is no such app in your AI budget.", status=404)


async def daily(site: Site, one: Connection) -> list[tuple[int, int]]:
    """Return (UTC day number, nano-USD) for each day of the rolling month, oldest first. Raises Unavailable."""
    spent = await site.ledger.days(one.budget)
    today = int(time.time()) // _DAY_SECONDS
    return [(day, spent.get(day, 0)) for day in range(today - DAYS + 1, today + 1)]


async def daily_of(site: Site, many: list[Connected]) -> list[tuple[int, int]]:
    """Return the daily spend of all live-mode budgets in `many`, summed. Raises Unavailable."""
    return added(await asyncio.gather(*(daily(site, one) for one in many if not one.is_test)))


def day_ms(day: int) -> int:
    """Return the start of a UTC day in unix milliseconds."""
    return day * _DAY_SECONDS * 1000


async def _named(site: Site, one: Connection) -> Connected:
    app = await site.apps.find(one.budget.app_id)
    return Connected(one.budget, one.account, one.standing, texts.app_name(app.name if app is not None else ""))
