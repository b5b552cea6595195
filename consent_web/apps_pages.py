"""An app's page: cap, days, requests and consent history; pause, resume, revoke, export.

Rule: lowering a cap, pausing and revoking take effect with one POST. Raising asks for confirmation first.
"""

import csv
import io
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import orjson
from aiohttp import web

from consent_web import account, chart, guard, history, passkeys, proof, spending
from consent_web.account import Connected
from consent_web.money_text import CapRefused, cap_from_text, cap_text, exact
from consent_web.site import SITE, Site
from gateway.errors import ConsentRequired, InvalidRequest
from gateway.payers.connections import By
from gateway.payers.logins import Visit

_SHOWN_REQUESTS = 100  # more than a person reads; the exports have all
# For spend by model. About 300 kB from Redis; with more requests the page says that only the newest were counted.
_COUNTED_REQUESTS = 1000
_CSV_FIELDS = (
    "request_id", "admitted", "model", "status", "cost_usd", "prompt_tokens", "completion_tokens", "generation_id",
    "ended_by", "overrun_usd",
)  # fmt: skip
_HISTORY_FIELDS = ("at", "event", "by", "words", "cap_nano", "sha256")

# Fullwidth forms too: some spreadsheets treat them like the ASCII ones.
_FORMULA_SIGNS = set("=+-@\uff1d\uff0b\uff0d\uff20")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def routes() -> list[web.RouteDef]:
    """Return the paths of one app."""
    return [
        web.get("/apps/{ref}", show),
        web.post("/apps/{ref}/cap", set_cap),
        web.post("/apps/{ref}/pause", pause),
        web.post("/apps/{ref}/resume", resume),
        web.get("/apps/{ref}/revoke", confirm_revoke),
        web.post("/apps/{ref}/revoke", revoke),
        web.get("/apps/{ref}/export.csv", export_csv),
        web.get("/apps/{ref}/export.json", export_json),
        web.get("/apps/{ref}/history.csv", history_csv),
    ]


async def show(request: web.Request) -> web.Response:
    """Answer `GET /apps/{ref}`."""
    _, one = await account.connection(request)
    return await _page(request, one)


async def set_cap(request: web.Request) -> web.StreamResponse:
    """Answer `POST /apps/{ref}/cap`: `monthly_usd`, and for a raise `confirmed` with the same amount in nano-USD."""
    site = request.app[SITE]
    fields = await guard.form_post(request)
    visit, one = await _find_connection(request)
    typed, now = fields.get("monthly_usd", ""), one.standing.cap_nano
    try:
        cap_nano = cap_from_text(typed, requested_nano=None)
    except CapRefused as refused:
        return await _page(request, one, typed=typed, fault=str(refused), status=422)
    if now is not None and cap_nano > now and fields.get("confirmed") != str(cap_nano):
        return _confirm_raise(request, one, typed, cap_nano)
    if now is not None and cap_nano > now and not one.is_test:
        try:
            async with proof.permit_raise(site, visit, one, cap_nano):
                await site.connections.set_cap(one.budget, cap_nano)
        except ConsentRequired as refused:
            return await _request_proof(request, visit, one, refused.message)
    else:
        await site.connections.set_cap(one.budget, cap_nano)
    return _back(one)


async def pause(request: web.Request) -> web.StreamResponse:
    """Answer `POST /apps/{ref}/pause`: no request is admitted any more when it answers."""
    return await _change(request, "pause")


async def resume(request: web.Request) -> web.StreamResponse:
    """Answer `POST /apps/{ref}/resume`."""
    return await _change(request, "resume")


async def confirm_revoke(request: web.Request) -> web.Response:
    """Answer `GET /apps/{ref}/revoke`: the first of two clicks."""
    _, one = await account.connection(request)
    shown = {
        "csrf": guard.ensure_browser(request).csrf,
        "title": f"Stop {one.name}?",
        "lines": [
            "It loses access at once, and an answer that is being written is cut off.",
            "What it spent stays on your record."
            + ("" if one.is_grant else " To let it in again, connect again from the app."),
        ],
        "apps": [one],
        "action": f"/apps/{one.ref}/revoke",
        "label": "Stop it now",
        "back": f"/apps/{one.ref}",
    }
    return guard.page(request, "confirm.html", shown)


async def revoke(request: web.Request) -> web.StreamResponse:
    """Answer `POST /apps/{ref}/revoke`: the budget is revoked in every process when it answers."""
    return await _change(request, "revoke")


async def export_csv(request: web.Request) -> web.Response:
    """Answer `GET /apps/{ref}/export.csv`: every request of the ledger, newest first, amounts exact."""
    _, one = await account.connection(request)
    return _csv(_CSV_FIELDS, await _requests(request.app[SITE], one))


async def history_csv(request: web.Request) -> web.Response:
    """Answer `GET /apps/{ref}/history.csv`: the consent history as sentences, newest first."""
    _, one = await account.connection(request)
    receipts = await history.read(request.app[SITE], one)
    return _csv(_HISTORY_FIELDS, [{"at": _iso(receipt["at_ms"]), **receipt} for receipt in receipts])


async def export_json(request: web.Request) -> web.Response:
    """Answer `GET /apps/{ref}/export.json`: requests, days and consent history."""
    site = request.app[SITE]
    _, one = await account.connection(request)
    cap = one.standing.cap_nano
    body = {
        "app": one.name,
        "origin": one.requested_by,
        "mode": one.budget.mode,
        "state": one.standing.state,
        "capUsd": None if cap is None else exact(cap),
        "spentUsd": exact(one.standing.spent_nano),
        "days": [{"day": bar.day, "usd": exact(bar.nano)} for bar in chart.draw(await account.daily(site, one)).bars],
        "requests": await _requests(site, one),
        "history": await history.read(site, one),
    }
    return _download(orjson.dumps(body, option=orjson.OPT_INDENT_2), "application/json", "json")


async def _page(
    request: web.Request, one: Connected, *, typed: str | None = None, fault: str = "", status: int = 200
) -> web.Response:
    site = request.app[SITE]
    cap = one.standing.cap_nano
    entries = await site.ledger.entries(one.budget, newest_first=True, most=_COUNTED_REQUESTS)
    days = await account.daily(site, one)
    shown = {
        "csrf": guard.ensure_browser(request).csrf,
        "one": one,
        "typed": typed if typed is not None else "" if cap is None else cap_text(cap).removeprefix("$"),
        "fault": fault,
        "plot": chart.draw(days),
        "trend": spending.trend(days),
        "models": spending.models(_of_window(entries, days[0][0])),
        "requests": [{**_line(entry), **spending.result(entry)} for entry in entries[:_SHOWN_REQUESTS]],
        "counted": len(entries) if len(entries) == _COUNTED_REQUESTS else 0,
        "is_cut": len(entries) > _SHOWN_REQUESTS,
        "history": await history.read(site, one),
    }
    return guard.page(request, "app.html", shown, status=status)


async def _find_connection(request: web.Request) -> tuple[Visit, Connected]:
    """Return the connection in the path. Raises InvalidRequest 404 for a grant, which can only be ended."""
    visit, one = await account.connection(request)
    if one.is_grant:
        raise InvalidRequest("A one-time grant can be ended, and not be changed.", status=404)
    return visit, one


async def _change(request: web.Request, verb: str) -> web.StreamResponse:
    connections = request.app[SITE].connections
    await guard.form_post(request)
    visit, one = await (account.connection(request) if verb == "revoke" else _find_connection(request))
    if verb == "resume" and not one.is_test and not visit.is_trusted:
        # Resuming raises possible spend; the other verbs lower it.
        return await _request_proof(request, visit, one, proof.UNPROVED)
    act: dict[str, Callable[..., Awaitable[None]]] = {
        "pause": connections.pause,
        "resume": connections.resume,
        "revoke": partial(connections.revoke, by=By.PAYER),
    }
    if one.is_living:
        await act[verb](one.budget)
    return _back(one)


async def _request_proof(request: web.Request, visit: Visit, one: Connected, why: str) -> web.Response:
    shown = {
        "message": why,
        "back": f"/apps/{one.ref}",
        "csrf": guard.ensure_browser(request).csrf,
        "has_passkey": await passkeys.are_set_up(request.app[SITE], visit),
    }
    return guard.page(request, "prove.html", shown, status=403)


def _confirm_raise(request: web.Request, one: Connected, typed: str, cap_nano: int) -> web.Response:
    now = one.standing.cap_nano or 0
    shown = {
        "csrf": guard.ensure_browser(request).csrf,
        "title": f"Raise the cap to {cap_text(cap_nano)}?",
        "lines": [f"{one.name} may then spend up to {cap_text(cap_nano)} in 30 days instead of {cap_text(now)}."],
        "apps": [one],
        "action": f"/apps/{one.ref}/cap",
        "label": f"Raise to {cap_text(cap_nano)}",
        "fields": {"monthly_usd": typed, "confirmed": str(cap_nano)},
        "back": f"/apps/{one.ref}",
        "tone": "act",
    }
    return guard.page(request, "confirm.html", shown)


async def _requests(site: Site, one: Connected) -> list[dict[str, str]]:
    """Return the ledger's entries in the form of the page and the exports, newest first."""
    return [_line(entry) for entry in await site.ledger.entries(one.budget, newest_first=True)]


def _of_window(entries: list[dict[str, str]], first_day: int) -> list[dict[str, str]]:
    """Return the entries of the rolling month, which starts at `first_day` (UTC day number)."""
    return [entry for entry in entries if int(entry["day"]) >= first_day]


def _line(entry: dict[str, str]) -> dict[str, str]:
    kept = (
        "request_id",
        "admitted_ms",
        "model",
        "status",
        "prompt_tokens",
        "completion_tokens",
        "generation_id",
        "ended_by",
    )
    return {
        **{name: entry[name] for name in kept},
        "admitted": _iso(entry["admitted_ms"]),
        "cost_nano": entry["delta_nano"],
        "cost_usd": _signed(int(entry["delta_nano"])),
        "overrun_usd": exact(int(entry["overrun_nano"])),
    }


def _signed(nano: int) -> str:
    """Return an exact amount with its sign: the correction of an estimate may be negative."""
    return exact(nano) if nano >= 0 else f"-{exact(-nano)}"


def _iso(ms: str) -> str:
    return datetime.fromtimestamp(int(ms) / 1000, UTC).isoformat(timespec="milliseconds")


def _escape_formula(cell: str) -> str:
    """Quote a cell that a spreadsheet would run as a formula: model names, for example, come from the app.

    A minus starts a formula too, unless the whole cell is a number. Some programs skip leading blanks.
    """
    is_formula = cell.lstrip()[:1] in _FORMULA_SIGNS or cell[:1] in {"\t", "\r", "\n"}
    return f"'{cell}" if is_formula and not _NUMBER.fullmatch(cell) else cell


def _csv(fields: tuple[str, ...], lines: list[dict[str, str]]) -> web.Response:
    written = io.StringIO()
    table = csv.DictWriter(written, fields, extrasaction="ignore")
    table.writeheader()
    for line in lines:
        table.writerow({name: _escape_formula(value) for name, value in line.items()})
    return _download(written.getvalue().encode(), "text/csv", "csv")


def _download(body: bytes, content_type: str, ending: str) -> web.Response:
    headers = {"Content-Disposition": f'attachment; filename="ai-budget.{ending}"', "Cache-Control": "no-store"}
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)


def _back(one: Connected) -> web.Response:
    return web.Response(status=303, headers={"Location": f"/apps/{one.ref}"})
