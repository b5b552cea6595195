"""Funding: a pasted key, or an authorization at OpenRouter in a window of its own.

Rule: the key is checked, sealed and never shown again but for its last four characters.
Rule: what comes back from OpenRouter counts only with our state in its path, in the browser that started it, and once.
The callback page itself changes nothing: its script posts what it was given.
"""

import re

from aiohttp import web

from consent_web import guard, view
from consent_web.openrouter import CodeRefused
from consent_web.popup import found
from consent_web.site import SITE, Site
from gateway.errors import FundingInvalid, InvalidRequest, UpstreamError, WattfareError
from gateway.payers.attempts import Attempt
from gateway.payers.authorizations import Authorization

_STATE = re.compile(r"[A-Za-z0-9_-]{43}")
_CODE = re.compile(r"[!-~]{1,512}")
_PASTED = re.compile(r"sk-or-[A-Za-z0-9._-]{8,256}")
_ATTEMPT = re.compile(r"[0-9a-f]{64}")


def routes() -> list[web.RouteDef]:
    """Return the paths of funding."""
    return [
        web.get("/fund/start", start_page),
        web.post("/fund/start", start),
        web.get("/fund/callback/{state}", callback_page),
        web.post("/fund/finish", finish),
        web.post("/fund/key", paste_into_wallet),
        web.post("/consent/attempts/{attempt}/key", paste),
        web.post("/consent/attempts/{attempt}/wallet", change_wallet),
    ]


async def start_page(request: web.Request) -> web.Response:
    """Answer `GET /fund/start#attempt`: a page whose script asks for OpenRouter's URL and goes there."""
    csrf = guard.known_browser(request).csrf
    return guard.page(request, "fund.html", {"step": "start", "csrf": csrf})


async def start(request: web.Request) -> web.Response:
    """Answer `POST /fund/start`: `{attempt?}` → `{url}`."""
    site = request.app[SITE]
    browser, body = await guard.json_post(request)
    await site.limits.admit_authorization(browser.digest)
    attempt_id = body.get("attempt") or ""
    if not isinstance(attempt_id, str) or (attempt_id and not _ATTEMPT.fullmatch(attempt_id)):
        raise InvalidRequest("This window was opened without a request. Start again from the app.")
    if attempt_id:
        if await site.attempts.find(attempt_id, browser.digest) is None:
            raise InvalidRequest("This request was opened in another browser.", status=403)
        await site.attempts.note_fault(attempt_id, "")
    begun = await site.authorizations.begin(browser.digest, attempt_id)
    url = site.openrouter.authorize_url(f"{site.origin}/fund/callback/{begun.state}", begun.verifier)
    return guard.json_response({"url": url})


async def callback_page(request: web.Request) -> web.Response:
    """Answer `GET /fund/callback/{state}?code=`: the same page for every state, right or wrong."""
    csrf = guard.known_browser(request).csrf
    return guard.page(request, "fund.html", {"step": "callback", "csrf": csrf})


async def finish(request: web.Request) -> web.Response:
    """Answer `POST /fund/finish`: `{state, code}` or `{state, error}` → `{attempt}`. The state works once."""
    site = request.app[SITE]
    browser, body = await guard.json_post(request)
    state, code = body.get("state"), body.get("code")
    is_state = isinstance(state, str) and _STATE.fullmatch(state)
    begun = await site.authorizations.take(str(state), browser.digest) if is_state else None
    if begun is None:
        raise InvalidRequest(
            "This authorization was not started in this browser, or was used before. Start again.",
            fields={"reason": "state"},
        )
    attempt_id = begun.attempt
    try:
        if not isinstance(code, str) or not _CODE.fullmatch(code):
            raise _fault("denied", "OpenRouter did not give a key. Nothing was changed.")
        response = await _exchange(request, code, begun)
    except WattfareError as refused:
        if attempt_id:
            await site.attempts.note_fault(attempt_id, str(refused.fields.get("reason", "failed")))
        raise
    if attempt_id:
        await site.attempts.note_fault(attempt_id, "done")
    return response


async def paste(request: web.Request) -> web.Response:
    """Answer `POST /consent/attempts/{attempt}/key`: `{key}` → `{funding}`."""
    site = request.app[SITE]
    _, body = await guard.json_post(request)
    _, attempt = await found(request)
    _still_open(attempt)
    return await _paste(request, site, body, attempt.attempt_id)


async def paste_into_wallet(request: web.Request) -> web.Response:
    """Answer `POST /fund/key`: `{key}` → `{funding}`, from the dashboard."""
    site = request.app[SITE]
    browser, body = await guard.json_post(request)
    return await _paste(request, site, body, browser.digest)


async def change_wallet(request: web.Request) -> web.Response:
    """Answer `POST /consent/attempts/{attempt}/wallet` (“Not you?”): this browser leaves its wallet."""
    site = request.app[SITE]
    await guard.json_post(request)
    await found(request)
    visit = await guard.visit(request)
    if visit is not None:
        await site.wallets.leave(visit)
    response = guard.json_response({"funding": None})
    guard.forget(response)
    return response


async def _paste(request: web.Request, site: Site, body: dict[str, object], whose: str) -> web.Response:
    key = body.get("key")
    key = key.strip() if isinstance(key, str) else ""
    if not _PASTED.fullmatch(key):
        raise _fault("key_form", "That is not an OpenRouter key. It starts with sk-or-.", status=422)
    await site.limits.admit_key(whose)
    await _check(site, key)
    visit = await site.wallets.fund_by_key(await guard.visit(request), key)
    response = guard.json_response({"funding": await view.funding(site, visit)})
    guard.remember(response, visit)
    return response


async def _exchange(request: web.Request, code: str, begun: Authorization) -> web.Response:
    site = request.app[SITE]
    try:
        issued = await site.openrouter.exchange(code, begun.verifier)
    except CodeRefused:
        raise _fault("code", "OpenRouter's answer was used or has expired. Start again.") from None
    await _check(site, issued.key)
    visit = await site.wallets.fund_by_account(await guard.visit(request), issued.key, issued.user_id)
    response = guard.json_response({"attempt": begun.attempt})
    guard.remember(response, visit)
    return response


async def _check(site: Site, key: str) -> None:
    """Refuse a key that cannot pay or can do more than pay. Raises FundingInvalid, InvalidRequest, UpstreamError."""
    try:
        facts = await site.openrouter.facts(key)
    except FundingInvalid as refused:
        refused.fields["reason"] = "key_refused"
        raise
    except UpstreamError as away:
        away.fields["reason"] = "away"
        raise
    if facts.is_management:
        raise _fault("key_management", "That is a management key: it can do more than pay. Paste an ordinary key.")


def _still_open(attempt: Attempt) -> None:
    if attempt.state != "pending":
        raise InvalidRequest("This request was already answered.", status=409, fields={"reason": "answered"})


def _fault(reason: str, message: str, *, status: int = 400) -> InvalidRequest:
    return InvalidRequest(message, status=status, fields={"reason": reason})
