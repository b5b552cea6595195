"""An app that uses Wattfare as documented: a page with a button, and a backend with the secret key.

One server serves every host of the tests: `app.localhost` is registered, `evil.localhost` is not.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from tests.browser.stack import ROOT, BrowserStack

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,"><title>Acme Notes</title>
<h1>Acme Notes</h1>
<button id="connect">Connect</button><button id="grant">Grant</button>
<button id="retry">Retry</button><button id="abort">Abort</button>
<script type="application/json" id="config">__CONFIG__</script>
<script type="module" src="/page.js"></script></html>"""
_HERE = Path(__file__).parent
_CORS = {"Access-Control-Allow-Origin": "*"}
Json = dict[str, Any]


@dataclass
class AppSite:
    """The running app. `origin` is registered; `evil` is the same server under a name that is not."""

    stack: BrowserStack
    origin: str
    evil: str
    late: asyncio.Event = field(default_factory=asyncio.Event)
    """Set to let `as=late` token requests go on."""
    pages: dict[str, str] = field(default_factory=dict)
    """More pages of the app, by the name below `/pages/`."""

    def url(self, *, user: str, host: str = "", **query: str) -> str:
        """Return a page's URL. `_page` documents `query`."""
        asked = {"user": user, **query}
        return f"{host or self.origin}/?" + "&".join(f"{name}={value}" for name, value in asked.items())

    async def post(self, path: str, body: Json, *, keys: Json, mode: str = "live", **headers: str) -> tuple[int, Json]:
        """Send what an app's backend sends: a POST to the gateway with the secret key."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()} | _secret(keys, mode)
        async with (
            aiohttp.ClientSession(headers=sent) as session,
            session.post(f"{self.stack.gateway}/v1/{path}", json=body) as response,
        ):
            return response.status, await response.json()

    async def status(self, user: str, *, mode: str = "live") -> Json:
        """Ask the gateway for a user's connection."""
        async with (
            aiohttp.ClientSession(headers=_secret(self.stack.keys, mode)) as session,
            session.get(f"{self.stack.gateway}/v1/status", params={"appUserId": user}) as response,
        ):
            found: Json = await response.json()
            return found

    async def chat(self, user: str, *, mode: str = "live") -> tuple[int, Json]:
        """Call a model through the app's backend, paid by `user`."""
        messages = [{"role": "user", "content": "Say hello."}]
        body = {"model": "openai/gpt-4o-mini", "messages": messages, "max_tokens": 40}
        return await self.post("chat/completions", body, keys=self.stack.keys, mode=mode, x_wattfare_user=user)

    async def token(self, user: str, *, mode: str = "live", keys: Json | None = None) -> str:
        """Mint a session token."""
        body = {"appUserId": user, "requestLimit": {"monthlyUsd": 5}}
        _, answer = await self.post("sessions", body, keys=keys or self.stack.keys, mode=mode)
        return str(answer["token"])


def _secret(keys: Json, mode: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {keys['secretKey' if mode == 'live' else 'testSecretKey']}"}


_SITE = web.AppKey("site", AppSite)


@contextlib.asynccontextmanager
async def serving(stack: BrowserStack, port: int) -> AsyncIterator[AppSite]:
    """Serve the app on `port` of the loopback interface."""
    site = AppSite(stack, f"http://app.localhost:{port}", f"http://evil.localhost:{port}")
    app = web.Application()
    app[_SITE] = site
    app.router.add_get("/", _page)
    app.router.add_get("/page.js", _script)
    app.router.add_get("/client.js", _client)
    app.router.add_get("/pages/{name}", _more)
    app.router.add_post("/token", _token)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield site
    finally:
        site.late.set()
        await runner.cleanup()


async def _page(request: web.Request) -> web.Response:
    """Answer with the app's page.

    Query: `user`; `mode` live|test; `session` none; `connect` popup|redirect|auto; `as` (see `_token`);
    `app` acme|hostile; `base` and `consent` for other servers; `coop`, `coep`, `dip`, `csp`: headers.
    """
    site, query = request.app[_SITE], request.query
    mode, app = query.get("mode", "live"), query.get("app", "acme")
    keys = site.stack.keys_of(app)
    session = URL("/token").with_query(
        user=query.get("user", "user"), mode=mode, app=app, **{"as": query.get("as", "")}
    )
    config = {
        "session": None if query.get("session") == "none" else str(session),
        "connect": {"mode": query.get("connect", "auto")},
        "options": {
            "publishableKey": keys["publishableKey" if mode == "live" else "testPublishableKey"],
            "baseURL": query.get("base", site.stack.gateway),
            "consentURL": query.get("consent", site.stack.consent),
        },
    }
    headers = {"Cache-Control": "no-store"}
    for name, header in (
        ("coop", "Cross-Origin-Opener-Policy"),
        ("coep", "Cross-Origin-Embedder-Policy"),
        ("dip", "Document-Isolation-Policy"),
        ("csp", "Content-Security-Policy"),
    ):
        if name in query:
            headers[header] = query[name]
    text = _PAGE.replace("__CONFIG__", json.dumps(config).replace("<", "\\u003c"))
    return web.Response(text=text, content_type="text/html", headers=headers)


async def _script(_: web.Request) -> web.Response:
    # Also for a sandboxed page, whose origin is "null".
    return web.Response(body=(_HERE / "page.js").read_bytes(), content_type="text/javascript", headers=_CORS)


async def _client(_: web.Request) -> web.Response:
    return web.Response(body=(ROOT / "sdk/js/client.js").read_bytes(), content_type="text/javascript", headers=_CORS)


async def _more(request: web.Request) -> web.Response:
    return web.Response(text=request.app[_SITE].pages[request.match_info["name"]], content_type="text/html")


async def _token(request: web.Request) -> web.Response:
    """Mint a token. `as`: `raw` (the token alone), `late` (waits), `html`, or a status to fail with."""
    site, query = request.app[_SITE], request.query
    kind = query["as"]
    if kind.isdigit():
        return web.json_response({"error": "no"}, status=int(kind))
    if kind == "html":
        return web.Response(text="<!doctype html><p>Log in", content_type="text/html")
    if kind == "late":
        await site.late.wait()
    token = await site.token(query["user"], mode=query["mode"], keys=site.stack.keys_of(query["app"]))
    if kind == "raw":
        return web.Response(text=token, headers=_CORS)
    return web.json_response({"token": token}, headers=_CORS)
