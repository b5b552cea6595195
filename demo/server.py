"""The demo's page and backend, meant as a template: sessions for visitors, and a chat paid for by each visitor.

Rule: the secret key never leaves this process. The page gets the publishable key and ten-minute session tokens.
"""

import json
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
from aiohttp import web

from demo.keys import AppKeys
from demo.settings import DemoSettings
from wattfare import AsyncWattfare, WattfareAuthError, WattfareError, to_wattfare_error

_STATIC = Path(__file__).parent / "static"
_FILES = {"page.mjs": "text/javascript", "talk.mjs": "text/javascript", "style.css": "text/css"}
_COOKIE = "demo_visitor"
_VISITOR = re.compile(r"visitor-[0-9a-f]{32}")
_YEAR_SECONDS = 365 * 24 * 60 * 60
_SUGGESTED_USD = 5  # the cap that the popup preselects
_MOST_BODY_BYTES = 64 * 1024  # enough for a long chat
_MOST_TOKENS = 1000  # without a ceiling, the hold is for the model's maximum output
_SYSTEM = {"role": "system", "content": "You are the assistant of the Wattfare demo. Answer in a few sentences."}
_SETTINGS = web.AppKey("settings", DemoSettings)
_KEYS = web.AppKey("keys", AppKeys)
_WATTFARE = web.AppKey("wattfare", AsyncWattfare)


def create_app(settings: DemoSettings, keys: AppKeys) -> web.Application:
    """Return the demo as an aiohttp application."""
    app = web.Application(client_max_size=_MOST_BODY_BYTES)
    app[_SETTINGS] = settings
    app[_KEYS] = keys
    app[_WATTFARE] = wattfare = AsyncWattfare(keys.secret, settings.gateway_url)
    app.router.add_get("/", page)
    app.router.add_get("/static/{name}", static)
    app.router.add_post("/wattfare-session", wattfare.session_handler(_visitor, monthly_usd=_SUGGESTED_USD))
    app.router.add_post("/api/chat", chat)
    app.cleanup_ctx.append(_closing)
    return app


async def _closing(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[_WATTFARE].close()


async def chat(request: web.Request) -> web.StreamResponse:
    """Answer `POST /api/chat` `{messages, grant?, model?}`: stream the model's text, paid by this visitor."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType
    body = await request.json()
    try:
        chunks = await _chunks(request, body)
    except (openai.APIError, WattfareError) as error:
        return _refusal(error)
    response = web.StreamResponse(headers={"Cache-Control": "no-store"})
    response.content_type = "text/plain"
    await response.prepare(request)
    async for piece in chunks:
        await response.write(json.dumps(piece).encode() + b"\n")
    return response


async def _chunks(request: web.Request, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Return the lines for the page, as JSON objects: `{text}`, and possibly an error envelope at the end."""
    wattfare, settings = request.app[_WATTFARE], request.app[_SETTINGS]
    visitor = _visitor(request)
    if visitor is None:
        raise WattfareAuthError("Open the page first: it gives this browser its cookie.", status=401)
    payer = wattfare.grant(body["grant"]) if body.get("grant") else wattfare.user(visitor)
    messages: Any = [_SYSTEM, *body["messages"]]
    model = settings.model_for(body.get("model"))
    stream = await payer.async_openai().chat.completions.create(
        model=model, messages=messages, max_tokens=_MOST_TOKENS, stream=True
    )

    async def chunks() -> AsyncIterator[dict[str, Any]]:
        try:
            async for part in stream:
                if part.choices and part.choices[0].delta.content:
                    yield {"text": part.choices[0].delta.content}
        except openai.APIError as error:
            yield _envelope(error)

    return chunks()


def _envelope(error: Exception) -> dict[str, Any]:
    found = to_wattfare_error(error)
    return found.to_json() if found else {"error": {"code": "upstream", "message": str(error)}}


def _refusal(error: Exception) -> web.Response:
    found = to_wattfare_error(error)
    return web.json_response(_envelope(error), status=(found.status if found else 0) or 502)


def _visitor(request: web.Request) -> str | None:
    """Return the user's id by this app's own means: here a cookie, in your app its own authentication."""
    found = request.cookies.get(_COOKIE, "")
    return found if _VISITOR.fullmatch(found) else None


async def page(request: web.Request) -> web.Response:
    """Answer `GET /`: the chat page, with the browser SDK's configuration."""
    settings = request.app[_SETTINGS]
    config = {
        "publishableKey": request.app[_KEYS].publishable,
        "baseURL": settings.gateway_url,
        "consentURL": settings.consent_url,
        "isSandbox": settings.is_sandbox,
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
    body = (_STATIC / name).read_bytes()
    return web.Response(body=body, content_type=_FILES[name], charset="utf-8", headers={"Cache-Control": "no-cache"})
