"""One try to deliver one message: an HTTP POST to where its app said, and nowhere else.

Rule: no proxy, no cookie, no redirect, no password from a file, and only addresses that `addresses` lets through.
Rule: what is learnt of a try is a status or the kind of a failure. Neither URL nor answer is kept or logged.
"""

import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from gateway.openrouter.retry_after import retry_after_seconds
from gateway.webhooks.addresses import AddressRefused, socket_factory
from gateway.webhooks.messages import Message

GONE: Final = 410
# Of an answer only its status line and headers are read; this is more than any server sends.
_HEAD_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one try. `status`: of the answer, None without one. `failure`: in a word; empty when delivered.

    `retry_after_seconds`: what the answer asked for, an hour at most.
    """

    status: int | None = None
    failure: str = ""
    retry_after_seconds: int | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether the app has taken it."""
        return not self.failure

    @property
    def is_gone(self) -> bool:
        """Whether the app wants no more of them."""
        return self.status == GONE


class Delivery:
    """Sends messages. `seconds`: for one try, from the look-up of the name to the head of the answer."""

    def __init__(self, *, seconds: float, loopback: bool) -> None:
        self.seconds = seconds
        connector = aiohttp.TCPConnector(
            # A name is looked up for each try, by this alone, and each address is checked as its socket is made.
            use_dns_cache=False,
            socket_factory=socket_factory(loopback=loopback),
            # Events are rare: no connection is kept for the next one.
            force_close=True,
            # The sender bounds how many there are.
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
        """Try once. Never raises but for cancellation: whatever an app's server does is an outcome."""
        try:
            async with self._session.post(
                url, data=message.body, headers=message.headers(secrets), allow_redirects=False
            ) as response:
                status = response.status
                asked = retry_after_seconds(response.headers, {}, b"", now_ms=time.time_ns() // 1_000_000)
                # The body stays unread, however long it is.
                response.close()
        except (TimeoutError, aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as failed:
            return Outcome(failure=_word(failed))
        if 200 <= status < 300:
            return Outcome(status)
        return Outcome(status, f"status {status}", asked)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._session.close()


def _word(failed: BaseException) -> str:
    """Return what failed, without its own words: they name the URL."""
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
