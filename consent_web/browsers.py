"""The list of browsers that are logged in to a wallet, and signing one out.

Rule: signing out another browser needs the secret: somebody with a stolen cookie must not be able to lock out the
payer, who could then no longer stop anything.
"""

from aiohttp import web

from consent_web import account, guard, proof
from consent_web.site import SITE
from gateway.errors import InvalidRequest


def routes() -> list[web.RouteDef]:
    """Return the paths of the list of browsers."""
    return [
        web.get("/browsers", show),
        web.post("/browsers/{device}/end", end),
    ]


async def show(request: web.Request) -> web.Response:
    """Answer `GET /browsers`."""
    visit = await account.owner(request)
    shown = {
        "csrf": guard.ensure_browser(request).csrf,
        "browsers": await request.app[SITE].logins.all(visit.wallet_id),
        "own": visit.device,
    }
    return guard.page(request, "browsers.html", shown)


async def end(request: web.Request) -> web.StreamResponse:
    """Answer `POST /browsers/{device}/end`: sign that browser out; its apps stay connected."""
    site = request.app[SITE]
    await guard.form_post(request)
    visit = await account.owner(request)
    if not visit.is_trusted:
        raise proof.proof_required(proof.UNPROVED)
    device = request.match_info["device"]
    if device not in {one.device for one in await site.logins.all(visit.wallet_id)}:
        raise InvalidRequest("That browser is signed out already.", status=404)
    if device == visit.device:
        await guard.sign_out(request)
    else:
        await site.logins.end(visit.wallet_id, device)
    return web.Response(status=303, headers={"Location": "/" if device == visit.device else "/browsers"})
