"""The dashboard: this month's spend by app, funding, and stopping everything."""

from aiohttp import web

from consent_web import account, chart, guard, spending, view, waiting
from consent_web.account import Connected
from consent_web.money_text import exact, usd
from consent_web.site import SITE
from gateway.payers.connections import By


def routes() -> list[web.RouteDef]:
    """Return the dashboard's own paths."""
    return [
        web.get("/", home),
        web.get("/spend", spend),
        web.get("/stop", confirm_stop),
        web.post("/stop", stop),
        web.get("/funding", funding),
        web.get("/funding/remove", confirm_remove),
        web.post("/funding/remove", remove),
        web.get("/leave", confirm_leave),
        web.post("/leave", leave),
    ]


async def home(request: web.Request) -> web.Response:
    """Answer `GET /`."""
    site, browser = request.app[SITE], guard.ensure_browser(request)
    visit = await guard.visit(request)
    apps = await account.connections(site, visit) if visit is not None else []
    days = await account.daily_of(site, apps)
    shown = {
        "csrf": browser.csrf,
        "apps": [one for one in apps if not one.is_grant],
        "grants": [one for one in apps if one.is_grant],
        "waiting": await waiting.shown(site, visit) if visit is not None else [],
        "spent_nano": _spent(apps),
        "trend": spending.trend(days),
        "plot": chart.draw(days),
        "is_known": visit is not None,
        "is_lost_by_leaving": visit is not None and await account.is_lost_by_leaving(site, visit),
        "is_owner": visit is not None,
    }
    return guard.page(request, "home.html", shown)


async def spend(request: web.Request) -> web.Response:
    """Answer `GET /spend`: the numbers that an open dashboard polls."""
    site, visit = request.app[SITE], await account.owner(request)
    apps = await account.connections(site, visit)
    trend = spending.trend(await account.daily_of(site, apps))
    return guard.json_response(
        {
            "total": _amount(_spent(apps)),
            "today": _amount(trend.today_nano),
            "week": _amount(trend.week_nano),
            "apps": {
                one.ref: {**_amount(one.standing.spent_nano), "share": one.share, "state": one.state} for one in apps
            },
        }
    )


async def confirm_stop(request: web.Request) -> web.Response:
    """Answer `GET /stop`: ask for confirmation, listing the apps that would stop."""
    site, visit = request.app[SITE], await account.owner(request)
    living = [one for one in await account.connections(site, visit) if one.is_living]
    shown = {
        "csrf": guard.ensure_browser(request).csrf,
        "title": "Stop everything?",
        "lines": ["Each of these apps loses access at once, and answers that are being written are cut off."],
        "apps": living,
        "action": "/stop",
        "label": f"Stop {len(living)} app{'' if len(living) == 1 else 's'} now",
        "back": "/",
    }
    return guard.page(request, "confirm.html", shown)


async def stop(request: web.Request) -> web.StreamResponse:
    """Answer `POST /stop`: revoke every connection and grant, and void every pending approval."""
    site = request.app[SITE]
    await guard.form_post(request)
    visit = await account.owner(request)
    for one in await account.connections(site, visit):
        if one.is_living:
            await site.connections.revoke(one.budget, by=By.PAYER)
    await account.bar_approvals(site, visit)
    await waiting.end_all(site, visit)
    await site.wallets.cut_off(visit)
    return _redirect_to("/")


async def funding(request: web.Request) -> web.Response:
    """Answer `GET /funding`."""
    site, visit = request.app[SITE], await account.owner(request)
    held = await site.wallets.funding(visit.wallet_id)
    shown = {
        "csrf": guard.ensure_browser(request).csrf,
        "held": held,
        "facts": await view.funding(site, visit) if held else None,
        "apps": [one for one in await account.connections(site, visit) if one.is_living and not one.is_test],
        "is_owner": True,
    }
    return guard.page(request, "funding.html", shown)


async def confirm_remove(request: web.Request) -> web.Response:
    """Answer `GET /funding/remove`: ask for confirmation, listing the apps that could no longer spend."""
    site, visit = request.app[SITE], await account.owner(request)
    apps = [one for one in await account.connections(site, visit) if one.is_living and not one.is_test]
    shown = {
        "csrf": guard.ensure_browser(request).csrf,
        "title": "Remove this key?",
        "lines": [
            "It is forgotten here at once. These apps stay connected but cannot spend until you add another key.",
            "The key itself lives on at OpenRouter: only you can delete it there.",
        ],
        "apps": apps,
        "action": "/funding/remove",
        "label": "Remove the key now",
        "back": "/funding",
    }
    return guard.page(request, "confirm.html", shown)


async def remove(request: web.Request) -> web.StreamResponse:
    """Answer `POST /funding/remove`: delete the key from the wallet and its budgets, and void pending approvals."""
    await guard.form_post(request)
    visit = await account.owner(request)
    await request.app[SITE].wallets.remove_funding(visit)
    await account.bar_approvals(request.app[SITE], visit)
    return _redirect_to("/funding")


async def confirm_leave(request: web.Request) -> web.Response:
    """Answer `GET /leave`: ask for confirmation, saying what would become unreachable."""
    site, visit = request.app[SITE], await account.owner(request)
    if not await account.is_lost_by_leaving(site, visit):
        lines = ["This only signs this browser out; apps go on. You find your budget again with OpenRouter."]
    else:
        lines = [
            "Nothing could bring this budget back: you pasted its key, and no other browser is in it.",
            "These apps would go on spending, up to their caps, and you could not see or stop them here.",
            "Stop everything first, or connect OpenRouter under Funding: with that you find it again anywhere.",
        ]
    shown = {
        "csrf": guard.ensure_browser(request).csrf,
        "title": "Forget this browser?",
        "lines": lines,
        "apps": [one for one in await account.connections(site, visit) if one.is_living and not one.is_test],
        "action": "/leave",
        "label": "Forget it anyway",
        "back": "/",
    }
    return guard.page(request, "confirm.html", shown)


async def leave(request: web.Request) -> web.StreamResponse:
    """Answer `POST /leave`: sign this browser out of the wallet; nothing else changes."""
    await guard.form_post(request)
    await guard.sign_out(request)
    return _redirect_to("/")


def _spent(apps: list[Connected]) -> int:
    """Return what all live-mode budgets spent in the rolling month, in nano-USD."""
    return sum(one.standing.spent_nano for one in apps if not one.is_test)


def _amount(nano: int) -> dict[str, str]:
    return {"text": usd(nano), "exact": exact(nano)}


def _redirect_to(path: str) -> web.Response:
    """Redirect to a GET, so that a reload repeats nothing."""
    return web.Response(status=303, headers={"Location": path})
