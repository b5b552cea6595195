"""Funding: by a pasted key, or by an authorization at OpenRouter in a separate window.

Rule: a key is checked and sealed, and only its last four characters are ever shown again.
Rule: OpenRouter's callback is valid only with our state in its path, in the browser that started it, and once. The GET
of the callback page changes nothing: its script posts the code.
"""

import re
from collections.abc import Awaitable

from aiohttp import web

from consent_web import account, guard, proof, view
from consent_web.openrouter import CodeRefused
from consent_web.popup import found
from consent_web.site import SITE, Site
from gateway.errors import FundingInvalid, InvalidRequest, UpstreamError, WattfareError
from gateway.payers.authorizations import Authorization
from gateway.payers.consent_request import Attempt
from gateway.payers.wallets import KEEP, SWITCH, OtherWallet

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
        web.post("/fund/choose", choose),
        web.post("/fund/key", paste_into_wallet),
        web.post("/consent/attempts/{attempt}/key", paste),
        web.post("/consent/attempts/{attempt}/wallet", change_wallet),
    ]


async def start_page(request: web.Request) -> web.Response:
    """Answer `GET /fund/start#attempt`: a page whose script posts to `/fund/start` and goes to the returned URL."""
    csrf = guard.ensure_browser(request).csrf
    return guard.page(request, "fund.html", {"step": "start", "csrf": csrf})


async def start(request: web.Request) -> web.Response:
    """Answer `POST /fund/start`: `{attempt?}` → `{url}`."""
    site = request.app[SITE]
    browser, body = await guard.json_post(request)
    attempt_id = body.get("attempt") or ""
    if not isinstance(attempt_id, str) or (attempt_id and not _ATTEMPT.fullmatch(attempt_id)):
        raise InvalidRequest("This window was opened without a request. Start again from the app.")
    _check_secret(request)
    attempt = await site.attempts.find(attempt_id, *browser.digests) if attempt_id else None
    if attempt_id:
        if attempt is None:
            raise InvalidRequest("This request was opened in another browser.", status=403)
        await site.attempts.note_fault(attempt_id, "")
    visit = await guard.visit(request)
    # A browser without attempt and wallet (signing in) is counted by its cookie: a made-up cookie limits only itself.
    whose = attempt.requested.budget.name if attempt else visit.wallet_id if visit else browser.digest
    await site.limits.admit_authorization(whose)
    limit_usd = await view.key_limit_usd(site, visit, attempt.requested if attempt else None)
    begun = await site.authorizations.begin(_holders(request, browser)[0], attempt_id)
    url = site.openrouter.authorize_url(f"{site.origin}/fund/callback/{begun.state}", begun.verifier, limit_usd)
    return guard.json_response({"url": url})


async def callback_page(request: web.Request) -> web.Response:
    """Answer `GET /fund/callback/{state}?code=`: the same page for every state, valid or not."""
    csrf = guard.ensure_browser(request).csrf
    return guard.page(request, "fund.html", {"step": "callback", "csrf": csrf})


async def finish(request: web.Request) -> web.Response:
    """Answer `POST /fund/finish`: `{state, code}` or `{state, error}` → `{attempt}`. A state is valid once."""
    site = request.app[SITE]
    browser, body = await guard.json_post(request)
    state, code = body.get("state"), body.get("code")
    is_state = isinstance(state, str) and _STATE.fullmatch(state)
    begun = await site.authorizations.find(str(state), *_holders(request, browser)) if is_state else None
    if begun is None:
        raise _stale()
    if begun.is_issued:
        return await _report_outcome(site, begun, _fund(request, begun, choice=""))
    with_code = isinstance(code, str) and _CODE.fullmatch(code)
    return await _report_outcome(
        site, begun, _exchange(request, str(code), begun) if with_code else _end_denied(site, begun)
    )


async def choose(request: web.Request) -> web.Response:
    """Answer `POST /fund/choose`: `{state, way: keep|switch}` → `{attempt}`, after `finish` refused with `ways`."""
    site = request.app[SITE]
    browser, body = await guard.json_post(request)
    state, choice = body.get("state"), body.get("way")
    is_state = isinstance(state, str) and _STATE.fullmatch(state) and choice in (KEEP, SWITCH)
    begun = await site.authorizations.find(str(state), *_holders(request, browser)) if is_state else None
    if begun is None or not begun.is_issued:
        raise _stale()
    return await _report_outcome(site, begun, _fund(request, begun, choice=str(choice)))


async def paste(request: web.Request) -> web.Response:
    """Answer `POST /consent/attempts/{attempt}/key`: `{key}` → `{funding}`."""
    site = request.app[SITE]
    _, body = await guard.json_post(request)
    _, attempt = await found(request)
    _check_open(attempt)
    return await _paste(request, site, body, attempt.requested.budget.name)


async def paste_into_wallet(request: web.Request) -> web.Response:
    """Answer `POST /fund/key`: `{key}` → `{funding}`, from the dashboard."""
    site = request.app[SITE]
    _, body = await guard.json_post(request)
    return await _paste(request, site, body, (await account.owner(request)).wallet_id)


async def change_wallet(request: web.Request) -> web.Response:
    """Answer `POST /consent/attempts/{attempt}/wallet` (“Not you?”): sign this browser out of its wallet."""
    await guard.json_post(request)
    await found(request)
    await guard.sign_out(request)
    return guard.json_response({"funding": None})


async def _paste(request: web.Request, site: Site, body: dict[str, object], whose: str) -> web.Response:
    _check_secret(request)
    key = body.get("key")
    key = key.strip() if isinstance(key, str) else ""
    if not _PASTED.fullmatch(key):
        raise _fault("key_form", "That is not an OpenRouter key. It starts with sk-or-.", status=422)
    await site.limits.admit_key(whose)
    await _check(site, key)
    choice = SWITCH if body.get("way") == SWITCH else ""
    visit = await site.wallets.fund_by_key(await guard.visit(request), guard.guest(request), key, choice=choice)
    guard.set_wallet_cookie(request, visit)
    return guard.json_response({"funding": await view.funding(site, visit)})


async def _exchange(request: web.Request, code: str, begun: Authorization) -> web.Response:
    site = request.app[SITE]
    try:
        issued = await site.openrouter.exchange(code, begun.verifier)
    except CodeRefused:
        raise _fault("code", "OpenRouter's answer was used or has expired. Start again.") from None
    await _check(site, issued.key)
    kept = await site.authorizations.issue(begun, issued.key, issued.user_id)
    if kept is None:
        raise _stale()
    return await _fund(request, kept, choice="")


async def _fund(request: web.Request, issued: Authorization, *, choice: str) -> web.Response:
    """Fund the wallet with the key of an authorization, and delete the authorization."""
    site = request.app[SITE]
    visit = await guard.visit(request)
    funded = await site.wallets.fund_by_account(visit, guard.guest(request), issued.key, issued.user_id, choice=choice)
    guard.set_wallet_cookie(request, funded)
    await site.authorizations.end(issued)
    return guard.json_response({"attempt": issued.attempt})


async def _end_denied(site: Site, begun: Authorization) -> web.Response:
    await site.authorizations.end(begun)
    raise _fault("denied", "OpenRouter did not give a key. Nothing was changed.")


async def _report_outcome(site: Site, begun: Authorization, step: Awaitable[web.Response]) -> web.Response:
    """Run a step of an authorization, and store its outcome for the waiting popup."""
    fault = "failed"
    try:
        answer = await step
        fault = "done"
    except WattfareError as refused:
        # The payer has yet to choose between two accounts: the popup goes on waiting.
        fault = "" if isinstance(refused, OtherWallet) else str(refused.fields.get("reason", "failed"))
        raise
    else:
        return answer
    finally:
        if begun.attempt:
            await site.attempts.note_fault(begun.attempt, fault)


def _holders(request: web.Request, browser: guard.Browser) -> list[str]:
    """Return the possible holders of an authorization: cookie and secret, because a cookie alone may be planted."""
    return [f"{digest}:{guard.guest(request).secret_sha256}" for digest in browser.digests]


def _check_secret(request: web.Request) -> None:
    if not guard.guest(request).secret_sha256:
        raise proof.proof_required("This page did not prove that it is ours.")


def _stale() -> InvalidRequest:
    return InvalidRequest(
        "This authorization was not started in this browser, or was used before. Start again.",
        fields={"reason": "state"},
    )


async def _check(site: Site, key: str) -> None:
    """Refuse an invalid key or a management key. Raises FundingInvalid, InvalidRequest, UpstreamError."""
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


def _check_open(attempt: Attempt) -> None:
    if attempt.state not in {"pending", "claimed"}:
        raise InvalidRequest("This request was already answered.", status=409, fields={"reason": "answered"})


def _fault(reason: str, message: str, *, status: int = 400) -> InvalidRequest:
    return InvalidRequest(message, status=status, fields={"reason": reason})
