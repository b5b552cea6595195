"""Where every state of the site is staged: a site, a window, faults from the browser's side, and a camera to look.

`scripts.screenshots` looks with photographs, the browser tests look for what keeps people out.
"""

import json
import re
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlencode

from aiohttp import web
from playwright.async_api import Error, Page, Route

from consent_web.server import create_app, open_site
from consent_web.site import Site
from gateway.settings import Settings
from sandbox.server import create_app as create_sandbox
from sandbox.settings import SandboxSettings

POPUP, DESK = (360, 600), (1100, 900)
# Registered, and served by nobody: redirect mode needs no page there.
APP_ORIGIN = "https://notes.acme.example"
_LOOKS = re.compile(r"/consent/attempts(/[0-9a-f]{64})?$")

Camera = Callable[[Page, str], Awaitable[None]]
"""Looks at what is in a window, by the state's name: `popup-…` and `fund-…` for small windows, `board-…` for pages."""


@dataclass(frozen=True)
class Studio:
    """What a state is staged with: a site, an app of it, a window, and the camera that looks at each state."""

    site: Site
    app_id: str
    page: Page
    camera: Camera

    async def shoot(self, name: str) -> None:
        """Look at what is in the window, which afterwards is as large as before."""
        before = self.page.viewport_size or {"width": POPUP[0], "height": POPUP[1]}
        await self.camera(self.page, name)
        await self.page.set_viewport_size(before)

    def consent_url(
        self, *, mode: str = "live", limit_usd: float | None = 20, user: str | None = None, origin: str = APP_ORIGIN
    ) -> str:
        """Return a popup's address, in redirect mode, which needs no opener."""
        limit = None if limit_usd is None else round(limit_usd * 1e9)
        token, _ = self.site.sessions.mint(self.app_id, user or secrets.token_hex(6), mode, limit)
        asked = {"v": 1, "k": f"pk_{mode}_{self.app_id}", "s": token, "n": secrets.token_urlsafe(24), "t": "connect"}
        back = {"m": "redirect", "r": f"{origin}/", "c": "c" * 43}
        return f"{self.site.origin}/consent#{urlencode({**asked, **back})}"

    async def of_app(self, name: str, origin: str = APP_ORIGIN) -> "Studio":
        """Return the same studio for a new app."""
        keys = await self.site.apps.create(name, [origin])
        return replace(self, app_id=keys["appId"])

    async def visit(self, url: str) -> None:
        """Load a page anew, also when only its fragment differs."""
        await self._leave()
        await self.page.goto(url)

    async def _leave(self) -> None:
        """Empty the page. One that was on its way elsewhere gets there first, and is left then."""
        try:
            await self.page.goto("about:blank")
        except Error:
            await self.page.wait_for_load_state()
            await self.page.goto("about:blank")

    async def alter(self, change: Callable[[dict[str, object]], None]) -> None:
        """Change what the server says of an attempt."""

        async def hand_on(route: Route) -> None:
            answer = await route.fetch()
            body = await answer.json()
            # The studio needs no opener; what it shows is the popup that has one.
            body.update(isRedirect=False)
            change(body)
            await route.fulfill(response=answer, body=json.dumps(body))

        await self.page.route(_LOOKS, hand_on)

    async def refuse(self, reason: str) -> None:
        """Refuse the attempt for a reason."""
        error = {"code": "invalid_request", "reason": reason, "message": "https://evil.example is not registered here."}
        if reason in {"rate_limited", "cooldown", "unknown"}:
            error["message"] = "Wait five minutes and try again."

        async def refuse(route: Route) -> None:
            await route.fulfill(status=403, json={"error": error})

        await self.page.route("**/consent/attempts*", refuse)

    async def without_script(self) -> None:
        """Serve pages as a browser without script would show them. A camera may need script, so it stays on."""

        async def strip(route: Route) -> None:
            if route.request.resource_type != "document":
                await route.continue_()
                return
            answer = await route.fetch()
            text = re.sub(r"</?noscript>|<script.*?</script>", "", await answer.text(), flags=re.DOTALL)
            await route.fulfill(response=answer, body=text)

        await self.page.route("**/*", strip)

    async def normal(self) -> None:
        """Leave what is shown, and let every answer through again. In this order: a held answer could still move it."""
        await self.page.goto("about:blank")
        await self.page.unroute_all()
        await self.alter(lambda _: None)


Step = Callable[[Studio], Awaitable[None]]
"""Some states, one after the other, from a fresh window on."""


@asynccontextmanager
async def a_site(folder: Path, *, redis_url: str = "") -> AsyncIterator[Site]:
    """Serve a site and a stand-in OpenRouter; without a `redis_url` on an embedded store in `folder`."""
    listening, upstream = _socket(), _socket()
    environ = {
        "WATTFARE_DATA_DIR": str(folder),
        "REDIS_URL": redis_url,
        "OPENROUTER_BASE_URL": f"http://127.0.0.1:{upstream.getsockname()[1]}",
        "WATTFARE_CONSENT_URL": f"http://127.0.0.1:{listening.getsockname()[1]}",
        "WATTFARE_REDIS_DEADLINE_MS": "2000",
    }
    async with open_site(Settings.load(environ, default_port=8081)) as site:
        runners = [
            web.AppRunner(create_app(site), shutdown_timeout=1),
            web.AppRunner(create_sandbox(SandboxSettings())),
        ]
        for runner, sock in zip(runners, (listening, upstream), strict=True):
            await runner.setup()
            await web.SockSite(runner, sock).start()
        yield site
        for runner in runners:
            await runner.cleanup()


def _socket() -> socket.socket:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(128)
    return listening
