"""The OpenRouter client: connections for metered requests, and requests of small documents.

Rule: a chunk is relayed as it arrives. Rule: no metered request is sent twice; OpenRouter has no idempotency key.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from gateway.errors import UpstreamError
from gateway.openrouter.connection import Pool, UpstreamConnection
from gateway.openrouter.dialer import Dialer
from gateway.openrouter.encodings import Undecodable, decoded
from gateway.settings import Settings

_LOOKUP_SECONDS = 10.0
# The largest document accepted. OpenRouter's list of models has less than a megabyte.
_DOCUMENT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Upstream's deadlines in seconds: to connect, for response headers, between bytes, and for comments alone."""

    connect: float
    first_byte: float
    silence: float
    keepalive: float = 1800.0


@dataclass(frozen=True, slots=True)
class Document:
    """A decoded JSON document of OpenRouter."""

    status: int
    body: bytes
    content_type: str


class Client:
    """OpenRouter at one base URL. `proxy_url`: an http:// proxy for a CONNECT tunnel, None for none."""

    def __init__(self, base_url: str, timeouts: Timeouts, *, proxy_url: str | None = None) -> None:
        base = urlsplit(base_url)
        self.timeouts = timeouts
        self._dialer = Dialer(base, proxy_url)
        self._pool = Pool()
        self._api = f"{base.path}/api/v1/"
        # Requests identity coding, because an error event cannot be appended to a compressed stream.
        self._own_lines = f"Host: {base.netloc}\r\nAccept-Encoding: identity\r\n"

    @classmethod
    def of(cls, settings: Settings) -> "Client":
        """Return a client for the OpenRouter of the settings."""
        timeouts = Timeouts(
            settings.upstream_connect_seconds,
            settings.upstream_first_byte_seconds,
            settings.upstream_silence_seconds,
            settings.upstream_keepalive_seconds,
        )
        return cls(settings.openrouter_base_url, timeouts, proxy_url=settings.upstream_proxy)

    def take_idle(self) -> UpstreamConnection | None:
        """Return an idle kept connection, None without a usable one."""
        return self._pool.take()

    async def connect(self) -> UpstreamConnection:
        """Return a new connection. Raises UpstreamError (502 refused, 504 took too long)."""
        try:
            async with asyncio.timeout(self.timeouts.connect):
                return await self._dialer.dial(UpstreamConnection(self._pool))
        except TimeoutError:
            raise UpstreamError("OpenRouter could not be reached in time. Try again.", status=504) from None
        except (OSError, RuntimeError, UnicodeError) as failed:
            raise UpstreamError(f"OpenRouter could not be reached ({type(failed).__name__}). Try again.") from None

    def head(self, path: str, lines: list[str], funding_key: str, length: int) -> bytes:
        """Return the head of a POST below `/api/v1/`: header lines, as filtered by `forwarded`, and our own."""
        return self._head("POST", path, [*lines, f"Content-Length: {length}\r\n"], funding_key)

    async def generation(self, generation_id: str, funding_key: str) -> Document:
        """Look up the cost of one generation. Raises UpstreamError if OpenRouter is not reachable."""
        return await self.fetch(f"generation?id={quote(generation_id, safe='')}", funding_key)

    async def fetch(self, path: str, funding_key: str | None = None, *, most_bytes: int = _DOCUMENT_BYTES) -> Document:
        """GET a document below `/api/v1/`. Raises UpstreamError if OpenRouter is not reachable, or it is too large."""
        request = self._head("GET", path, ["Accept: application/json\r\n"], funding_key)
        async with _within(_LOOKUP_SECONDS):
            kept = self.take_idle()
            if kept is not None:
                # The peer may have closed the idle connection; a read-only request may be repeated.
                with contextlib.suppress(UpstreamError):
                    return await _read_whole(kept, request, most_bytes)
            return await _read_whole(await self.connect(), request, most_bytes)

    async def post_json(
        self, path: str, document: Mapping[str, object], *, most_bytes: int = _DOCUMENT_BYTES
    ) -> Document:
        """POST a small document below `/api/v1/`, without a key and without retries. Raises UpstreamError."""
        body = json.dumps(document).encode()
        lines = ["Content-Type: application/json\r\n", f"Content-Length: {len(body)}\r\n"]
        async with _within(_LOOKUP_SECONDS):
            request = self._head("POST", path, lines, None) + body
            return await _read_whole(await self.connect(), request, most_bytes)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    def _head(self, method: str, path: str, lines: list[str], funding_key: str | None) -> bytes:
        if funding_key is not None:
            lines.append(f"Authorization: Bearer {funding_key}\r\n")
        if not (path.isascii() and path.isprintable()) or " " in path:
            raise ValueError("a path holds what is no part of a URL")
        given = "".join(lines)
        if not given.count("\r") == given.count("\n") == len(lines):
            raise ValueError("a header holds a line break")
        head = f"{method} {self._api}{path} HTTP/1.1\r\n{self._own_lines}{given}\r\n"
        return head.encode("utf-8", "surrogateescape")


@contextlib.asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    """Raise UpstreamError if the block takes too long."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise UpstreamError("OpenRouter did not answer in time. Try again.", status=504) from None


async def _read_whole(connection: UpstreamConnection, request: bytes, most_bytes: int) -> Document:
    """Send a small request and return its whole answer. Raises UpstreamError."""
    progress = asyncio.Event()
    body = bytearray()
    try:
        connection.start(progress.set)
        connection.send(request, b"")
        while True:
            progress.clear()
            body += connection.take()
            if len(body) > most_bytes:
                raise UpstreamError("OpenRouter's document is too large.")
            if connection.failure is not None:
                raise connection.failure
            if connection.is_ended and connection.status is not None:
                content_type = (connection.header("content-type") or "application/octet-stream").partition(";")[0]
                plain = decoded(bytes(body), connection.header("content-encoding"), most_bytes)
                return Document(connection.status, plain, content_type.strip().lower())
            await progress.wait()
    except Undecodable:
        raise UpstreamError(
            "OpenRouter's document cannot be read: it is compressed in a way we did not ask for."
        ) from None
    finally:
        connection.release()
