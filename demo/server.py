"""The demo's page and backend: mints a session for its visitor, and lets the visitor's budget pay for a chat.

Rule: the secret key never leaves this process. The page gets the publishable key and session tokens of ten minutes.
"""

import json
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web

from demo.keys import AppKeys
from demo.settings import DemoSettings

_STATIC = Path(__file__).parent / "static"
_FILES = {"page.mjs": "text/javascript", "style.css": "text/css"}
_COOKIE = "demo_visitor"
_VISITOR = re.compile(r"visitor-[0-9a-f]{32}")
_YEAR_SECONDS = 365 * 24 * 60 * 60
_SUGGESTED_USD = 5  # the cap that the popup opens with
_MOST_BODY_BYTES = 64 * 1024  # a long chat
_SETTINGS = web.AppKey("settings", DemoSettings)
_KEYS = web.AppKey("keys", AppKeys)
_HTTP = web.AppKey("http", aiohttp.ClientSession)


def create_app(settings: DemoSettings, keys: AppKeys) -> web.Application:
    """Return the demo as an aiohttp application."""
    app = web.Application(client_max_size=_MOST_BODY_BYTES)
    app[_SETTINGS] = settings
    app[_KEYS] = keys
    app.router.add_get("/", page)
    app.router.add_get("/static/{name}", static)
    app.router.add_post("/wattfare-token", token)
    app.router.add_post("/api/chat", chat)
    app.cleanup_ctx.append(_http)
    return app


async def _http(app: web.Application) -> AsyncIterator[None]:
    # No total: the gateway ends a streamed answer that has stalled.
    timeout = aiohttp.ClientTimeout(total=None, connect=10)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as http:
        app[_HTTP] = http
        yield


async def page(request: web.Request) -> web.Response:
    """Answer `GET /`: the chat page, with what the browser SDK needs to know."""
    settings = request.app[_SETTINGS]
    config = {
        "publishableKey": request.app[_KEYS].publishable,
        "baseURL": settings.gateway_url,
        "consentURL": settings.consent_url,
    }
    text = (_STATIC / "index.html").read_text().replace("__CONFIG__", json.dumps(config).replace("<", "\\u003c"))
    response = web.Response(text=text, content_type="text/html")
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'self' {settings.consent_url}; style-src 'self'; img-src data:; "
        f"connect-src 'self' {settings.gateway_url}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    if _visitor(request) is None:
        visitor = f"visitor-{secrets.token_hex(16)}"
        response.set_cookie(_COOKIE, visitor, max_age=_YEAR_SECONDS, httponly=True, samesite="Lax")
    return response


async def static(request: web.Request) -> web.Response:
    """Answer `GET /static/{name}`."""
    name = request.match_info["name"]
    if name not in _FILES:
        raise web.HTTPNotFound
    return web.Response(body=(_STATIC / name).read_bytes(), content_type=_FILES[name], charset="utf-8")


async def token(request: web.Request) -> web.StreamResponse:
    """Answer `POST /wattfare-token`: a session token for this visitor, as `{token, expiresAt}`."""
    body = {"appUserId": _known_visitor(request), "requestLimit": {"monthlyUsd": _SUGGESTED_USD}}
    return await _pass_on(request, "sessions", json.dumps(body).encode(), {})


async def chat(request: web.Request) -> web.StreamResponse:
    """Answer `POST /api/chat` `{messages}`: the model's answer as it comes, paid by this visitor."""
    visitor = _known_visitor(request)
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType
    asked = {"model": request.app[_SETTINGS].model, "messages": (await request.json())["messages"], "stream": True}
    return await _pass_on(request, "chat/completions", json.dumps(asked).encode(), {"x-wattfare-user": visitor})


async def _pass_on(request: web.Request, path: str, body: bytes, headers: dict[str, str]) -> web.StreamResponse:
    """Call the gateway with the secret key and relay what it answers, chunk by chunk."""
    url = f"{request.app[_SETTINGS].gateway_url}/v1/{path}"
    sent = {"Authorization": f"Bearer {request.app[_KEYS].secret}", "Content-Type": "application/json", **headers}
    try:
        async with request.app[_HTTP].post(url, data=body, headers=sent) as answer:
            response = web.StreamResponse(status=answer.status, headers={"Cache-Control": "no-store"})
            response.content_type = answer.content_type
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            return response
    except aiohttp.ClientConnectorError:
        error = {"code": "network", "message": "The gateway cannot be reached. Is it running?"}
        return web.json_response({"error": error}, status=502)


def _visitor(request: web.Request) -> str | None:
    found = request.cookies.get(_COOKIE, "")
    return found if _VISITOR.fullmatch(found) else None


def _known_visitor(request: web.Request) -> str:
    visitor = _visitor(request)
    if visitor is None:
        raise web.HTTPUnauthorized(text="Open the page first: it gives this browser its cookie.")
    return visitor
