"""CORS: which calls pages of other origins may make, and which answers they can read.

Rule: a preflight has no token, so every web origin gets the same answer, which does not reveal the registered ones.
Rule: only a page of the token's own app can read account data. Any page can read why its call was refused, since an
unreadable refusal would look like a network failure.
"""

from aiohttp import web

from gateway.call import Call
from gateway.payers.origins import OriginRefused, normalize

_MAX_AGE_SECONDS = 600  # below Chromium's maximum of two hours
_LONGEST_READABLE = 200


def preflight(call: Call, methods: list[str]) -> web.Response:
    """Answer a browser's preflight request for a path with these methods."""
    origin = call.headers.get("Origin", "")
    headers = {"Vary": "Origin", **call.own_headers()}
    if is_web_origin(origin):
        headers |= {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": ", ".join(methods),
            "Access-Control-Allow-Headers": "Authorization, Content-Type",
            "Access-Control-Max-Age": str(_MAX_AGE_SECONDS),
        }
    else:
        call.notes["refused_origin"] = readable(origin)
    return web.Response(status=204, headers=headers)


def allow_read(call: Call, response: web.StreamResponse) -> None:
    """Let the page read the answer if the token's app registered its origin, or if the answer is a refusal."""
    origin, is_refused = call.headers.get("Origin", ""), "code" in call.notes
    if call.allowed_origin or (is_refused and is_web_origin(origin)):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "x-wattfare-request-id, Retry-After"
        response.headers["Vary"] = "Origin"


def is_web_origin(origin: str) -> bool:
    """Return whether it is a normalized http(s) origin; `null`, other schemes and other spellings are not."""
    try:
        return origin.isascii() and normalize(origin) == origin
    except OriginRefused:
        return False


def readable(origin: str) -> str:
    """Return a refused origin in a form that is safe to log and show, as the caller chooses its bytes."""
    return origin[:_LONGEST_READABLE].encode("ascii", "replace").decode()
