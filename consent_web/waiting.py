"""Redirect-mode approvals that await redemption by their app: listed on the dashboard, where they can be ended.

Rule: payers can see and stop whatever they approved, even before it has become a connection.
"""

import asyncio
from dataclasses import dataclass

from aiohttp import web

from consent_web import account, guard, texts
from consent_web.money_text import cap_text
from consent_web.site import SITE, Site
from gateway.errors import InvalidRequest
from gateway.payers.consent_request import Attempt
from gateway.payers.logins import Visit


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """One pending approval. `until_ms`: when it expires, in unix milliseconds."""

    attempt_id: str
    name: str
    return_url: str
    cap: str
    until_ms: int


def routes() -> list[web.RouteDef]:
    """Return the paths of pending approvals."""
    return [web.post("/waiting/{attempt}/end", end)]


async def shown(site: Site, visit: Visit) -> list[PendingApproval]:
    """Return a wallet's pending approvals for display. Raises Unavailable."""
    return [await _named(site, attempt) for attempt in await held(site, visit)]


async def end(request: web.Request) -> web.StreamResponse:
    """Answer `POST /waiting/{attempt}/end`: cancel it, so that it cannot be redeemed."""
    site = request.app[SITE]
    await guard.form_post(request)
    visit = await account.owner(request)
    wanted = request.match_info["attempt"]
    attempt = await site.attempts.held(wanted) if wanted in await site.wallets.waiting(visit) else None
    if attempt is None:
        raise InvalidRequest("Nothing waits under this address any more. Your apps show what is connected.", status=404)
    await _end(site, visit, attempt)
    return web.Response(status=303, headers={"Location": "/"})


async def end_all(site: Site, visit: Visit) -> None:
    """Cancel every pending approval of a wallet. Raises Unavailable."""
    for attempt in await held(site, visit):
        await _end(site, visit, attempt)


async def _end(site: Site, visit: Visit, attempt: Attempt) -> None:
    await site.attempts.deny(attempt)
    await site.wallets.stop_waiting(visit, attempt.attempt_id)


async def held(site: Site, visit: Visit) -> list[Attempt]:
    """Return a wallet's attempts that await redemption. Raises Unavailable."""
    found = await asyncio.gather(*(site.attempts.held(each) for each in await site.wallets.waiting(visit)))
    return [attempt for attempt in found if attempt is not None]


async def _named(site: Site, attempt: Attempt) -> PendingApproval:
    requested, cap_nano = attempt.requested, attempt.decision["cap_nano"]
    app = await site.apps.find(requested.app_id)
    return PendingApproval(
        attempt.attempt_id,
        texts.app_name(app.name if app is not None else ""),
        requested.return_url,
        cap_text(int(cap_nano)) if cap_nano else "no cap",
        attempt.expires_ms,
    )
