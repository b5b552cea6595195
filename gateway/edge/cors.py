"""What pages of other origins may ask, and read of the answers.

Rule: a preflight carries no token, so it is answered alike for every web origin: it tells nobody which are registered.
Rule: what an account holds is read by a page of the token's own app alone; why a call was refused, by the page that
made it. A refusal that no page could read would look like a lost network.
"""

from aiohttp import web

from gateway.call import Call
from gateway.payers.origins import OriginRefused, normalize

_MAX_AGE_SECONDS = 600  # Chromium keeps two hours at most
_LONGEST_READABLE = 200


def preflight(call: Call, methods: list[str]) -> web.Response:
    """Answer a browser's question whether a page may call with these methods."""
    origin = call.request.headers.get("Origin", "")
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


def let_read(call: Call, response: web.StreamResponse) -> None:
    """Let the calling page read an answer to an origin that its token's app registered, or a refusal."""
    origin, is_refused = call.request.headers.get("Origin", ""), "code" in call.notes
    if call.allowed_origin or (is_refused and is_web_origin(origin)):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "x-wattfare-request-id, Retry-After"
        response.headers["Vary"] = "Origin"


def is_web_origin(origin: str) -> bool:
    """Tell whether a page on the web can have this origin: `null`, other schemes and other spellings are none."""
    try:
        return origin.isascii() and normalize(origin) == origin
    except OriginRefused:
        return False


def readable(origin: str) -> str:
    """Return an origin that was refused, as message and log may show it: whoever sends it chooses its bytes."""
    return origin[:_LONGEST_READABLE].encode("ascii", "replace").decode()
