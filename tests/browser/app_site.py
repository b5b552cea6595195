"""An app that uses Wattfare as its documentation says: a page with a button, and a backend that holds the secret key.

One server plays every host of the tests: `app.localhost` is registered, `evil.localhost` is not.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from tests.browser.stack import ROOT, Stack

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,"><title>Acme Notes</title>
<h1>Acme Notes</h1><button id="connect">Connect</button><button id="abort">Abort</button><button id="grant">Grant</button>
<output id="out"></output>
<script type="application/json" id="config">__CONFIG__</script>
<script type="module" src="/page.js"></script></html>"""

# `outcomes` holds each call's end in order; `events` what `on` told.
_SCRIPT = """
import * as sdk from '/client.js'
const { user, token, options, connect, extra } = JSON.parse(document.getElementById('config').textContent)
const session = `/token?user=${encodeURIComponent(user)}&as=${token}`
globalThis.outcomes = []
globalThis.events = []
globalThis.promises = []
globalThis.sdk = sdk
globalThis.wattfare = sdk.createWattfare({ session, ...options })
for (const name of ['change', 'open', 'close', 'error'])
  wattfare.on(name, (told) => events.push([name, told?.code ?? told?.connected ?? told?.type]))
const keep = (promise) => {
  promises.push(promise)
  promise.then(
    (found) => outcomes.push(found),
    (error) => outcomes.push({ error: error.code, name: error.name, retries: !!error.retry, failed: (globalThis.failed = error) }),
  )
}
globalThis.keep = keep
let stop = new AbortController()
document.getElementById('connect').onclick = () => keep(wattfare.connect({ ...connect, signal: stop.signal }))
document.getElementById('grant').onclick = () => keep(wattfare.requestGrant({ requests: 3, maxUsd: 0.5 }))
document.getElementById('abort').onclick = () => stop.abort()
wattfare.resume().then((found) => { if (found) outcomes.push({ ...found, resumed: true }) }, (error) => outcomes.push({ error: error.code, resumed: true }))
globalThis.ready = true
"""


@dataclass
class AppSite:
    """The running app. `origin` is registered; `evil` is the same server under a name that is not."""

    stack: Stack
    origin: str
    evil: str
    late: asyncio.Event = field(default_factory=asyncio.Event)
    """Set to let `as=late` token requests go on."""

    def url(self, *, user: str, host: str = "", **query: str) -> str:
        """Return a page's address. See `_page` for what `query` may say."""
        asked = {"user": user, **query}
        return f"{host or self.origin}/?" + "&".join(f"{name}={value}" for name, value in asked.items())

    async def post(self, path: str, body: object, *, mode: str = "live", **headers: str) -> tuple[int, object]:
        """Send what the app's backend sends: a POST to the gateway with the secret key."""
        secret = self.stack.keys["secretKey" if mode == "live" else "testSecretKey"]
        named = {
            "Authorization": f"Bearer {secret}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.stack.gateway}/v1/{path}", json=body, headers=named) as response,
        ):
            return response.status, await response.json()

    async def status(self, user: str, *, mode: str = "live") -> dict[str, object]:
        """Ask the gateway for a user's connection."""
        secret = self.stack.keys["secretKey" if mode == "live" else "testSecretKey"]
        headers = {"Authorization": f"Bearer {secret}"}
        url = f"{self.stack.gateway}/v1/status"
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(url, params={"appUserId": user}) as response,
        ):
            found: dict[str, object] = await response.json()
            return found

    async def chat(self, user: str, *, mode: str = "live") -> tuple[int, object]:
        """Let the app's backend ask a model, paid by `user`."""
        body = {
            "model": "openai/gpt-4o-mini",
            "messages": [{"role": "user", "content": "Say hello."}],
            "max_tokens": 40,
        }
        return await self.post("chat/completions", body, mode=mode, x_wattfare_user=user)


_SITE = web.AppKey("site", AppSite)


@contextlib.asynccontextmanager
async def serving(stack: Stack, port: int) -> AsyncIterator[AppSite]:
    """Serve the app on `port` of the loopback interface."""
    site = AppSite(stack, f"http://app.localhost:{port}", f"http://evil.localhost:{port}")
    app = web.Application()
    app[_SITE] = site
    app.router.add_get("/", _page)
    app.router.add_get("/page.js", _script)
    app.router.add_get("/client.js", _client)
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
    """Query: `user`, `mode` live|test, `connect` popup|redirect|auto, `as` (see `_token`), `consent`, and coop, coep, dip."""
    site, query = request.app[_SITE], request.query
    live = query.get("mode", "live") == "live"
    config = {
        "user": query.get("user", "user"),
        "token": query.get("as", query.get("mode", "live")),
        "connect": {"mode": query.get("connect", "auto")},
        "options": {
            "publishableKey": site.stack.keys["publishableKey" if live else "testPublishableKey"],
            "baseURL": query.get("base", site.stack.gateway),
            "consentURL": query.get("consent", site.stack.consent),
        },
    }
    headers = {"Cache-Control": "no-store"}
    for name, header in (
        ("coop", "Cross-Origin-Opener-Policy"),
        ("coep", "Cross-Origin-Embedder-Policy"),
        ("dip", "Document-Isolation-Policy"),
    ):
        if name in query:
            headers[header] = query[name]
    text = _PAGE.replace("__CONFIG__", json.dumps(config).replace("<", "\\u003c"))
    return web.Response(text=text, content_type="text/html", headers=headers)


async def _script(_: web.Request) -> web.Response:
    return web.Response(text=_SCRIPT, content_type="text/javascript")


async def _client(_: web.Request) -> web.Response:
    return web.Response(body=(ROOT / "sdk/js/client.js").read_bytes(), content_type="text/javascript")


async def _token(request: web.Request) -> web.Response:
    """`as`: `live`, `test`, `raw` (the token alone), `late` (waits), `html`, or a status to fail with."""
    site, kind = request.app[_SITE], request.query["as"]
    if kind.isdigit():
        return web.json_response({"error": "no"}, status=int(kind))
    if kind == "html":
        return web.Response(text="<!doctype html><p>Log in", content_type="text/html")
    if kind == "late":
        await site.late.wait()
    mode = "test" if kind == "test" else "live"
    body = {"appUserId": request.query["user"], "requestLimit": {"monthlyUsd": 5}}
    status, answer = await site.post("sessions", body, mode=mode)
    assert isinstance(answer, dict)
    if kind == "raw":
        return web.Response(text=answer["token"])
    return web.json_response(answer, status=status)
