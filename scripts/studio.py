"""The studio of `scripts.screenshots`: a site, a window, and faults from the browser's side."""

import json
import re
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlencode

from aiohttp import web
from playwright.async_api import Page, Route

from consent_web.server import create_app, open_site
from consent_web.site import Site
from gateway.settings import Settings
from sandbox.server import create_app as create_sandbox
from sandbox.settings import SandboxSettings

FOLDER = Path(__file__).parents[1] / "screenshots"
POPUP = (360, 600)
# Registered, and served by nobody: redirect mode needs no page there.
APP_ORIGIN = "https://notes.acme.example"
_LOOKS = re.compile(r"/consent/attempts(/[0-9a-f]{64})?$")


@dataclass(frozen=True)
class Studio:
    """Where the photographs are made: a site, an app of it, a browser window and a scheme."""

    site: Site
    app_id: str
    page: Page
    scheme: str
    size: tuple[int, int] = POPUP

    async def shoot(self, name: str, *, full: bool = False) -> None:
        """Save what is in the window."""
        path = FOLDER / f"{name}.{self.size[0]}.{self.scheme}.png"
        await self.page.screenshot(path=path, full_page=full, animations="disabled")

    async def at(self, size: tuple[int, int]) -> "Studio":
        """Return the same studio with a window of another size."""
        await self.page.set_viewport_size({"width": size[0], "height": size[1]})
        return replace(self, size=size)

    def consent_url(self, *, mode: str = "live", limit_usd: float | None = 20, user: str | None = None) -> str:
        """Return a popup's address, in redirect mode, which needs no opener."""
        limit = None if limit_usd is None else round(limit_usd * 1e9)
        token, _ = self.site.sessions.mint(self.app_id, user or secrets.token_hex(6), mode, limit)
        asked = {"v": 1, "k": f"pk_{mode}_{self.app_id}", "s": token, "n": secrets.token_urlsafe(24), "t": "connect"}
        back = {"m": "redirect", "r": f"{APP_ORIGIN}/", "c": "c" * 43}
        return f"{self.site.origin}/consent#{urlencode({**asked, **back})}"

    async def visit(self, url: str) -> None:
        """Load a page anew, also when only its fragment differs."""
        await self.page.goto("about:blank")
        await self.page.goto(url)

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

    async def normal(self) -> None:
        """Let every answer through again."""
        await self.page.unroute_all()
        await self.alter(lambda _: None)


@asynccontextmanager
async def a_site(folder: Path) -> AsyncIterator[Site]:
    listening, upstream = _socket(), _socket()
    environ = {
        "WATTFARE_DATA_DIR": str(folder),
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
