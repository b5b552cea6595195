"""The sandbox as an aiohttp application: routes, the one error boundary and the headers of every answer."""

import time
from collections.abc import Callable
from html import escape

from aiohttp import web
from aiohttp.typedefs import Handler

from sandbox import accounts, consent
from sandbox.bill import Bill
from sandbox.chat import DIALECTS, answer_request
from sandbox.settings import SandboxSettings
from sandbox.state import API_PATH, STATE_KEY, RefusedError, SandboxState, error_response
from simulator.variants import MODELS

BILL_KEY = web.AppKey("bill", Bill)

_MAX_BODY_BYTES = 64 * 2**20  # above the gateway's default limit, so that tests reach the gateway's

# Headers that OpenRouter's edge adds to each API answer; a proxy must drop the cookie.
_EDGE_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "X-Generation-Id,X-Provider-Name,request-id,cf-ray",
    "Server": "cloudflare",
    "Set-Cookie": "__cf_bm=sandbox; Domain=openrouter.ai; HttpOnly; Secure; Path=/",
    "X-Content-Type-Options": "nosniff",
}


def create_app(settings: SandboxSettings, *, now: Callable[[], float] = time.time) -> web.Application:
    """Return a sandbox with an empty bill, available as `app[BILL_KEY]`. `now` returns unix seconds."""
    app = web.Application(middlewares=[_error_boundary], client_max_size=_MAX_BODY_BYTES)
    state = SandboxState(settings, now)
    app[STATE_KEY] = state
    app[BILL_KEY] = state.bill
    app.on_response_prepare.append(_add_edge_headers)
    app.add_routes(
        [
            *(web.post(API_PATH + dialect, answer_request) for dialect in DIALECTS),
            web.get("/api/v1/models", accounts.models),
            web.get("/api/v1/models/{author}/{slug}/endpoints", accounts.endpoints),
            web.get("/api/v1/generation", accounts.generation),
            web.get("/api/v1/key", accounts.key),
            web.get("/api/v1/auth/key", accounts.key),
            web.get("/api/v1/credits", accounts.credits_of_account),
            web.post("/api/v1/auth/keys", accounts.exchange_code),
            web.options("/api/{path:.*}", _preflight),
            web.get("/auth", consent.ask),
            web.post("/auth", consent.decide),
            web.get("/sandbox/bill", accounts.show_bill),
            web.post("/sandbox/reset", accounts.reset),
            web.get("/", _index),
        ]
    )
    return app


@web.middleware
async def _error_boundary(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RefusedError as refused:
        return error_response(refused.error, refused.user_id, request.path)


async def _add_edge_headers(request: web.Request, response: web.StreamResponse) -> None:
    if request.path.startswith("/api/"):
        response.headers.update(_EDGE_HEADERS)


async def _preflight(_: web.Request) -> web.Response:
    headers = {"Access-Control-Allow-Methods": "GET,POST", "Access-Control-Allow-Headers": "*"}
    return web.Response(status=204, headers=headers)


async def _index(_: web.Request) -> web.Response:
    rows = "".join(f"<tr><td><code>{escape(m.name)}</code></td><td>{escape(m.does)}</td></tr>" for m in MODELS)
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Sandbox OpenRouter</title>'
        '<h1>Sandbox OpenRouter</h1><p><a href="/sandbox/bill">The bill</a></p>'
        f"<table><tr><th>Model</th><th>What it does</th></tr>{rows}</table></html>"
    )
    return web.Response(text=page, content_type="text/html", charset="utf-8")
