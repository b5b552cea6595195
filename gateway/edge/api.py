"""Every resource but the metered calls: sessions, status, connections, attempts, grants, usage, models, health.

Source of paths, fields and errors: CONTRACT §2.
"""

import re
from decimal import Decimal
from urllib.parse import parse_qs, quote

from aiohttp import web

from gateway.call import Call
from gateway.edge import cors, openapi
from gateway.errors import (
    AuthError,
    ConsentRequired,
    GrantInvalid,
    InvalidRequest,
    Unavailable,
    UpstreamError,
    WattfareError,
)
from gateway.keys import Budget
from gateway.ledger.holds import Ledger
from gateway.ledger.record import Hold
from gateway.metered.payer import GRANT_HEADER, payer
from gateway.metered.token_count import count_tokens
from gateway.money import nano_from_usd, usd_from_nano
from gateway.openrouter.prices import Prices
from gateway.owners import Grant
from gateway.payers.apps import App, Caller, authorization_of
from gateway.payers.connections import Approval, By, Connections
from gateway.payers.credentials import publishable
from gateway.payers.grants import status_of as grant_status
from gateway.payers.identity import user_id_fault
from gateway.payers.sessions import Session
from gateway.services import Services

_MOST_LABEL = 80  # characters; they fit on two lines of the popup
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_QUERY_MARKS = "!$%&'()*+,/:;=?@[]~"  # allowed in a query beside letters, digits and -._ (RFC 3986, and brackets)


class Api:
    """Handlers. Each gets a call and the values of the path's `*` segments, and raises WattfareError for a refusal."""

    def __init__(self, services: Services, prices: Prices) -> None:
        self._services = services
        self._prices = prices

    async def healthz(self, call: Call, _: tuple[str, ...]) -> web.Response:
        """GET /healthz: 200 while the process runs."""
        return call.answer({"status": "ok"})

    async def readyz(self, call: Call, _: tuple[str, ...]) -> web.Response:
        """GET /readyz: 200 if Redis is up and has the known epoch, else 503."""
        if not await self._services.store.answers():
            raise Unavailable
        return call.answer({"status": "ready"})

    async def openapi(self, call: Call, _: tuple[str, ...]) -> web.Response:
        """GET /openapi.json."""
        return call.answer(openapi.document(self._services.settings.public_url))

    async def create_session(self, call: Call, _: tuple[str, ...]) -> web.Response:
        """POST /v1/sessions."""
        caller = await self._caller(call)
        document = await call.document()
        _refuse_others(document, ("appUserId", "requestLimit", "userLabel"))
        user_id = _user_id(document.get("appUserId"), "appUserId")
        limit = document.get("requestLimit")
        if limit is not None and not isinstance(limit, dict):
            raise InvalidRequest("requestLimit must be an object such as {'monthlyUsd': 20}.", status=422)
        _refuse_others(limit or {}, ("monthlyUsd",), "requestLimit.")
        limit_nano = _cap_nano(limit.get("monthlyUsd"), "requestLimit.monthlyUsd") if limit else None
        label = _label(document.get("userLabel"))
        await self._services.limits.admit_session(caller.app.app_id)
        mint = self._services.sessions.mint
        token, expires_at = mint(caller.app.app_id, user_id, caller.mode, limit_nano, label=label)
        return call.answer({"token": token, "expiresAt": expires_at})

    async def status(self, call: Call, _: tuple[str, ...]) -> web.Response:
        """GET /v1/status?appUserId=."""
        return call.answer(await self._connections.status(self._named(call, await self._caller(call))))

    async def connection(self, call: Call, _: tuple[str, ...]) -> web.Response:
        """GET /v1/connections."""
        budget, _session = await self._by_token(call)
        return call.answer(await self._connections.status(budget))

    async def approve(self, call: Call, _: tuple[str, ...]) -> web.Response:
        """POST /v1/connections: in test mode the app approves; in live mode it can only lower the cap."""
        budget, session = await self._by_token(call)
        document = await call.document() if call.request.body_exists else {}
        cap_nano = _cap_nano(document.get("monthlyUsd"), "monthlyUsd")
        if session.mode == "test":
            wanted = cap_nano if cap_nano is not None else session.limit_nano
            await self._connections.approve(budget, Approval(wanted, None, by=By.APP))
        elif cap_nano is None:
            raise ConsentRequired
        else:
            await self._connections.lower(budget, cap_nano)
        return call.answer(await self._connections.status(budget))

    async def disconnect(self, call: Call, _: tuple[str, ...]) -> web.Response:
        """DELETE /v1/connections, by session token or by secret key and appUserId."""
        if call.request.query.get("appUserId") is not None:
            # An app over its rate limit may still revoke.
            budget = self._named(call, await self._services.apps.authenticate(authorization_of(call.headers)))
        else:
            budget, _session = await self._by_token(call)
        await self._connections.revoke(budget, by=By.APP)
        return web.Response(status=204, headers=call.own_headers())

    async def attempt(self, call: Call, segments: tuple[str, ...]) -> web.Response:
        """GET /v1/attempts/{nonce}: the outcome of a popup; with a publishable key, of a grant's popup."""
        outcome = self._services.attempts.outcome
        if (key := publishable(_bearer(call))) is not None:
            mode, app_id = key
            self._check_origin(call, await self._services.apps.find(app_id), mode)
            return call.answer(await outcome(app_id, mode, "", segments[0]))
        _, session = await self._by_token(call)
        return call.answer(await outcome(session.app_id, session.mode, session.user_id, segments[0]))

    async def redeem(self, call: Call, segments: tuple[str, ...]) -> web.Response:
        """POST /v1/attempts/{nonce} `{code, verifier}`: the page that started a redirect activates its approval."""
        _, session = await self._by_token(call)
        document = await call.document()
        code, verifier = document.get("code"), document.get("verifier")
        if not isinstance(code, str) or not isinstance(verifier, str):
            raise InvalidRequest("Send {code, verifier}, both strings.", status=422)
        redeemed = await self._services.attempts.redeem(
            session.app_id, session.mode, session.user_id, segments[0], code=code, verifier=verifier
        )
        return call.answer(redeemed)

    async def grant(self, call: Call, _: tuple[str, ...]) -> web.Response:
        """GET /v1/grants: what remains of the grant named by the header."""
        caller = await self._caller(call)
        budget = payer(call, caller)
        if not isinstance(budget.owner, Grant):
            raise InvalidRequest(f"Send {GRANT_HEADER}. What a user has left is at /v1/status?appUserId=.")
        return call.answer(grant_status(await self._ledger.standing(self._charged(call, budget))))

    async def refused(self, call: Call, error: WattfareError) -> WattfareError:
        """Return the error to send: RateLimited in place of `error` once the app has sent too many unknown grants."""
        app_id = call.notes.get("app")
        if isinstance(error, GrantInvalid) and error.fields.get("reason") == "unknown" and isinstance(app_id, str):
            try:
                await self._services.limits.note_unknown_grant(app_id)
            except WattfareError as too_often:
                return too_often
        return error

    async def usage(self, call: Call, segments: tuple[str, ...]) -> web.Response:
        """GET /v1/usage/{requestId}: the cost of one request, also if its client disconnected."""
        caller = await self._caller(call)
        budget = await self._connections.budget_of(segments[0])
        hold = None
        if budget is not None and (budget.app_id, budget.mode) == (caller.app.app_id, caller.mode):
            hold = await self._ledger.hold(budget, segments[0])
        if hold is None or hold.admitted_ms is None:
            raise InvalidRequest("No request of this app has this id, or it is older than the ledger.", status=404)
        return call.answer(_usage(segments[0], hold))

    async def count_tokens(self, call: Call, _: tuple[str, ...]) -> web.Response:
        """POST /v1/messages/count_tokens."""
        return await count_tokens(await self._caller(call), call)

    async def models(self, call: Call, _: tuple[str, ...]) -> web.Response:
        """GET /v1/models: OpenRouter's list."""
        # The raw query is relayed: a decoded line break would end the upstream request line.
        query = quote(call.request.rel_url.raw_query_string, safe=_QUERY_MARKS, errors="surrogateescape")
        return await self._page(call, f"models?{query}" if query else "models")

    async def endpoints(self, call: Call, segments: tuple[str, ...]) -> web.Response:
        """GET /v1/models/{author}/{slug}/endpoints."""
        if not {".", ".."}.isdisjoint(segments):
            # Dot segments would resolve to another path of OpenRouter.
            raise InvalidRequest("OpenRouter has no such model list.", status=404)
        author, slug = (quote(segment, safe=":~") for segment in segments)
        return await self._page(call, f"models/{author}/{slug}/endpoints")

    @property
    def _connections(self) -> Connections:
        return self._services.connections

    @property
    def _ledger(self) -> Ledger:
        return self._services.ledger

    async def _caller(self, call: Call) -> Caller:
        """Return the app of the secret key, and count the call. Raises AuthError, RateLimited, Unavailable."""
        caller = await self._services.apps.authenticate(authorization_of(call.headers))
        self._services.app_pace.admit(caller)
        return caller

    def _named(self, call: Call, caller: Caller) -> Budget:
        """Return the budget named by `appUserId` in the query. Raises InvalidRequest, Unavailable."""
        user_id = _user_id(_named_once(call.request.rel_url.raw_query_string, "appUserId"), "appUserId")
        return self._charged(call, Budget.of_user(caller.mode, caller.app.app_id, user_id))

    async def _by_token(self, call: Call) -> tuple[Budget, Session]:
        session = self._services.sessions.read(_bearer(call))
        app = await self._services.apps.find(session.app_id)
        self._check_origin(call, app, session.mode)
        return self._charged(call, Budget.of_user(session.mode, session.app_id, session.user_id)), session

    @staticmethod
    def _check_origin(call: Call, app: App | None, mode: str) -> None:
        if app is None or app.is_closed:
            raise AuthError("The app of this key or session token is closed.")
        origin = call.headers.get("Origin")
        if origin is None:
            return
        if not app.allows_origin(origin, mode):
            shown = call.notes["refused_origin"] = cors.readable(origin)
            raise AuthError(f"The origin {shown} is not registered for this app. Register it, or use a test key.")
        call.allowed_origin = origin

    def _charged(self, call: Call, budget: Budget) -> Budget:
        if not self._services.store.salt:
            raise Unavailable
        call.charge_to(budget, self._services.store.salt)
        return budget

    async def _page(self, call: Call, path: str) -> web.Response:
        document = await self._prices.page(path)
        if document.status >= 500:
            raise UpstreamError("OpenRouter does not serve its model list now. Try again.")
        if document.status >= 400:
            raise InvalidRequest("OpenRouter has no such model list.", status=document.status)
        headers = {**call.own_headers(), "Cache-Control": "public, max-age=300", "Access-Control-Allow-Origin": "*"}
        return web.Response(body=document.body, content_type="application/json", headers=headers)


def _bearer(call: Call) -> str:
    """Return a call's bearer token; empty without one."""
    scheme, _, token = call.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _user_id(value: object, name: str) -> str:
    fault = user_id_fault(value) if isinstance(value, str) else "must be given once, as a string"
    if fault is not None or not isinstance(value, str):
        raise InvalidRequest(f"{name} {fault}.", status=422)
    return value


def _refuse_others(document: dict[str, object], known: tuple[str, ...], within: str = "") -> None:
    """Raise InvalidRequest for an unknown member, since a misspelled one would silently have no effect."""
    for name in document:
        if name not in known:
            unknown = f"The field {within + name[:_MOST_LABEL]!a} is not known here."
            raise InvalidRequest(f"{unknown} Known: {', '.join(within + each for each in known)}.", status=422)


def _label(label: object) -> str:
    """Return the account's name as shown to the payer, '' for none. Raises InvalidRequest 422."""
    if label is None:
        return ""
    is_shown = isinstance(label, str) and any(character.isprintable() and character != " " for character in label)
    if not isinstance(label, str) or not 1 <= len(label) <= _MOST_LABEL or not is_shown or _CONTROL.search(label):
        raise InvalidRequest(
            f"userLabel must be 1 to {_MOST_LABEL} characters that can be shown: what the user knows their account by,"
            " such as an e-mail address.",
            status=422,
        )
    return label


def _named_once(query: str, name: str) -> str | None:
    """Return a query field's single value; None if it is missing, repeated or not UTF-8 (which yarl would replace)."""
    try:
        given = parse_qs(query, keep_blank_values=True, errors="strict").get(name, [])
    except ValueError:
        return None
    return given[0] if len(given) == 1 else None


def _cap_nano(value: object, name: str) -> int | None:
    if value is None:
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise ValueError("must be a number of US dollars")
        nano = nano_from_usd(value)
    except ValueError as fault:
        raise InvalidRequest(f"{name} {fault}.", status=422) from None
    if nano == 0:
        raise InvalidRequest(f"{name} must be more than 0.", status=422)
    return nano


def _usage(request_id: str, hold: Hold) -> dict[str, object]:
    return {
        "requestId": request_id,
        "generationId": hold.generation_id or None,
        "model": hold.model or None,
        "status": hold.state,
        "costUsd": None if hold.cost_nano is None else usd_from_nano(hold.cost_nano),
        "holdUsd": usd_from_nano(hold.nano),
        "overrunUsd": usd_from_nano(hold.overrun_nano),
        "promptTokens": hold.prompt_tokens,
        "completionTokens": hold.completion_tokens,
        "admittedAt": (hold.admitted_ms or 0) / 1000,
        "settledAt": None if hold.settled_ms is None else hold.settled_ms / 1000,
        "endedBy": hold.ended_by or None,
    }
