"""Guards every page: response headers, CSRF checks, the browser's cookies, and the one error boundary.

Rule: a GET changes nothing. A POST must come from a page of this site in the same browser, or is refused.
"""

import asyncio
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp_jinja2
import orjson
from aiohttp import web

from consent_web.browser_label import browser_label
from consent_web.site import SITE, Handler, Site
from gateway.digest import sha256_hex
from gateway.errors import ConsentRequired, InvalidRequest, Unavailable, WattfareError
from gateway.logs import log_bug
from gateway.payers.logins import VISIT_SECONDS, Guest, Visit
from gateway.strict_json import strict_json

BROWSER_COOKIE = "__Host-wattfare-browser"
WALLET_COOKIE = "__Host-wattfare-wallet"
CSRF_HEADER = "x-wattfare-csrf"
# Our pages keep the secret in localStorage, which a page on another port of this host cannot read, unlike cookies.
SECRET_HEADER = "x-wattfare-secret"  # noqa: S105 - the header's name
SECRET_FIELD = "secret"  # noqa: S105
CSRF_FIELD = "csrf"
_BROWSER_SECONDS = 24 * 60 * 60  # outlasts every attempt bound to it, and is renewed with each response
_MOST_BROWSERS = 4  # as many first windows may open at once; further cookies are ignored
_COOKIE_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
BODY_BYTES = 16 * 1024  # the largest body, a session token with a long user id, is a few kB
# Our pages send their few bytes at once.
_BODY_SECONDS = 20.0
_FRAMES = {"iframe", "frame", "embed", "object", "fencedframe"}

_NONCE = web.RequestKey("nonce", str)
_BROWSERS = web.RequestKey("browser_cookies", dict[str, str])
_WALLET = web.RequestKey("wallet_cookie", str)
_SECRET = web.RequestKey("secret", str)

# All features known to Chromium are off, except passkeys (publickey-credentials) for this site only.
_FEATURES = (
    *("accelerometer", "autoplay", "browsing-topics", "camera"),
    *("clipboard-read", "clipboard-write", "compute-pressure", "display-capture", "encrypted-media", "fullscreen"),
    *("gamepad", "geolocation", "gyroscope", "hid", "identity-credentials-get", "idle-detection", "keyboard-map"),
    *("local-fonts", "magnetometer", "microphone", "midi", "otp-credentials", "payment", "picture-in-picture"),
    *("screen-wake-lock", "serial", "speaker-selection", "storage-access", "usb", "window-management"),
    "xr-spatial-tracking",
)
_PERMISSIONS = ", ".join(
    [f"{name}=()" for name in _FEATURES] + [f"publickey-credentials-{verb}=(self)" for verb in ("get", "create")]
)
_HEADERS = {
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Permissions-Policy": _PERMISSIONS,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Origin-Agent-Cluster": "?1",
    "X-Robots-Tag": "noindex",
    "Server": "wattfare",
}
_ONE_YEAR_SECONDS = 365 * 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Browser:
    """The calling browser: the digests of its cookies, and the CSRF tokens that its pages must send.

    Two first windows opened at once get a cookie each. Both are kept, and either identifies this browser.
    """

    digests: tuple[str, ...]
    tokens: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The digest that new attempts and authorizations are bound to."""
        return self.digests[0]

    @property
    def csrf(self) -> str:
        """The CSRF token for a new page."""
        return self.tokens[0]


def nonce(request: web.BaseRequest) -> str:
    """Return the CSP nonce of this response's scripts and styles."""
    if _NONCE not in request:
        request[_NONCE] = secrets.token_urlsafe(18)
    return request[_NONCE]


def browser(request: web.Request) -> Browser | None:
    """Return the browser by its cookies, which the response renews; None if it sent none."""
    if _BROWSERS not in request:
        sent = sorted((name, token) for name, token in request.cookies.items() if name.startswith(BROWSER_COOKIE))
        request[_BROWSERS] = dict([each for each in sent if _COOKIE_TOKEN.fullmatch(each[1])][:_MOST_BROWSERS])
    tokens = request[_BROWSERS].values()
    if not tokens:
        return None
    csrf = (hmac.digest(token.encode(), b"csrf", "sha256").hex() for token in tokens)
    return Browser(tuple(map(sha256_hex, tokens)), tuple(csrf))


def ensure_browser(request: web.Request) -> Browser:
    """Return the browser, setting a new cookie with this response if it has none."""
    found = browser(request)
    if found is None:
        # A random suffix, so that two windows opened at once do not overwrite each other's cookie.
        request[_BROWSERS][f"{BROWSER_COOKIE}-{secrets.token_hex(4)}"] = secrets.token_urlsafe(32)
        found = browser(request)
    if found is None:
        raise AssertionError("a fresh token is well-formed")
    return found


async def visit(request: web.Request) -> Visit | None:
    """Return the browser's visit to its wallet; None if it is not logged in. Raises Unavailable."""
    token = request.cookies.get(WALLET_COOKIE, "")
    return await request.app[SITE].logins.find(token if _COOKIE_TOKEN.fullmatch(token) else "", guest(request))


def guest(request: web.Request) -> Guest:
    """Return the browser's secret (from a header or form field) and its label."""
    secret = request[_SECRET] if _SECRET in request else request.headers.get(SECRET_HEADER, "")
    label = browser_label(request.headers.get("User-Agent", ""))
    return Guest(sha256_hex(secret) if _COOKIE_TOKEN.fullmatch(secret) else "", label)


def set_wallet_cookie(request: web.Request, visit: Visit) -> None:
    """Set a visit's wallet cookie with the response, even if that is an error."""
    request[_WALLET] = visit.token


async def sign_out(request: web.Request) -> None:
    """Sign this browser out of its wallet. Raises Unavailable.

    Without the secret only the cookie is removed and the login stays valid: somebody with a stolen cookie must not be
    able to log out the payer, who could then no longer stop anything.
    """
    found = await visit(request)
    if found is not None and found.is_trusted:
        await request.app[SITE].logins.end(found.wallet_id, found.device)
    request[_WALLET] = ""


async def json_post(request: web.Request, *, check_csrf: bool = True) -> tuple[Browser, dict[str, object]]:
    """Return the posting browser and its JSON object; numbers with a fraction are Decimals.

    Raises ConsentRequired (403: not a page of this site), InvalidRequest (400, 403 no cookie, 413, 415).
    """
    found = _verify_post(request)
    if request.content_type != "application/json":
        raise InvalidRequest("Send JSON.", status=415)
    if check_csrf:
        _check_csrf(found, request.headers.get(CSRF_HEADER, ""))
    return found, await read_json(request)


async def read_json(request: web.Request) -> dict[str, object]:
    """Return a JSON object, numbers with a fraction as Decimal.

    Raises InvalidRequest: 400, 408, or 422 for NaN and Infinity, which are wrong amounts rather than wrong JSON.
    """
    await _read_in_time(request)
    body = await request.read()
    try:
        return strict_json(body)
    except InvalidRequest as refused:
        refused.status = 422 if b"NaN" in body or b"Infinity" in body else refused.status
        raise


async def form_post(request: web.Request) -> Mapping[str, str]:
    """Return the fields of a form of this site. Raises ConsentRequired, InvalidRequest."""
    found = _verify_post(request, form=True)
    if request.content_type != "application/x-www-form-urlencoded":
        raise InvalidRequest("Send a form.", status=415)
    await _read_in_time(request)
    try:
        posted = await request.post()
    except (ValueError, LookupError):
        raise InvalidRequest("The form could not be read.", status=400) from None
    fields = {name: value for name, value in posted.items() if isinstance(value, str)}
    _check_csrf(found, fields.get(CSRF_FIELD, ""))
    request[_SECRET] = fields.get(SECRET_FIELD, "")
    return fields


def is_ours(request: web.Request, *, form: bool = False) -> bool:
    """Return whether a page of this site sent the request: by Sec-Fetch-Site, else by Origin; False without both.

    Our Referrer-Policy makes browsers send `Origin: null` with a `form`; then only Sec-Fetch-Site decides
    (Fetch standard, "append a request Origin header").
    """
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if form and site is not None and origin == "null":
        origin = None
    if origin is not None and origin != request.app[SITE].origin:
        return False
    return site == "same-origin" if site is not None else origin is not None


@web.middleware
async def error_boundary(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every exception into a response, and add the site's headers to every response."""
    try:
        if request.headers.get("Sec-Fetch-Dest") in _FRAMES:
            raise ConsentRequired("This page cannot be shown inside another page. Open it in a window of its own.")
        response = await handler(request)
    except WattfareError as refused:
        response = _refusal(request, refused)
    except web.HTTPException as answer:
        response = _refusal(request, _from_http(answer))
        if "Allow" in answer.headers:
            response.headers["Allow"] = answer.headers["Allow"]
    except Exception as bug:
        resource = request.match_info.route.resource
        log_bug(bug, path=resource.canonical if resource is not None else "")
        response = _refusal(request, WattfareError("Something went wrong here. Nothing was changed. Try again."))
    _add_headers(request, response, request.app[SITE])
    return response


def refuse_http(request: web.BaseRequest, site: Site, answer: web.HTTPException) -> web.Response:
    """Return the response to a request that aiohttp refused before the site's handlers."""
    return refuse_malformed(request, site, _from_http(answer))


def refuse_malformed(request: web.BaseRequest, site: Site, refused: WattfareError) -> web.Response:
    """Return the response to a request that is not valid HTTP, repeating nothing of it."""
    response = web.Response(text=f"{refused.message}\n", status=refused.status)
    _add_headers(request, response, site)
    return response


def page(request: web.Request, template: str, context: Mapping[str, object], *, status: int = 200) -> web.Response:
    """Render a page."""
    site = request.app[SITE]
    shown = {"nonce": nonce(request), "site": site, "assets": site.assets, "path": request.path, **context}
    response = aiohttp_jinja2.render_template(template, request, shown, status=status)
    response.headers["Cache-Control"] = "no-store"
    return response


def json_response(body: object, *, status: int = 200) -> web.Response:
    """Return a JSON response that must not be cached."""
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json", headers=headers)


async def _read_in_time(request: web.Request) -> None:
    """Read the body, which the request caches. Raises InvalidRequest 408 when it is too slow."""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            await request.read()
    except TimeoutError:
        raise InvalidRequest("The request did not come whole in time. Try again.", status=408) from None


def _verify_post(request: web.Request, *, form: bool = False) -> Browser:
    if not is_ours(request, form=form):
        raise ConsentRequired("Only a page of this site may do that.")
    if (request.content_length or 0) > BODY_BYTES:
        raise InvalidRequest("The body is too large.", status=413)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise InvalidRequest("Send the body without Content-Encoding.", status=415)
    if request.headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
        raise InvalidRequest("Send the body in no other transfer coding than chunked.", status=400)
    found = browser(request)
    if found is None:
        raise InvalidRequest(
            "Your browser sent no cookie. Allow cookies for this site and try again.",
            status=403,
            fields={"reason": "cookies"},
        )
    return found


def _check_csrf(found: Browser, token: str) -> None:
    given = token.encode("utf-8", "replace")
    if not any(hmac.compare_digest(own.encode(), given) for own in found.tokens):
        raise ConsentRequired("This page is out of date. Reload it and try again.")


def _wants_json(request: web.Request) -> bool:
    return request.content_type == "application/json" or "application/json" in request.headers.get("Accept", "")


def _from_http(answer: web.HTTPException) -> WattfareError:
    if answer.status == 404:
        return InvalidRequest("There is no such page here.", status=404)
    if answer.status == 405:
        return InvalidRequest("That cannot be done here.", status=405)
    return InvalidRequest("The request could not be read.", status=answer.status)


def _refusal(request: web.Request, refused: WattfareError) -> web.Response:
    if _wants_json(request):
        # In the form of the gateway's ids, but random, so it leads to no budget.
        response = json_response(refused.envelope(f"req_{secrets.token_hex(16)}"), status=refused.status)
    else:
        title = "Back in a moment" if isinstance(refused, Unavailable) else "That did not work"
        context: dict[str, object] = {"title": title, "message": refused.message}
        response = page(request, "message.html", context, status=refused.status)
    response.headers.update(refused.headers)
    return response


def _add_headers(request: web.BaseRequest, response: web.StreamResponse, site: Site) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Content-Security-Policy"] = _policy(nonce(request))
    if request.path != "/consent":
        # Not on /consent, where COOP would sever the popup from its opener permanently.
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    if site.origin.startswith("https://"):
        response.headers["Strict-Transport-Security"] = f"max-age={_ONE_YEAR_SECONDS}; includeSubDomains"
    response.headers.setdefault("Cache-Control", "no-store")
    for name, token in request.get(_BROWSERS, {}).items():
        _set_cookie(response, name, token, _BROWSER_SECONDS)
    if _WALLET in request:
        token = request[_WALLET]
        _set_cookie(response, WALLET_COOKIE, token, VISIT_SECONDS if token else 0)
    if (
        isinstance(response, web.Response)
        and not response.prepared
        and response.body
        and "Content-Encoding" not in response.headers
    ):
        response.enable_compression()


def _policy(value: str) -> str:
    return (
        f"default-src 'none'; script-src 'nonce-{value}' 'strict-dynamic'; style-src 'nonce-{value}'; "
        "connect-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _set_cookie(response: web.StreamResponse, name: str, value: str, seconds: int) -> None:
    response.set_cookie(name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="Lax")
