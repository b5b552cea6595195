"""The popup: a session token or grant request opens an attempt, the payer sees it and approves or denies.

Rule: no approval without an origin that the browser reported and the app registered. The credentials of an app's page
(a session token, a publishable key) open an attempt; only the payer's browser can decide it.
"""

import contextlib
import re
import secrets
from collections.abc import AsyncIterator
from urllib.parse import quote

from aiohttp import web

from consent_web import guard, proof, texts, view
from consent_web.money_text import MAX_CAP_NANO, CapRefused, cap_from_json, cap_text
from consent_web.site import SITE, Site
from gateway.errors import AuthError, FundingInvalid, InvalidRequest, Unavailable
from gateway.payers import return_urls
from gateway.payers.apps import App
from gateway.payers.connections import Approval
from gateway.payers.consent_request import Attempt, ConsentRequest, Decision
from gateway.payers.credentials import publishable
from gateway.payers.logins import Visit
from gateway.payers.origins import OriginRefused, is_address, normalize
from gateway.payers.sessions import Session

_NONCE = re.compile(r"[A-Za-z0-9_-]{16,128}")
_ATTEMPT = re.compile(r"[0-9a-f]{64}")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


def routes() -> list[web.RouteDef]:
    """Return the popup's paths."""
    return [
        web.get("/consent", show),
        web.post("/consent/attempts", begin),
        web.get("/consent/attempts/{attempt}", show_attempt),
        web.post("/consent/attempts/{attempt}/approve", approve),
        web.post("/consent/attempts/{attempt}/deny", deny),
        web.post("/consent/attempts/{attempt}/extend", extend),
        web.post("/consent/attempts/{attempt}/handed-on", confirm_delivery),
    ]


async def show(request: web.Request) -> web.Response:
    """Answer `GET /consent`: a static page; the request is in the URL's fragment, which is not sent to servers."""
    guard.ensure_browser(request)
    return guard.page(request, "consent.html", {})


async def begin(request: web.Request) -> web.Response:
    """Answer `POST /consent/attempts`: `{key, session, nonce, origin}`, in redirect mode `{…, returnUrl, challenge}`.

    For a grant `{key, grant: {requests, maxUsd?}, nonce, origin}`, whose nonce is spent like a token.
    """
    site = request.app[SITE]
    browser, body = await guard.json_post(request, check_csrf=False)
    if "grant" in body:
        requested = await _read_grant_request(site, body)
        spent = f"grant:{requested.nonce}"
        await site.limits.admit_grant(requested, browser.digest)
    else:
        requested, session = await _read_request(site, body)
        spent = session.jti
    await site.limits.check_cooldown(requested, browser.digest)
    attempt = await site.attempts.create(requested, browser=browser.digest, jti=spent)
    await site.limits.admit_attempt(requested, browser.digest)
    if requested.mode == "test" and await guard.visit(request) is None:
        # Test mode has no funding step, so the wallet is created here. Its cookie must have been received before
        # something is connected; otherwise a lost response would leave a connection that nobody can reach.
        guard.set_wallet_cookie(request, await site.wallets.enter(guard.guest(request)))
    return await _answer(request, browser, attempt)


async def show_attempt(request: web.Request) -> web.Response:
    """Answer `GET /consent/attempts/{attempt}`: after a reload, and polled while another window does the funding."""
    browser, attempt = await found(request)
    return await _answer(request, browser, attempt)


async def approve(request: web.Request) -> web.Response:
    """Answer `POST …/approve`: `{monthlyUsd}` (test mode: optional)."""
    site = request.app[SITE]
    browser, body = await guard.json_post(request)
    _, attempt = await found(request)
    requested = attempt.requested
    if attempt.state not in {"pending", "claimed"}:
        if attempt.state in {"approved", "held"}:
            _check_same(site, attempt.decision["cap_nano"], _cap(requested, body), was_carried_out=True)
        return await _decided(request, browser, attempt)
    app = await _app(site, requested.app_id)
    _check_registered(app, requested)
    cap_nano = _cap(requested, body)
    visit = await _payer(request, requested)
    async with _permit(site, visit, requested, cap_nano):
        key = await _funding_key(site, requested, visit.wallet_id)
        if attempt.state == "claimed":
            attempt = await _release(site, attempt, cap_nano)
            if attempt.state != "pending":
                return await _decided(request, browser, attempt)
        await site.wallets.add(visit, requested.budget, attempt_id=attempt.attempt_id if requested.challenge else "")
        name = _name(requested, app)
        decision = Decision(
            approval=Approval(cap_nano, key, visit.wallet_id, requested.origin),
            text=texts.receipt(requested, name, site.host, cap_nano),
            code=secrets.token_urlsafe(32) if requested.challenge else "",
        )
        decided = await site.attempts.approve(attempt, decision)
    with contextlib.suppress(Unavailable):
        # Renewing comes last and may fail: the browser's present cookie remains valid.
        guard.set_wallet_cookie(request, await site.logins.renew(visit))
    return await _decided(request, browser, decided)


async def deny(request: web.Request) -> web.Response:
    """Answer `POST …/deny`."""
    site = request.app[SITE]
    browser, _ = await guard.json_post(request)
    _, attempt = await found(request)
    denied = await site.attempts.deny(attempt)
    await site.limits.note_denial(denied, browser.digest)
    return await _decided(request, browser, denied)


async def extend(request: web.Request) -> web.Response:
    """Answer `POST …/extend`: extend the time to decide → `{leftSeconds, mayExtend}`."""
    await guard.json_post(request)
    _, attempt = await found(request)
    return guard.json_response(view.left(await request.app[SITE].attempts.extend(attempt)))


async def confirm_delivery(request: web.Request) -> web.Response:
    """Answer `POST …/handed-on`: the app has the grant's token, so delete our copy → `{}`."""
    await guard.json_post(request)
    _, attempt = await found(request)
    if attempt.state not in {"pending", "claimed"}:
        await request.app[SITE].attempts.forget_token(attempt)
    return guard.json_response({})


async def found(request: web.Request) -> tuple[guard.Browser, Attempt]:
    """Return this browser and its attempt in the path. Raises InvalidRequest 403."""
    browser = guard.browser(request)
    attempt_id = request.match_info["attempt"]
    attempt = None
    if browser is not None and _ATTEMPT.fullmatch(attempt_id):
        attempt = await request.app[SITE].attempts.find(attempt_id, *browser.digests)
    if browser is None or attempt is None:
        raise InvalidRequest(
            "This request was opened in another browser, or is too old. Start again from the app.",
            status=403,
            fields={"reason": "elsewhere"},
        )
    return browser, attempt


async def _read_request(site: Site, body: dict[str, object]) -> tuple[ConsentRequest, Session]:
    """Return the validated request of a connection, and its session. Raises AuthError, InvalidRequest, Unavailable."""
    key = publishable(str(body.get("key")))
    nonce, token = body.get("nonce"), body.get("session")
    if key is None or not isinstance(nonce, str) or not _NONCE.fullmatch(nonce) or not isinstance(token, str):
        raise InvalidRequest("The app sent an incomplete request.", fields={"reason": "malformed"})
    session = site.sessions.read(token)
    mode, app_id = key
    if session.app_id == app_id and session.mode != mode:
        raise _modes_differ(mode, session.mode)
    if (session.mode, session.app_id) != (mode, app_id):
        raise AuthError("This session token belongs to another app or mode. Ask your backend for a new one.")
    app = await _app(site, session.app_id)
    return_url, challenge = _redirect(body)
    requested = ConsentRequest(
        mode=session.mode,
        app_id=session.app_id,
        user_id=session.user_id,
        nonce=nonce,
        origin=return_urls.split(return_url)[0] if return_url else _origin(body.get("origin")),
        limit_nano=session.limit_nano,
        label=session.label,
        app_name=app.name,
        return_url=return_url,
        challenge=challenge,
    )
    _check_registered(app, requested)
    return requested, session


def _check_registered(app: App, requested: ConsentRequest) -> None:
    """Refuse an origin or a return URL that the app has not registered. Raises InvalidRequest 403."""
    if requested.challenge:
        if not app.returns_to(requested.return_url, requested.mode):
            raise _return_url_refused(requested.return_url)
    elif not app.allows_origin(requested.origin, requested.mode):
        raise _origin_refused(requested.origin)


async def _read_grant_request(site: Site, body: dict[str, object]) -> ConsentRequest:
    """Return the validated request of a grant, by a publishable key. Raises AuthError, InvalidRequest, Unavailable."""
    key, nonce, grant = publishable(str(body.get("key"))), body.get("nonce"), body.get("grant")
    if key is None or not isinstance(nonce, str) or not _NONCE.fullmatch(nonce) or not isinstance(grant, dict):
        raise InvalidRequest("The app sent an incomplete request.", fields={"reason": "malformed"})
    mode, app_id = key
    app = await _app(site, app_id)
    # A page's NaN arrives as null. It must be refused, not treated as an absent amount.
    max_usd = grant.get("maxUsd") if grant.get("maxUsd", 0) is not None else 0
    terms = site.grant_bounds.parse(grant.get("requests"), max_usd)
    requested = ConsentRequest(
        mode=mode,
        app_id=app_id,
        user_id="",
        nonce=nonce,
        origin=_origin(body.get("origin")),
        limit_nano=terms.cap_nano,
        app_name=app.name,
        requests=terms.requests,
        life_ms=site.grant_bounds.life_ms,
    )
    _check_registered(app, requested)
    return site.attempts.with_token(requested)


def _redirect(body: dict[str, object]) -> tuple[str, str]:
    """Return the return URL and the challenge of redirect mode; two empty strings in popup mode."""
    url, challenge = body.get("returnUrl"), body.get("challenge")
    if url is None and challenge is None:
        return "", ""
    if not isinstance(url, str) or not isinstance(challenge, str) or not _CHALLENGE.fullmatch(challenge):
        raise InvalidRequest("The app sent an incomplete request.", fields={"reason": "malformed"})
    plain = url.partition("#")[0]
    if not return_urls.split(plain)[0]:
        raise _return_url_refused(plain)
    return plain, challenge


def _origin(text: object) -> str:
    """Return `text` if it is an origin exactly as browsers report it, else the empty string."""
    try:
        return text if isinstance(text, str) and normalize(text) == text else ""
    except (OriginRefused, ValueError):
        return ""


async def _app(site: Site, app_id: str) -> App:
    app = await site.apps.find(app_id)
    if app is None:
        raise AuthError("This session token belongs to another app or mode. Ask your backend for a new one.")
    if app.is_closed:
        closed = AuthError("This app has been closed. Nothing can be connected to it.")
        closed.fields["reason"] = "closed"
        raise closed
    return app


def _name(requested: ConsentRequest, app: App) -> str:
    """Return the app's name at the time of the request: after a renaming the receipt must show the name seen."""
    return texts.app_name(requested.app_name or app.name)


def _cap(requested: ConsentRequest, body: dict[str, object]) -> int | None:
    """Return the cap in nano-USD; None (no cap) in test mode only. Raises InvalidRequest 422."""
    if requested.is_grant:
        return requested.limit_nano
    if requested.mode == "test" and body.get("monthlyUsd") is None:
        return (
            None if requested.limit_nano is None else min(requested.limit_nano, MAX_CAP_NANO)
        )  # as shown by view.cap_choice
    try:
        return cap_from_json(body.get("monthlyUsd"), requested_nano=requested.limit_nano)
    except CapRefused as refused:
        raise InvalidRequest(str(refused), status=422, fields={"reason": "cap"}) from None


async def _payer(request: web.Request, requested: ConsentRequest) -> Visit:
    """Return the visit whose wallet will pay. Raises FundingInvalid, InvalidRequest."""
    visit = await guard.visit(request)
    if requested.mode == "test":
        if visit is None:
            raise InvalidRequest(
                "Your browser sent no cookie. Allow cookies for this site and try again.",
                status=403,
                fields={"reason": "cookies"},
            )
        return visit
    if visit is None:
        raise FundingInvalid("Choose how to pay first.")
    return visit


@contextlib.asynccontextmanager
async def _permit(site: Site, visit: Visit, requested: ConsentRequest, cap_nano: int | None) -> AsyncIterator[None]:
    """Permit the approval within the block (`proof`). Raises ConsentRequired, InvalidRequest, Unavailable."""
    if requested.mode == "test":
        yield
        return
    async with proof.permit_raise(site, visit, await site.connections.find(requested.budget), cap_nano or 0):
        yield


async def _release(site: Site, attempt: Attempt, cap_nano: int | None) -> Attempt:
    """Release an earlier approval that was not carried out, before approving again.

    Raises InvalidRequest 409 if it was for another cap, so that the payer learns of it.
    """
    now = await site.attempts.release(attempt)
    _check_same(site, attempt.decision["cap_nano"], cap_nano, was_carried_out=now.state != "pending")
    return now


def _check_same(site: Site, earlier: str, cap_nano: int | None, *, was_carried_out: bool) -> None:
    """Refuse an approval whose cap differs from an earlier approval's: the stored cap must be the one on the button.

    `earlier`: nano-USD as text, empty for no cap. Raises InvalidRequest 409.
    """
    if earlier == ("" if cap_nano is None else str(cap_nano)):
        return
    earlier_answer = f"Your earlier answer ({cap_text(int(earlier)) if earlier else 'no cap'})"
    if was_carried_out:
        reason, message = "answered", f"{earlier_answer} was carried out. Change it at {site.host}."
    else:
        reason, message = "again", f"{earlier_answer} was not carried out and does not count any more. Decide again."
    raise InvalidRequest(message, status=409, fields={"reason": reason})


async def _funding_key(site: Site, requested: ConsentRequest, wallet_id: str) -> str | None:
    if requested.mode == "test":
        return None
    key = await site.wallets.funding_key(wallet_id)
    if key is None:
        raise FundingInvalid("Choose how to pay first.")
    return key


async def _answer(request: web.Request, browser: guard.Browser, attempt: Attempt) -> web.Response:
    site = request.app[SITE]
    app = await _app(site, attempt.requested.app_id)
    visit = await guard.visit(request)
    body = await view.attempt(site, attempt, _name(attempt.requested, app), visit)
    return guard.json_response({**body, "csrf": browser.csrf, **await _result(site, attempt)})


async def _decided(request: web.Request, browser: guard.Browser, attempt: Attempt) -> web.Response:
    result = await _result(request.app[SITE], attempt)
    return guard.json_response({"id": attempt.attempt_id, "state": attempt.state, "csrf": browser.csrf, **result})


async def _result(site: Site, attempt: Attempt) -> dict[str, object]:
    """Return the outcome for the app: a message to the opener, or in redirect mode the URL to return to."""
    requested, state = attempt.requested, attempt.state
    if state not in {"approved", "denied", "held"}:
        return {}
    if not requested.challenge:
        outcome = "approved" if state == "approved" else "denied"
        if requested.is_grant:
            return {
                "result": {"outcome": outcome, **(await site.attempts.grant(attempt) if state == "approved" else {})}
            }
        return {"result": {"outcome": outcome, "status": await site.connections.status(requested.budget)}}
    if state == "approved":
        return {}  # already redeemed: the code is used
    result = (
        "wattfare_error=denied" if state == "denied" else f"wattfare_code={quote(attempt.decision.get('code', ''))}"
    )
    joint = "&" if "?" in requested.return_url else "?"
    return {"redirect": f"{requested.return_url}{joint}wattfare_attempt={quote(requested.nonce)}&{result}"}


def _modes_differ(page: str, backend: str) -> AuthError:
    refused = AuthError(
        f"The app's page uses a {page} key (pk_{page}_…) and its backend a {backend} key (sk_{backend}_…). Nothing was "
        f"allowed. Whoever builds this app: use two keys of one mode."
    )
    refused.fields["detail"] = "modes"
    return refused


def _return_url_refused(url: str) -> InvalidRequest:
    shown = texts.user_label(url[:100]) or "This address"
    return InvalidRequest(
        f"{shown} is not a return URL that this app has registered. It must be registered whole.",
        status=403,
        fields={"reason": "return_url"},
    )


def _origin_refused(origin: str) -> InvalidRequest:
    shown = texts.user_label(origin) or "This page"
    message = f"{shown} is not an address that this app has registered."
    if is_address(origin):
        message += " Addresses cannot be registered: use a host name, or with a test key localhost."
    return InvalidRequest(
        message,
        status=403,
        fields={"reason": "origin", "origin": shown},
    )
