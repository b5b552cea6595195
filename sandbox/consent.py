"""The /auth page, where a person authorizes a key for an app.

Rule: a GET never approves. OpenRouter's report of a denial is not documented; here it is `?error=access_denied`. The
page sends COOP `same-origin`, which severs it from its opener, so clients must work without one.
"""

import re
import secrets
from collections.abc import Mapping
from html import escape
from urllib.parse import urlsplit

from aiohttp import web
from yarl import URL

from gateway.money import nano_from_usd
from sandbox.api_keys import Consent
from sandbox.state import STATE_KEY

_COOKIE = "sandbox_user"
_USER_ID = re.compile(r"user_[A-Za-z0-9]{1,40}\Z")
_FIELDS = ("callback_url", "code_challenge", "code_challenge_method", "key_label")
_HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store"}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sandbox OpenRouter</title>
<style>body{{font:16px/1.5 system-ui;max-width:32rem;margin:3rem auto;padding:0 1rem}}
label{{display:block;margin:.75rem 0}}input{{width:100%;font:inherit}}
button{{font:inherit;padding:.4rem 1.2rem}}</style>
</head><body><h1>Sandbox OpenRouter</h1>{content}</body></html>
"""

_FORM = """<p>{app} asks for an API key of yours. Nothing here costs money.</p>
<form method="post" action="/auth">{hidden}
<label>Account<input name="account" value="{account}"></label>
<label>Limit in USD (empty: none)<input name="limit" inputmode="decimal" value="{limit}"></label>
<button name="decision" value="authorize">Authorize</button>
<button name="decision" value="deny">Deny</button>
</form>"""


async def ask(request: web.Request) -> web.Response:
    """Answer `GET /auth` with the form, and assign the browser an account if it has none."""
    fault = _fault_of(request.query)
    if fault:
        return _page(f"<p>{escape(fault)}</p>", status=400)
    account = request.cookies.get(_COOKIE, "")
    if not _USER_ID.match(account):
        account = "user_" + secrets.token_hex(14)[:27]
    callback = request.query.get("callback_url", "")
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{escape(request.query.get(name, ""))}">' for name in _FIELDS
    )
    form = _FORM.format(
        app=escape(urlsplit(callback).netloc or "An app without a callback"),
        hidden=hidden,
        account=escape(account),
        limit=escape(request.query.get("limit", "")),
    )
    return _remember(_page(form), account)


async def decide(request: web.Request) -> web.Response:
    """Answer `POST /auth`: redirect to the app with a code or an error; without a callback show the code."""
    form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    account = form.get("account", "")
    fault = _fault_of(form) or ("" if _USER_ID.match(account) else "The account must look like user_abc123.")
    if fault:
        return _page(f"<p>{escape(fault)}</p>", status=400)
    if form.get("decision") != "authorize":
        return _remember(_answer(form, "error", "access_denied"), account)
    state = request.app[STATE_KEY]
    code = state.api_keys.offer(
        Consent(
            user_id=account,
            challenge=form.get("code_challenge") or None,
            method=form.get("code_challenge_method") or "S256",
            label=form.get("key_label", ""),
            limit_nano=nano_from_usd(form["limit"]) if form.get("limit") else None,
            expires_at=state.now() + state.settings.code_life_seconds,
        )
    )
    return _remember(_answer(form, "code", code), account)


def _answer(form: Mapping[str, str], name: str, value: str) -> web.Response:
    callback = form.get("callback_url")
    if not callback:
        return _page(f"<p>{'Your code' if name == 'code' else 'Refused'}: <code>{escape(value)}</code></p>")
    target = str(URL(callback).update_query({name: value}))
    return web.Response(status=303, headers={**_HEADERS, "Location": target})


def _fault_of(fields: Mapping[str, str]) -> str:
    callback, challenge = fields.get("callback_url", ""), fields.get("code_challenge", "")
    if callback and not _may_call_back(callback):
        return "callback_url must be https, or http on localhost or 127.0.0.1."
    if not callback and not challenge:
        return "code_challenge is required without a callback_url."
    if fields.get("code_challenge_method", "") not in ("", "S256", "plain"):
        return "code_challenge_method must be S256 or plain."
    if len(fields.get("key_label", "")) > 100:
        return "key_label must be at most 100 characters."
    try:
        nano_from_usd(fields.get("limit") or "0")
    except ValueError as error:
        return f"limit {error}."
    return ""


def _may_call_back(callback: str) -> bool:
    try:
        parts = urlsplit(callback)
        host = parts.hostname
    except ValueError:
        return False
    is_loopback = parts.scheme == "http" and host in ("localhost", "127.0.0.1")
    return bool(host) and (parts.scheme == "https" or is_loopback)


def _page(content: str, *, status: int = 200) -> web.Response:
    return web.Response(
        status=status, text=_PAGE.format(content=content), content_type="text/html", charset="utf-8", headers=_HEADERS
    )


def _remember(response: web.Response, account: str) -> web.Response:
    response.set_cookie(_COOKIE, account, path="/auth", httponly=True, samesite="Lax", max_age=86_400)
    return response
