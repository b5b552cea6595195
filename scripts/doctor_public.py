"""The doctor's checks from outside: DNS names, certificates, both services, OpenRouter, and one stream.

Rule: the checks cost nothing: the stream is in test mode, by an app of the doctor's own.
"""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aiohttp

from gateway.errors import UpstreamError
from gateway.keys import Budget
from gateway.openrouter.client import Client
from gateway.payers.connections import Approval
from gateway.services import Services
from scripts.findings import Finding

_ASK_SECONDS = 10.0
# Certificates are usually renewed a month before their end, so two weeks before it the renewal has failed.
_LEAST_CERTIFICATE_DAYS = 14
_DAY_SECONDS = 86_400
DOCTORS_APP = "Wattfare doctor"
_DOCTORS_ORIGIN = "https://doctor.invalid"
# Eight words at intervals of a quarter of a second: if they arrive in less than half of that time, something buffers.
_MODEL, _WORDS, _PAUSE_SECONDS = "sandbox/slow-250", "one two three four five six seven eight", 0.25


async def names(services: Services) -> AsyncIterator[Finding]:
    """Check that both public names resolve, and that their certificates are valid for long enough."""
    settings = services.settings
    for variable, url in (("WATTFARE_PUBLIC_URL", settings.public_url), ("WATTFARE_CONSENT_URL", settings.consent_url)):
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            yield Finding(
                f"name of {variable}", f"{host} does not resolve", "set its A or AAAA record at your DNS host"
            )
            continue
        if parts.scheme == "https":
            yield await _certificate(variable, host, port)


async def _certificate(variable: str, host: str, port: int) -> Finding:
    what = f"certificate of {variable}"
    try:
        days = await asyncio.to_thread(_certificate_days, host, port)
    except ssl.SSLError as refused:
        reason = getattr(refused, "verify_message", "") or refused.reason or type(refused).__name__
        return Finding(what, f"browsers refuse it: {reason}", "have the proxy in front get one for this very name")
    except OSError as away:
        result = f"{host}:{port} cannot be reached ({away.strerror or type(away).__name__})"
        return Finding(what, result, "start the proxy in front, and open its port")
    if days < _LEAST_CERTIFICATE_DAYS:
        return Finding(what, f"ends in {days:.0f} days", "see why the proxy in front does not renew it")
    return Finding(what, f"good for {days:.0f} days")


def _certificate_days(host: str, port: int) -> float:
    """Return the days until a host's certificate expires. Raises OSError, ssl.SSLError if browsers would refuse it."""
    context = ssl.create_default_context()
    with (
        socket.create_connection((host, port), timeout=_ASK_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        ends = str((secured.getpeercert() or {}).get("notAfter", ""))
    return (ssl.cert_time_to_seconds(ends) - time.time()) / _DAY_SECONDS


async def services_answer(services: Services) -> AsyncIterator[Finding]:
    """Check that each public URL leads to its service, and that the service is ready."""
    settings = services.settings
    wanted = (
        ("gateway", "WATTFARE_PUBLIC_URL", settings.public_url, "/openapi.json"),
        ("consent site", "WATTFARE_CONSENT_URL", settings.consent_url, "/consent"),
    )
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASK_SECONDS)) as session:
        for name, variable, url, own_page in wanted:
            try:
                async with session.get(url + "/readyz") as ready, session.get(url + own_page) as page:
                    if page.status != 200:
                        result = f"{url} leads to something else: {own_page} is {page.status}"
                        yield Finding(name, result, f"point {variable}'s name, or the proxy in front, at the {name}")
                    elif ready.status != 200:
                        yield Finding(name, f"not ready ({ready.status})", "see its log; mostly Redis is away for it")
                    else:
                        yield Finding(name, f"ready at {url}")
            except (aiohttp.ClientError, TimeoutError, OSError) as away:
                result = f"does not answer at {url} ({type(away).__name__})"
                yield Finding(name, result, f"start it, and see that {variable} leads to it")


async def openrouter(services: Services) -> AsyncIterator[Finding]:
    """Check that OpenRouter returns its list of models."""
    client = Client.of(services.settings)
    try:
        document = await client.fetch("models")
        result = f"answers {document.status} for its list of models"
        mend = "" if document.status == 200 else "see OPENROUTER_BASE_URL; OpenRouter's own state: status.openrouter.ai"
        yield Finding("openrouter", result, mend)
    except UpstreamError as away:
        yield Finding("openrouter", away.message, "see OPENROUTER_BASE_URL, the firewall and HTTPS_PROXY")
    finally:
        await client.close()


async def stream(services: Services) -> AsyncIterator[Finding]:
    """Check that a stream through the public URL is not buffered on the way."""
    secret, app_id = await _own_secret(services)
    await services.connections.approve(Budget.of_user("test", app_id, "doctor"), Approval(None, None))
    body = {"model": _MODEL, "stream": True, "messages": [{"role": "user", "content": _WORDS}]}
    headers = {"Authorization": f"Bearer {secret}", "x-wattfare-user": "doctor"}
    url = f"{services.settings.public_url}/v1/chat/completions"
    arrivals: list[float] = []
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASK_SECONDS)) as session,
            session.post(url, json=body, headers=headers) as answer,
        ):
            if answer.status != 200:
                yield Finding("stream", f"refused with {answer.status}", f"see what answers at {url}")
                return
            async for chunk in answer.content.iter_any():
                arrivals += [time.monotonic()] * bool(chunk)
    if not arrivals:
        yield Finding("stream", f"nothing came from {url}", "see the gateway above")
        return
    lasted, expected = arrivals[-1] - arrivals[0], _PAUSE_SECONDS * len(_WORDS.split())
    if lasted < expected / 2:
        result = f"all of it came within {lasted:.1f} s, though it is made over {expected:.1f}"
        yield Finding("stream", result, "turn buffering off in the proxy in front (nginx: proxy_buffering off)")
    else:
        yield Finding("stream", f"comes as it is made, in {len(arrivals)} pieces over {lasted:.1f} s")


async def _own_secret(services: Services) -> tuple[str, str]:
    """Return a test secret and the id of the doctor's own app, which is registered once; its secret is rotated."""
    known = next((app for app in await services.apps.every() if app.name == DOCTORS_APP and not app.is_closed), None)
    if known is None:
        made = await services.apps.create(DOCTORS_APP, [_DOCTORS_ORIGIN])
        return made["testSecretKey"], made["appId"]
    return await services.apps.rotate(known.app_id, "test", grace_seconds=0), known.app_id
