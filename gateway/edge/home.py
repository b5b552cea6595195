"""The page at the API's root address, for a person who opens it in a browser: what this is, and links.

Rule: it is made once, from settings only; it takes no input, runs no script and loads no resources.
"""

import base64
import hashlib
from collections.abc import Awaitable, Callable
from html import escape

from aiohttp import web

from gateway.call import Call
from gateway.settings import Settings

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}"
    "body{color:#1b1b1b;background:#fff}"
    "code,pre{font:14px/1.5 ui-monospace,monospace}pre{overflow-x:auto;padding:.75rem;background:#f3f3f1}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}a{color:#9ec5ff}pre{background:#222}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def home(settings: Settings) -> Callable[[Call, tuple[str, ...]], Awaitable[web.Response]]:
    """Return the handler of `GET /`."""
    body = page(settings).encode()

    async def answer(call: Call, _: tuple[str, ...]) -> web.Response:
        headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", **call.own_headers()}
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers)

    return answer


def page(settings: Settings) -> str:
    """Return the HTML for this installation's settings."""
    base, consent = settings.public_url, settings.consent_url
    links = [
        (f"{consent}/docs", "Documentation: from nothing to a metered feature"),
        ("/openapi.json", "Every path of this API, as OpenAPI 3.1"),
        (consent, "What did my apps spend? The payer's dashboard"),
    ]
    if settings.demo_url is not None:
        links.insert(0, (settings.demo_url, "Try it: the demo app"))
    items = "".join(f'<li><a href="{escape(url)}">{escape(text)}</a></li>' for url, text in links)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Wattfare gateway</title><style>{_STYLE}</style>"
        "<h1>Wattfare gateway</h1>"
        "<p>An OpenAI-compatible API to OpenRouter. The app's user pays, within a cap they set, until they stop it.</p>"
        f"<ul>{items}</ul>"
        "<p>Any OpenAI client works; the base URL and one header change:</p>"
        f"<pre>curl {escape(base)}/v1/chat/completions \\\n"
        '  -H "Authorization: Bearer sk_live_…" -H "x-wattfare-user: alice" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        '  -d \'{"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}\'</pre></html>'
    )
