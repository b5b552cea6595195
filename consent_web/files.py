"""Serves static files: the site's own under a hashed folder, the browser SDK by plain and by hashed name."""

import gzip
from functools import lru_cache

import brotli
from aiohttp import web

from consent_web.assets import Asset
from consent_web.site import SITE

_FOR_EVER = "public, max-age=31536000, immutable"
# The content of the plain SDK name changes with each release, so browsers may cache it for five minutes only.
_FOR_MINUTES = "public, max-age=300"
_MOST_PACKED = 64  # the site's and the SDK's files, each in two encodings


def routes() -> list[web.RouteDef]:
    """Return the paths of files."""
    return [web.get("/static/{version}/{name}", own), web.get("/sdk/{name}", sdk), web.get("/favicon.ico", icon)]


async def own(request: web.Request) -> web.Response:
    """Answer `GET /static/{version}/{name}`."""
    assets = request.app[SITE].assets
    asset = assets.own.get(request.match_info["name"])
    if asset is None or request.match_info["version"] != assets.version:
        raise web.HTTPNotFound
    return _file(request, asset, _FOR_EVER)


async def sdk(request: web.Request) -> web.Response:
    """Answer `GET /sdk/client.js` and `/sdk/client.<hash>.js`, loadable by every app's pages."""
    found = request.app[SITE].assets.sdk(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound
    asset, is_hashed = found
    response = _file(request, asset, _FOR_EVER if is_hashed else _FOR_MINUTES)
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


async def icon(_: web.Request) -> web.Response:
    """Answer `GET /favicon.ico`, which browsers request although the pages name their icon."""
    return web.Response(status=204, headers={"Cache-Control": _FOR_MINUTES})


def _file(request: web.Request, asset: Asset, caching: str) -> web.Response:
    headers, body = {"Cache-Control": caching, "Vary": "Accept-Encoding"}, asset.body
    accepted = {word.strip() for word in request.headers.get("Accept-Encoding", "").lower().split(",")}
    coding = next((coding for coding in ("br", "gzip") if coding in accepted), None)
    if coding is not None:
        headers["Content-Encoding"], body = coding, _packed(asset.body, coding)
    return web.Response(body=body, content_type=asset.content_type, charset="utf-8", headers=headers)


@lru_cache(_MOST_PACKED)
def _packed(body: bytes, coding: str) -> bytes:
    """Return a file compressed at the highest level, cached."""
    packed: bytes = brotli.compress(body) if coding == "br" else gzip.compress(body, mtime=0)
    return packed
