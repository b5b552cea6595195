"""What every state of the site is staged with: a site, a window, and faults from the browser's side.

`tests.screens.screenshots` looks with photographs, the browser tests with axe-core.
"""

import json
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from playwright.async_api import Error, Page, Route

from consent_web.site import Site
from tests.consent_web.world import World

POPUP, DESK = (360, 600), (1100, 900)
# Registered, but without a server: redirect mode needs no page there.
APP_ORIGIN = "https://notes.acme.example"
_LOOKS = re.compile(r"/consent/attempts(/[0-9a-f]{64})?$")

Inspector = Callable[[Page, str], Awaitable[None]]
"""Looks at what is in a window, by the state's name: `popup-…` and `fund-…` for small windows, `board-…` for pages."""


@dataclass(frozen=True)
class Staging:
    """What a state is staged with: a site, an app of it, a window, and what inspects each state."""

    world: World
    app_id: str
    page: Page
    inspect: Inspector

    @property
    def site(self) -> Site:
        return self.world.site

    async def look(self, name: str) -> None:
        """Look at what is in the window, which afterwards is as large as before."""
        before = self.page.viewport_size or {"width": POPUP[0], "height": POPUP[1]}
        await self.inspect(self.page, name)
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

    async def of_app(self, name: str, origin: str = APP_ORIGIN) -> "Staging":
        """Return the same for a new app."""
        keys = await self.site.apps.create(name, [origin], [f"{origin}/"])
        return replace(self, app_id=keys["appId"])

    async def visit(self, url: str) -> None:
        """Load a page anew, also when only its fragment differs."""
        await self._leave()
        await self.page.goto(url)

    async def _leave(self) -> None:
        """Navigate to an empty page, after a pending navigation has finished."""
        if self.page.url == "about:blank":
            return
        try:
            await self.page.goto("about:blank")
        except Error:
            await self.page.wait_for_load_state()
            await self.page.goto("about:blank")

    async def alter(self, change: Callable[[dict[str, object]], None]) -> None:
        """Change the server's JSON of an attempt."""

        async def hand_on(route: Route) -> None:
            answer = await route.fetch()
            body = await answer.json()
            # No state needs an opener; what is shown is the popup that has one.
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
        """Serve pages as a browser without scripts would show them; scripts stay enabled for inspectors."""

        async def strip(route: Route) -> None:
            if route.request.resource_type != "document":
                await route.continue_()
                return
            answer = await route.fetch()
            text = re.sub(r"</?noscript>|<script.*?</script>", "", await answer.text(), flags=re.DOTALL)
            await route.fulfill(response=answer, body=text)

        await self.page.route("**/*", strip)

    async def normal(self) -> None:
        """Leave the page, then stop holding answers. In this order, since a held answer could still change the page."""
        await self.page.goto("about:blank")
        await self.page.unroute_all()
        await self.alter(lambda _: None)


Step = Callable[[Staging], Awaitable[None]]
"""Some states, one after the other, from a fresh window on."""
