"""One attempt to deliver one message: an HTTP POST to the app's endpoint.

Rule: no proxy, no cookies, no redirects, no .netrc, and only addresses that `addresses` allows.
Rule: an attempt yields a status or the kind of a failure. Neither the URL nor the answer is kept or logged.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.openrouter.retry_after import retry_after_seconds
from gateway.webhooks.addresses import AddressRefused, socket_factory
from gateway.webhooks.messages import Message

GONE: Final = 410
# Only the status line and headers of an answer are read. No server sends a line this long.
_HEAD_BYTES = 16_384
# A look-up outlasts its attempt where a name server hangs: some ten for each such app, until the app is paused.
_MOST_LOOK_UPS = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one attempt. `status`: of the answer, None without one. `failure`: in a word; empty on success.

    `retry_after_seconds`: the answer's Retry-After, an hour at most.
    """

    status: int | None = None
    failure: str = ""
    retry_after_seconds: int | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether the answer was 2xx."""
        return not self.failure

    @property
    def is_gone(self) -> bool:
        """Whether the app asked for no more events."""
        return self.status == GONE


class _Resolver(AbstractResolver):
    """Looks names up in threads of its own, so that a name server that hangs blocks none of the event loop's threads.

    Those count the prompts of requests and look OpenRouter up.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_MOST_LOOK_UPS, "webhook-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return every address of `host`. Raises OSError."""
        look_up = partial(
            socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=str(place[0]), port=port, family=kind, proto=protocol, flags=numeric)
            for kind, _, protocol, _, place in found
        ]

    async def close(self) -> None:
        """Begin no look-up any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Delivery:
    """Sends messages. `seconds`: for one attempt, from the DNS look-up to the headers of the answer."""

    def __init__(self, *, seconds: float, loopback: bool) -> None:
        self.seconds = seconds
        self._resolver = _Resolver()
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            # Each attempt looks the name up once, and each address is checked when its socket is created.
            use_dns_cache=False,
            socket_factory=socket_factory(loopback=loopback),
            # Events are rare: a kept connection would idle out.
            force_close=True,
            # The sender limits concurrency.
            limit=0,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=seconds),
            trust_env=False,
            auto_decompress=False,
            max_line_size=_HEAD_BYTES,
            max_field_size=_HEAD_BYTES,
        )

    async def send(self, url: str, secrets: Sequence[str], message: Message) -> Outcome:
        """Make one attempt. Whatever the server does is an outcome; raises only CancelledError."""
        try:
            async with self._session.post(
                url, data=message.body, headers=message.headers(secrets), allow_redirects=False
            ) as response:
                status = response.status
                asked = retry_after_seconds(response.headers, {}, b"", now_ms=time.time_ns() // 1_000_000)
                # The body is not read, however long it is.
                response.close()
        except (TimeoutError, aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as failed:
            return Outcome(failure=_word(failed))
        if 200 <= status < 300:
            return Outcome(status)
        return Outcome(status, f"status {status}", asked)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
        await self._resolver.close()


def _word(failed: BaseException) -> str:
    """Return what failed, without the exception's message, which contains the URL."""
    known: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
        (AddressRefused, "private address"),
        (aiohttp.ClientConnectorDNSError, "name not found"),
        (aiohttp.ClientConnectorCertificateError, "certificate"),
        (ssl.SSLError, "tls"),
        (aiohttp.ClientSSLError, "tls"),
        (TimeoutError, "timeout"),
        (aiohttp.ClientConnectorError, "not reached"),
        (aiohttp.ServerDisconnectedError, "no answer"),
    )
    causes = (failed, failed.__cause__, getattr(failed, "os_error", None))
    for kind, word in known:
        if any(isinstance(cause, kind) for cause in causes):
            return word
    return "no http"
