"""The OpenRouter client: requests out, answers in as bytes, failures translated once.

Rule: a chunk is handed on as it arrives. Rule: no request is sent twice; OpenRouter has no idempotency key.
"""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.errors import UpstreamError

_HEADER_BYTES = 64 * 1024
# Under the idle limit of any common server (uvicorn's is 5 s), so that a kept connection is seldom a dead one:
# a request lost on a dead one may have been billed and is not sent again.
_KEEPALIVE_SECONDS = 4
# After the terminal event nothing more is owed to the caller; upstream may hang open (openrouter.md §10.3).
_AFTER_DONE_SECONDS = 1.0
_LOOKUP_SECONDS = 10.0
_REFUSAL_BYTES = 256 * 1024
# aiohttp writes bytes at one go, and warns of it from this size on; a file it writes piece by piece.
_LARGE_BYTES = 1024 * 1024

# RFC 9110 §7.6.1, and what a proxy decides for itself.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# Ours to set, or nobody's business upstream: credentials, the caller's address, our own headers.
_NOT_FORWARDED = HOP_BY_HOP | {
    "accept-encoding",
    "authorization",
    "cf-connecting-ip",
    "content-encoding",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "origin",
    "true-client-ip",
    "via",
    "x-api-key",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
}
_OUR_PREFIX = "x-wattfare-"

_on_connected: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar("on_connected", default=None)


class Reply(Protocol):
    """An answer that is on its way in. `chunks` raises UpstreamError when it breaks off."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives."""
        ...

    async def read(self) -> bytes:
        """Return the body of a refusal, bounded."""
        ...

    def finish_soon(self) -> None:
        """Note that the terminal event was seen: what follows is awaited for a moment only."""
        ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long upstream may take, in seconds: to connect, to answer at all, to be silent."""

    connect: float
    first_byte: float
    silence: float


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON document of OpenRouter's as it came."""

    status: int
    body: bytes
    content_type: str


class _Pieces(io.BytesIO):
    """A large body, which aiohttp reads piece by piece in a thread; tells the event loop when it has the last one."""

    def __init__(self, body: bytes, on_sent: Callable[[], None]) -> None:
        super().__init__(body)
        self._size = len(body)
        self._loop = asyncio.get_running_loop()
        self._on_sent = on_sent

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next piece."""
        piece = super().read(size)
        if piece and self.tell() == self._size:
            self._loop.call_soon_threadsafe(self._on_sent)
        return piece


class _Connector(aiohttp.TCPConnector):
    """Announces a request once its connection stands, before its first byte leaves.

    A trace of aiohttp's would do, but leaves the new connection open for ever when the announcement is cancelled.
    """

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        announce = _on_connected.get()
        try:
            if announce is not None:
                await announce()
        except BaseException:
            connection.close()
            raise
        return connection


class Upstream:
    """OpenRouter at one base URL."""

    def __init__(self, base_url: str, timeouts: Timeouts) -> None:
        self._api = f"{base_url}/api/v1"
        self._timeouts = timeouts
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    @contextlib.asynccontextmanager
    async def open(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        funding_key: str,
        on_connected: Callable[[], Awaitable[None]],
        on_sent: Callable[[], None],
    ) -> AsyncIterator["StreamedReply"]:
        """POST `body`; yield the reply once its headers are here.

        `on_connected` runs before the first byte leaves, `on_sent` when the last one is on its way: before that nothing
        can be billed. Raises UpstreamError (502 failed, 504 took too long).
        """
        sent = CIMultiDict(headers)
        sent["Authorization"] = f"Bearer {funding_key}"
        sent["Accept-Encoding"] = "identity"
        sent["Content-Length"] = str(len(body))

        async def announce() -> None:
            await on_connected()
            if len(body) < _LARGE_BYTES:
                # It leaves in one piece, and with the headers, before anything else runs.
                on_sent()

        token = _on_connected.set(announce)
        try:
            async with asyncio.timeout(self._timeouts.first_byte):
                response = await self._session.post(
                    f"{self._api}/{path}",
                    data=body if len(body) < _LARGE_BYTES else _Pieces(body, on_sent),
                    headers=sent,
                    allow_redirects=False,
                )
        except TimeoutError:
            raise UpstreamError("OpenRouter did not answer in time. Try again.", status=504) from None
        except (aiohttp.ClientError, OSError) as failed:
            raise UpstreamError(f"OpenRouter could not be reached ({type(failed).__name__}). Try again.") from None
        finally:
            _on_connected.reset(token)
        try:
            yield StreamedReply(response, self._timeouts.silence)
        finally:
            # A connection whose body was not read to its end must not be used again; closing it stops the billing.
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    async def generation(self, generation_id: str, funding_key: str) -> Document:
        """Ask what one generation cost. Raises UpstreamError when OpenRouter cannot be asked."""
        return await self.fetch(f"generation?id={quote(generation_id, safe='')}", funding_key)

    async def fetch(self, path: str, funding_key: str | None = None) -> Document:
        """GET a document below `/api/v1/`. Raises UpstreamError when OpenRouter cannot be asked."""
        headers = {"Accept-Encoding": "identity", "Accept": "application/json"}
        if funding_key is not None:
            headers["Authorization"] = f"Bearer {funding_key}"
        try:
            async with (
                asyncio.timeout(_LOOKUP_SECONDS),
                self._session.get(f"{self._api}/{path}", headers=headers, allow_redirects=False) as response,
            ):
                return Document(response.status, await response.read(), response.content_type)
        except TimeoutError:
            raise UpstreamError("OpenRouter did not answer in time. Try again.", status=504) from None
        except (aiohttp.ClientError, OSError) as failed:
            raise UpstreamError(f"OpenRouter could not be reached ({type(failed).__name__}). Try again.") from None


class StreamedReply:
    """One answer of OpenRouter's."""

    def __init__(self, response: aiohttp.ClientResponse, silence_seconds: float) -> None:
        self._response = response
        self._silence_seconds = silence_seconds
        self._is_finishing = False
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, also what arrived before it broke. Raises UpstreamError when it breaks off."""
        content = self._response.content
        while True:
            try:
                async with asyncio.timeout(_AFTER_DONE_SECONDS if self._is_finishing else self._silence_seconds):
                    chunk = await content.readany()
            except TimeoutError:
                if self._is_finishing:
                    return
                raise UpstreamError("OpenRouter fell silent. Try again.", status=504) from None
            except (aiohttp.ClientError, OSError) as failed:
                # aiohttp raises before it hands out what had already arrived; those bytes are the caller's.
                rest = content._read_nowait(-1)  # noqa: SLF001
                if rest:
                    yield rest
                raise UpstreamError(f"OpenRouter's answer broke off ({type(failed).__name__}).") from None
            if not chunk:
                return
            yield chunk

    async def read(self) -> bytes:
        """Return at most 256 kB of the body; an answer that breaks off ends there."""
        body = bytearray()
        with contextlib.suppress(UpstreamError):
            async for chunk in self.chunks():
                body += chunk
                if len(body) > _REFUSAL_BYTES:
                    break
        return bytes(body[:_REFUSAL_BYTES])

    def finish_soon(self) -> None:
        """Note that the terminal event was seen."""
        self._is_finishing = True


def forwarded(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Return the caller's headers that may go to OpenRouter: none that names, authenticates or locates the caller."""
    named = {name.strip().lower() for value in headers.getall("Connection", ()) for name in value.split(",")}
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        lowered = name.lower()
        if lowered not in _NOT_FORWARDED and lowered not in named and not lowered.startswith(_OUR_PREFIX):
            kept.add(name, value)
    kept.setdefault("Content-Type", "application/json")
    return kept
