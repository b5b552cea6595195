"""One HTTP/1.1 connection to OpenRouter, and the pool of those that are open: a request out, its answer's bytes in.

Rule: an answer is what RFC 9112 says its bytes are.
A connection on which a byte came that nobody asked for is never used again.
"""

import asyncio
import select
from collections.abc import Callable
from functools import lru_cache
from typing import cast

import httptools

from gateway.errors import UpstreamError

# Under the idle limit of any common server (uvicorn's is 5 s), so that a kept connection is seldom a dead one:
# a request lost on a dead one may have been billed and is not sent again.
KEEPALIVE_SECONDS = 4.0
# A caller who takes nothing holds up to this much here, and one read's worth; the rest waits in upstream's own buffers.
_WAITING_BYTES = 64 * 1024
# Up to this size head and body are joined, which costs less than a second write; above it, copying costs more.
_ONE_WRITE_BYTES = 64 * 1024
# A larger body leaves in pieces, so that TLS does not hold up every other request while it encrypts megabytes.
_PIECE_BYTES = 256 * 1024
# What may arrive in a row without a byte of the body: a head, informational heads, trailers, chunk extensions.
_FRAMING_BYTES = 64 * 1024
_MOST_HEADERS = 256
# Nearly all headers repeat from answer to answer.
_REMEMBERED_HEADERS = 4096


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time. `send` begins one, `release` or `close` ends it.

    What httptools (llhttp) refuses by itself: a bare LF or CR, Content-Length beside Transfer-Encoding or twice or no
    number, a chunk size that is none (an HTTP status line, for one), folded lines, bytes that begin no HTTP.
    """

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._clock = asyncio.get_running_loop().time
        self._pieces: list[bytes] = []
        # What the parser calls for each piece of the body, which goes on as it came.
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)
        self._transport = cast("asyncio.Transport", None)
        self._kernel = select.poll()
        self._is_held = True
        """Whether somebody has it; else it is idle or closed."""
        self._is_awaiting = False
        """Whether a request was begun and its answer has not come to an end."""
        self._is_lost = False
        self._is_kept = False
        self._ends_with_connection = False
        self._is_reading_paused = False
        self._is_writing_paused = False
        self._rest = memoryview(b"")
        self._waiting_bytes = 0
        self._framing_bytes = 0
        self._raw_headers: list[tuple[bytes, bytes]] = []
        self._on_progress: Callable[[], None] = _nothing
        self.status: int | None = None
        """The answer's status, None until its head is here."""
        self.headers: list[tuple[str, str]] = []
        """As they came, read as UTF-8; other bytes as surrogate escapes, so that encoding gives them back."""
        self._first_values: dict[str, str] = {}
        self.is_sent = False
        """Whether the whole request is with the kernel. Over TLS, the last 64 kB may still wait below the cipher."""
        self.is_ended = False
        """Whether the body came to its end in order; what `take` still holds belongs to it."""
        self.failure: UpstreamError | None = None
        """Why no more of the answer comes; what arrived before is still to be taken."""
        self.last_heard = self._clock()
        """When the last byte came in, or the request was begun; by the loop's clock."""

    def send(self, head: bytes, body: bytes, on_progress: Callable[[], None]) -> None:
        """Begin a request: head and body leave at once, in one write unless the body is large.

        `on_progress` is called, within the loop's own callbacks, whenever one of the public attributes changed or bytes
        wait to be taken. On a connection that was closed meanwhile nothing is sent, and `failure` says so.
        """
        self._on_progress = on_progress
        self.status, self.headers, self._first_values, self.failure = None, [], {}, None
        self.is_sent = self.is_ended = False
        self._framing_bytes = 0
        self.last_heard = self._clock()
        if self._is_lost or self._transport.is_closing():
            self._fail("OpenRouter closed the connection. Try again.")
            return
        self._is_awaiting = True
        if len(body) <= _ONE_WRITE_BYTES:
            self._transport.write(head + body)
        else:
            self._rest = memoryview(body)
            first, self._rest = self._rest[:_ONE_WRITE_BYTES], self._rest[_ONE_WRITE_BYTES:]
            self._transport.write(b"".join((head, first)))
        self._send_rest()

    def take(self) -> bytes:
        """Return what arrived of the body since the last call, b"" for nothing; upstream may send on."""
        pieces = self._pieces
        if not pieces:
            return b""
        taken = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._waiting_bytes = 0
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._transport.resume_reading()
        return taken

    def header(self, name: str) -> str | None:
        """Return the first value of a header, None without one; `name` in lower case."""
        return self._first_values.get(name)

    def release(self) -> None:
        """End the request. The connection is kept when its answer ended in order and both sides agree to go on."""
        if not self._is_held:
            return
        # An answer that came before the request was out is whole, but the rest of the request is still to be taken.
        if self.is_ended and self._is_kept and self.is_sent and not self._transport.is_closing():
            self._is_held = False
            self._on_progress = _nothing
            self.take()
            self._pool.keep(self)
        else:
            self.close()

    def close(self) -> None:
        """Abort at once, which stops the billing at most providers."""
        self._is_held = self._is_awaiting = False
        self._on_progress = _nothing
        self._rest = memoryview(b"")
        self._transport.abort()

    def cut(self) -> None:
        """End it for whoever has it, who is told by `failure`."""
        self._transport.abort()

    def is_quiet(self) -> bool:
        """Tell whether it stands and nothing has come on it since the last answer, not even as far as the kernel.

        The loop hears of what came in the present turn only after it: a second answer would be taken for the next one.
        """
        return not (self._is_lost or self._transport.is_closing() or self._kernel.poll(0))

    def hold(self) -> None:
        """Take it out of idleness."""
        self._is_held = True

    def _send_rest(self) -> None:
        """Write until the kernel takes no more; note when it has all."""
        while self._rest and not self._is_writing_paused and not self._transport.is_closing():
            piece, self._rest = self._rest[:_PIECE_BYTES], self._rest[_PIECE_BYTES:]
            self._transport.write(piece)
        # A transport that could not write is closing, and says so in the next turn of the loop.
        if not self._is_writing_paused and not self.is_sent and not self._transport.is_closing():
            self.is_sent = True
            self._on_progress()

    def _fail(self, message: str) -> None:
        """End the answer as one that is not whole."""
        self._is_awaiting = False
        self.failure = UpstreamError(message)
        self._transport.abort()
        self._on_progress()

    def _lose(self, fault: Exception | None) -> None:
        """Note that nothing more will come; only for an answer without a length is that its end."""
        self._pool.drop(self)
        if not self._is_awaiting:
            self._transport.abort()
        elif self.status is None:
            self._fail("OpenRouter closed the connection before it answered. Try again.")
        elif self._ends_with_connection and fault is None:
            self._is_awaiting, self.is_ended = False, True
            self._on_progress()
        else:
            self._fail(f"OpenRouter's answer broke off ({type(fault).__name__ if fault else 'connection closed'}).")

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take up the transport."""
        self._transport = cast("asyncio.Transport", transport)
        # Nothing may wait in the transport unnoticed: its pausing tells `is_sent`. uvloop then writes at once, too.
        # A TLS transport pauses from its limit on, not above it: with 0 it would pause when it is empty.
        self._transport.set_write_buffer_limits(high=0 if transport.get_extra_info("ssl_object") is None else 1)
        self._kernel.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._pool.add(self)

    def data_received(self, data: bytes) -> None:
        """Take what came in."""
        if not self._is_awaiting:
            # Nobody asked for it: it was sent to no request, or behind the end of an answer.
            self._pool.drop(self)
            self._transport.abort()
            return
        self.last_heard = self._clock()
        self._framing_bytes += len(data)
        known = len(self._pieces)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self.is_ended:
                # The answer was whole, and says so itself. What stands behind it is nobody's.
                self._transport.abort()
            else:
                self._fail("OpenRouter's answer is no well-formed HTTP.")
                return
        if len(self._pieces) > known:
            self._waiting_bytes += len(data)
            self._framing_bytes = 0
        if self._framing_bytes > _FRAMING_BYTES and not self.is_ended:
            self._fail("OpenRouter's answer has too large a head.")
            return
        if self._waiting_bytes > _WAITING_BYTES and not self.is_ended:
            self._is_reading_paused = True
            self._transport.pause_reading()
        self._on_progress()

    def eof_received(self) -> None:
        """Take the peer's end; the transport then closes ours, too."""
        self._lose(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection, in order (None) or not."""
        self._is_lost = True
        self._lose(exc)
        self._pool.forget(self)

    def pause_writing(self) -> None:
        """Note that the kernel takes no more for now."""
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        """Go on with what is left of the request."""
        self._is_writing_paused = False
        self._send_rest()

    # What the parser calls. An exception ends the parsing.

    def on_message_begin(self) -> None:
        """Refuse a second answer in one packet with the end of the first."""
        if self.is_ended:
            raise ValueError("bytes behind the end")
        self._raw_headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header; trailers, which come after the head, are dropped (RFC 9110 §6.5.1)."""
        if self.status is None:
            self._raw_headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the head, unless it is an informational one, and decide what may follow."""
        status = self._parser.get_status_code()
        if status < 200:
            # 101 would hand the connection to a protocol that nobody asked for; below 100 there is no status.
            if status == 101 or status < 100:
                raise ValueError("no final status")
            return
        if len(self._raw_headers) > _MOST_HEADERS:
            raise ValueError("too many headers")
        self.headers = list(map(_as_text, self._raw_headers))
        self._first_values = dict(map(_by_name, reversed(self.headers)))
        coding, has_doubled = self._first_values.get("transfer-encoding"), len(self._first_values) < len(self.headers)
        if coding is not None and (coding != "chunked" or has_doubled) and _codings(self.headers) != ["chunked"]:
            # We announce no TE, so nothing but chunked may come. llhttp would take `identity, chunked` for chunked,
            # hand on `gzip, chunked` without its label, and read `chunked, gzip` to the end of the connection.
            raise ValueError("an unknown transfer coding")
        self._ends_with_connection = coding is None and "content-length" not in self._first_values
        # HTTP/1.0's keep-alive is a convention of its own, and a chunked answer of it is faulty (RFC 9112 §6.1).
        self._is_kept = self._parser.should_keep_alive() and self._parser.get_http_version() == "1.1"
        self.status = status

    def on_message_complete(self) -> None:
        """Note the end of the answer; an informational head ends as one, too."""
        if self.status is not None:
            self._is_awaiting, self.is_ended = False, True


@lru_cache(_REMEMBERED_HEADERS)
def _as_text(header: tuple[bytes, bytes]) -> tuple[str, str]:
    name, value = header
    return name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")


@lru_cache(_REMEMBERED_HEADERS)
def _by_name(header: tuple[str, str]) -> tuple[str, str]:
    name, value = header
    return name.lower(), value


def _codings(headers: list[tuple[str, str]]) -> list[str]:
    return [value.strip().lower() for name, value in headers if name.lower() == "transfer-encoding"]


class Pool:
    """Every open connection to one OpenRouter, and which of them are idle."""

    def __init__(self) -> None:
        self._open: set[Connection] = set()
        self._idle: dict[Connection, float] = {}
        """Since when, by the loop's clock; the longest idle first."""
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Connection) -> None:
        """Know a new connection."""
        self._open.add(connection)

    def keep(self, connection: Connection) -> None:
        """Keep a connection for the next request, for a few seconds."""
        loop = asyncio.get_running_loop()
        self._idle[connection] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(KEEPALIVE_SECONDS, self._expire)

    def take(self) -> Connection | None:
        """Return the connection that was used last, None when none is fit for use."""
        oldest = asyncio.get_running_loop().time() - KEEPALIVE_SECONDS
        while self._idle:
            connection, since = self._idle.popitem()
            if since > oldest and connection.is_quiet():
                connection.hold()
                return connection
            connection.close()
        return None

    def drop(self, connection: Connection) -> None:
        """Let nobody take it any more."""
        self._idle.pop(connection, None)

    def forget(self, connection: Connection) -> None:
        """Know that it is closed."""
        self._open.discard(connection)

    async def close(self) -> None:
        """Close every connection, also those in use."""
        if self._timer is not None:
            self._timer.cancel()
        self._idle.clear()
        for connection in tuple(self._open):
            connection.cut()
        # The transports close their sockets in the next turn of the loop.
        await asyncio.sleep(0)

    def _expire(self) -> None:
        """Close what was idle for too long: one timer for all of them."""
        loop = asyncio.get_running_loop()
        self._timer = None
        for connection, since in tuple(self._idle.items()):
            if since + KEEPALIVE_SECONDS > loop.time():
                self._timer = loop.call_at(since + KEEPALIVE_SECONDS, self._expire)
                return
            del self._idle[connection]
            connection.close()


def _nothing() -> None:
    """Stand where nobody wants to know of progress."""
