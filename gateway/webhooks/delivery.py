"""One attempt to deliver one message: an HTTP POST to the app's endpoint.

Rule: no proxy, no cookies, no redirects, no .netrc, and only addresses that `addresses` allows.
Rule: an attempt yields a status or the kind of a failure. Neither the URL nor the answer is kept or logged.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import StreamReader
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage

from gateway.openrouter.retry_after import retry_after_seconds
from gateway.webhooks.addresses import AddressRefused, socket_factory
from gateway.webhooks.messages import Message

GONE: Final = 410
# Only the status line and headers of an answer are read. No server sends a line this long.
_HEAD_BYTES = 16_384
# Informational answers (1xx) before the answer: we ask for none, and a server has a hint or two to give at most.
_MOST_INFORMATIONAL = 8


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
    """Looks each name up in a thread of its own: a name server that hangs blocks none of the event loop's threads.

    Those count the prompts of requests and look OpenRouter up. A pool would keep the process from ending meanwhile.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return every address of `host`. Raises OSError."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[ResolveResult]] = loop.create_future()

        def look_up() -> None:
            try:
                result: list[ResolveResult] | OSError = _addresses(host, port, family)
            except OSError as failed:
                result = failed
            except UnicodeError:
                result = OSError("no host name")
            with contextlib.suppress(RuntimeError):  # The loop has been closed.
                loop.call_soon_threadsafe(_settle, found, result)

        threading.Thread(target=look_up, name="webhook-name", daemon=True).start()
        return await found

    async def close(self) -> None:
        """Do nothing: each thread ends with its look-up."""


def _addresses(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return [
        ResolveResult(hostname=host, host=str(place[0]), port=port, family=kind, proto=protocol, flags=numeric)
        for kind, _, protocol, _, place in found
    ]


def _settle(found: "asyncio.Future[list[ResolveResult]]", result: list[ResolveResult] | OSError) -> None:
    if found.done():
        return  # The attempt has timed out.
    if isinstance(result, OSError):
        found.set_exception(result)
    else:
        found.set_result(result)


class _Answer(aiohttp.ClientResponse):
    """An answer after few informational ones: a flood of those would hold up the event loop for the whole attempt."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Read the head of the answer. Raises ClientError."""
        protocol = connection.protocol
        if protocol is not None:
            read, left = protocol.read, _MOST_INFORMATIONAL

            async def bounded() -> tuple[RawResponseMessage, StreamReader]:
                nonlocal left
                left -= 1
                if left < 0:
                    raise aiohttp.ClientPayloadError
                return await read()

            protocol.read = bounded  # type: ignore[method-assign] # this connection carries no other request
        return await super().start(connection)


class Delivery:
    """Sends messages. `seconds`: for one attempt, from the DNS look-up to the headers of the answer."""

    def __init__(self, *, seconds: float, loopback: bool) -> None:
        self.seconds = seconds
        connector = aiohttp.TCPConnector(
            resolver=_Resolver(),
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
            response_class=_Answer,
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
