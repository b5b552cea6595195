"""A consent site process: routes and templates, opening and closing.

On SIGTERM: stop accepting, let open requests finish, then close the connections to Redis.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import aiohttp_jinja2
import jinja2
from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage, StreamWriter

from consent_web import apps_pages, browsers, dashboard, docs, files, funding, guard, health, passkeys, popup, waiting
from consent_web.money_text import cap_text, exact, usd
from consent_web.openrouter import OpenRouter
from consent_web.site import SITE, Site, build
from gateway.call import CallerConnection, write
from gateway.errors import InvalidRequest
from gateway.lifecycle import Lifecycle
from gateway.listening import port_of
from gateway.logs import log
from gateway.openrouter.client import Client
from gateway.protocol import CallerServer
from gateway.services import open_services, refuse_eviction
from gateway.settings import Settings

_TEMPLATES = Path(__file__).parent / "templates"


def create_app(site: Site) -> web.Application:
    """Return a site as an aiohttp application."""
    app = web.Application(middlewares=[health.logged, guard.error_boundary], client_max_size=guard.BODY_BYTES)
    app[SITE] = site
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"usd": usd, "exact": exact, "cap": cap_text, "moment": moment, "stamp": stamp}
    app.add_routes(
        [
            *popup.routes(),
            *funding.routes(),
            *dashboard.routes(),
            *waiting.routes(),
            *browsers.routes(),
            *passkeys.routes(),
            *apps_pages.routes(),
            *docs.routes(),
            *files.routes(),
            *health.routes(),
        ]
    )
    return app


@contextlib.asynccontextmanager
async def open_site(settings: Settings) -> AsyncIterator[Site]:
    """Yield a site on the settings' Redis. Raises EmbeddedError, SettingsError (a Redis that may evict keys)."""
    async with open_services(settings) as services:
        await refuse_eviction(services.store)
        client = Client.of(settings)
        try:
            yield build(services, OpenRouter(settings.openrouter_base_url, client))
        finally:
            await client.close()


class SiteRunner(web.AppRunner):
    """Serves the site with the gateway's HTTP protocol class."""

    async def _make_server(self) -> web.Server:
        await super()._make_server()  # starts the application; its aiohttp server is replaced below
        app = self.app

        async def handle(
            message: RawRequestMessage,
            content: StreamReader,
            connection: CallerConnection,
            fault: InvalidRequest | None,
        ) -> bool:
            writer = StreamWriter(connection, asyncio.get_running_loop())
            task = cast("asyncio.Task[None]", asyncio.current_task())
            request = app._make_request(message, content, connection, writer, task)  # noqa: SLF001 - as aiohttp does
            if fault is not None:
                return await write(request, guard.refuse_malformed(request, app[SITE], fault))
            try:
                return await write(request, await app._handle(request))  # noqa: SLF001
            except web.HTTPException as answer:
                # Raised by aiohttp before any middleware, for an invalid Expect header.
                return await write(request, guard.refuse_http(request, app[SITE], answer))

        return CallerServer(handle)


def make_runner(app: web.Application, *, drain_seconds: float) -> web.AppRunner:
    """Return the site's runner."""
    return SiteRunner(app, shutdown_timeout=drain_seconds)


async def serve(settings: Settings, lifecycle: Lifecycle | None = None) -> None:
    """Serve until stopped. Raises EmbeddedError, SettingsError, OSError (a taken port)."""
    lifecycle = lifecycle or Lifecycle(settings)
    async with lifecycle.supervised(), open_site(settings) as site:
        runner = make_runner(create_app(site), drain_seconds=settings.drain_seconds)
        await runner.setup()
        try:
            sockets = await lifecycle.listen(runner)
            log.info("consent_listening", host=settings.host, port=port_of(sockets))
            lifecycle.report_ready()
            await lifecycle.until_stop()
            await asyncio.gather(*(listening.stop() for listening in tuple(runner.sites)))
            if isinstance(runner.server, CallerServer):
                runner.server.close_kept()
                await runner.server.left(min(lifecycle.grace_seconds, settings.drain_seconds))
        finally:
            await runner.cleanup()
    log.info("stopped")


def moment(ms: int | str | None) -> str:
    """Return `23 Nov 2026, 15:04 UTC` for unix milliseconds; a dash for none."""
    return datetime.fromtimestamp(int(ms) / 1000, UTC).strftime("%-d %b %Y, %H:%M UTC") if ms else "–"


def stamp(ms: int | str | None) -> str:
    """Return unix milliseconds in ISO 8601 for a `datetime` attribute; empty for none."""
    return datetime.fromtimestamp(int(ms) / 1000, UTC).isoformat(timespec="seconds") if ms else ""
