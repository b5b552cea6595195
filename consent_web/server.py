"""The consent site as an aiohttp application: its paths, its templates and what it opens and closes."""

from pathlib import Path

import aiohttp
import aiohttp_jinja2
import jinja2
from aiohttp import web

from consent_web import files, funding, guard, popup
from consent_web.money_text import cap_text, exact, usd
from consent_web.openrouter import OpenRouter
from consent_web.site import SITE, build
from gateway.settings import Settings
from gateway.store import Store

_TEMPLATES = Path(__file__).parent / "templates"


async def create_app(settings: Settings, redis_url: str) -> web.Application:
    """Return the site on the Redis at `redis_url`; closing the application closes what it opened."""
    app = web.Application(middlewares=[guard.edge], client_max_size=guard.BODY_BYTES)
    store = await Store.open(redis_url, deadline_ms=settings.redis_deadline_ms)
    http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=True)
    app[SITE] = build(settings, store, OpenRouter(settings.openrouter_base_url, http))
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"usd": usd, "exact": exact, "cap": cap_text}
    app.add_routes([*popup.routes(), *funding.routes(), *files.routes()])

    async def close(_: web.Application) -> None:
        await http.close()
        await store.close()

    app.on_cleanup.append(close)
    return app
