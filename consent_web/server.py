"""A consent site process: its paths and templates, what it opens, and its end.

On SIGTERM: stop accepting, let open requests finish, then close the connections to Redis.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp_jinja2
import jinja2
from aiohttp import web

from consent_web import apps_pages, dashboard, files, funding, guard, popup
from consent_web.money_text import cap_text, exact, usd
from consent_web.openrouter import OpenRouter
from consent_web.site import SITE, Site, build
from gateway.logs import log
from gateway.openrouter.client import Client
from gateway.services import open_services, refuse_eviction
from gateway.settings import Settings

_TEMPLATES = Path(__file__).parent / "templates"
# How long a connection may be idle, and how long a head may take: aiohttp has one timer for both, of an hour.
_KEEPALIVE_SECONDS = 75.0


def create_app(site: Site) -> web.Application:
    """Return a site as an aiohttp application."""
    app = web.Application(middlewares=[guard.edge], client_max_size=guard.BODY_BYTES)
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
    app.add_routes([*popup.routes(), *funding.routes(), *dashboard.routes(), *apps_pages.routes(), *files.routes()])
    return app


@contextlib.asynccontextmanager
async def open_site(settings: Settings) -> AsyncIterator[Site]:
    """Yield a site on the settings' Redis. Raises EmbeddedError, SettingsError (a Redis that may evict)."""
    async with open_services(settings) as services:
        await refuse_eviction(services.store)
        client = Client.of(settings)
        try:
            yield build(services, OpenRouter(settings.openrouter_base_url, client))
        finally:
            await client.close()


def make_runner(app: web.Application, *, drain_seconds: float) -> web.AppRunner:
    """Return what serves the site, and closes a connection that is idle, or whose head takes, for too long."""
    return web.AppRunner(app, access_log=None, shutdown_timeout=drain_seconds, keepalive_timeout=_KEEPALIVE_SECONDS)


async def serve(settings: Settings, *, shared_port: bool) -> None:
    """Serve until SIGTERM or SIGINT. Raises EmbeddedError, OSError."""
    async with open_site(settings) as site:
        runner = make_runner(create_app(site), drain_seconds=settings.drain_seconds)
        await runner.setup()
        try:
            listening = web.TCPSite(
                runner, settings.host, settings.port, reuse_address=True, reuse_port=shared_port or None
            )
            await listening.start()
            log.info("consent_listening", host=settings.host, port=settings.port)
            await _told_to_stop()
        finally:
            await runner.cleanup()


def moment(ms: int | str | None) -> str:
    """Return `23 Nov 2026, 15:04 UTC` for unix milliseconds; a dash for none."""
    return datetime.fromtimestamp(int(ms) / 1000, UTC).strftime("%-d %b %Y, %H:%M UTC") if ms else "–"


def stamp(ms: int | str | None) -> str:
    """Return the same moment for a `datetime` attribute."""
    return datetime.fromtimestamp(int(ms) / 1000, UTC).isoformat(timespec="seconds") if ms else ""


async def _told_to_stop() -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, told.set)
    await told.wait()
