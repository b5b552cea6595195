"""The OpenRouter client: connections for metered requests, small documents whole, and what may be forwarded.

Rule: a chunk is handed on as it arrives. Rule: no metered request is sent twice; OpenRouter has no idempotency key.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlsplit

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.errors import UpstreamError
from gateway.openrouter.connection import Connection, Pool
from gateway.openrouter.dialer import Dialer
from gateway.settings import Settings

# After the terminal event nothing more is owed to the caller; upstream may hang open (openrouter.md §10.3).
_AFTER_DONE_SECONDS = 1.0
_LOOKUP_SECONDS = 10.0
# OpenRouter's list of models has less than a megabyte.
_DOCUMENT_BYTES = 16 * 1024 * 1024
_REFUSAL_BYTES = 256 * 1024

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


class Client:
    """OpenRouter at one base URL. `proxy_url`: an http:// proxy to tunnel through, None for none."""

    def __init__(self, base_url: str, timeouts: Timeouts, *, proxy_url: str | None = None) -> None:
        base = urlsplit(base_url)
        self.timeouts = timeouts
        self._dialer = Dialer(base, proxy_url)
        self._pool = Pool()
        self._api = f"{base.path}/api/v1/"
        # Our own ask for identity: an answer that is compressed can be relayed, but not metered.
        self._own_lines = f"Host: {base.netloc}\r\nAccept-Encoding: identity\r\n"

    @classmethod
    def of(cls, settings: Settings) -> "Client":
        """Return a client for the OpenRouter that the settings name."""
        timeouts = Timeouts(
            settings.upstream_connect_seconds, settings.upstream_first_byte_seconds, settings.upstream_silence_seconds
        )
        return cls(settings.openrouter_base_url, timeouts, proxy_url=settings.upstream_proxy)

    def take_idle(self) -> Connection | None:
        """Return a kept connection, None when none is fit for use."""
        return self._pool.take()

    async def connect(self) -> Connection:
        """Return a new connection. Raises UpstreamError (502 refused, 504 took too long)."""
        try:
            async with asyncio.timeout(self.timeouts.connect):
                return await self._dialer.dial(Connection(self._pool))
        except TimeoutError:
            raise UpstreamError("OpenRouter could not be reached in time. Try again.", status=504) from None
        except (OSError, RuntimeError, UnicodeError) as failed:
            raise UpstreamError(f"OpenRouter could not be reached ({type(failed).__name__}). Try again.") from None

    def head(self, path: str, headers: Iterable[tuple[str, str]], funding_key: str, length: int) -> bytes:
        """Return the head of a POST below `/api/v1/`: `headers`, which `forwarded` let pass, and our own."""
        return self._head("POST", path, (*headers, ("Content-Length", str(length))), funding_key)

    async def generation(self, generation_id: str, funding_key: str) -> Document:
        """Ask what one generation cost. Raises UpstreamError when OpenRouter cannot be asked."""
        return await self.fetch(f"generation?id={quote(generation_id, safe='')}", funding_key)

    async def fetch(self, path: str, funding_key: str | None = None) -> Document:
        """GET a document below `/api/v1/`. Raises UpstreamError when OpenRouter cannot be asked."""
        request = self._head("GET", path, [("Accept", "application/json")], funding_key)
        async with _within(_LOOKUP_SECONDS):
            kept = self.take_idle()
            if kept is not None:
                # It may have been closed while it was idle; what only asks may ask again.
                with contextlib.suppress(UpstreamError):
                    return await _read_whole(kept, request)
            return await _read_whole(await self.connect(), request)

    async def post_json(self, path: str, document: Mapping[str, object]) -> Document:
        """POST a small document below `/api/v1/`, without a key and never twice. Raises UpstreamError."""
        body = json.dumps(document).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        async with _within(_LOOKUP_SECONDS):
            return await _read_whole(await self.connect(), self._head("POST", path, headers, None) + body)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    def _head(self, method: str, path: str, headers: Iterable[tuple[str, str]], funding_key: str | None) -> bytes:
        lines = [f"{name}: {value}\r\n" for name, value in headers]
        if funding_key is not None:
            lines.append(f"Authorization: Bearer {funding_key}\r\n")
        given = "".join(lines)
        if not given.count("\r") == given.count("\n") == len(lines):
            raise ValueError("a header holds a line break")
        head = f"{method} {self._api}{path} HTTP/1.1\r\n{self._own_lines}{given}\r\n"
        return head.encode("utf-8", "surrogateescape")


@contextlib.asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    """Say in our words that the block took too long."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise UpstreamError("OpenRouter did not answer in time. Try again.", status=504) from None


async def _read_whole(connection: Connection, request: bytes) -> Document:
    """Send a small request and return its answer, whole. Raises UpstreamError."""
    progress = asyncio.Event()
    body = bytearray()
    try:
        connection.send(request, b"", progress.set)
        while True:
            progress.clear()
            body += connection.take()
            if len(body) > _DOCUMENT_BYTES:
                raise UpstreamError("OpenRouter's document is too large.")
            if connection.failure is not None:
                raise connection.failure
            if connection.is_ended and connection.status is not None:
                content_type = (connection.header("content-type") or "application/octet-stream").partition(";")[0]
                return Document(connection.status, bytes(body), content_type.strip().lower())
            await progress.wait()
    finally:
        connection.release()


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


class Upstream:
    """The client as `metered/proxy.py` uses it: an answer as a context manager and an iterator."""

    def __init__(self, client: Client) -> None:
        self._client = client

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
        head = self._client.head(path, headers.items(), funding_key, len(body))
        connection = self._client.take_idle() or await self._client.connect()
        try:
            await on_connected()
            if not connection.is_quiet():
                connection.close()
                connection = await self._client.connect()
            reply = StreamedReply(connection, self._client.timeouts.silence)
            reply.send(head, body, on_sent)
            await reply.until_head(self._client.timeouts.first_byte)
            yield reply
        finally:
            connection.release()


class StreamedReply:
    """One answer of OpenRouter's."""

    def __init__(self, connection: Connection, silence_seconds: float) -> None:
        self._connection = connection
        self._silence_seconds = silence_seconds
        self._progress = asyncio.Event()
        self._is_finishing = False
        self.status = 0
        self.headers: Mapping[str, str] = CIMultiDict()

    def send(self, head: bytes, body: bytes, on_sent: Callable[[], None]) -> None:
        """Send the request."""
        connection, is_told = self._connection, False

        def note() -> None:
            nonlocal is_told
            if connection.is_sent and not is_told:
                is_told = True
                on_sent()
            self._progress.set()

        connection.send(head, body, note)

    async def until_head(self, seconds: float) -> None:
        """Wait for status and headers. Raises UpstreamError."""
        async with _within(seconds):
            while self._connection.status is None:
                if self._connection.failure is not None:
                    raise self._connection.failure
                self._progress.clear()
                await self._progress.wait()
        self.status = self._connection.status
        self.headers = CIMultiDict(self._connection.headers)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, also what arrived before it broke. Raises UpstreamError when it breaks off."""
        connection = self._connection
        while True:
            if chunk := connection.take():
                yield chunk
                continue
            if connection.failure is not None:
                raise connection.failure
            if connection.is_ended:
                return
            self._progress.clear()
            try:
                async with asyncio.timeout(_AFTER_DONE_SECONDS if self._is_finishing else self._silence_seconds):
                    await self._progress.wait()
            except TimeoutError:
                if self._is_finishing:
                    return
                raise UpstreamError("OpenRouter fell silent. Try again.", status=504) from None

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
