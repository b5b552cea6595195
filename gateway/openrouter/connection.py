"""One HTTP/1.1 connection to OpenRouter, and the pool of open ones.

Rule: answers are framed strictly by RFC 9112.
Rule: a connection that received a byte outside an answer is never used again.
"""

import asyncio
import select
from collections.abc import Callable
from typing import cast

import httptools

from gateway.errors import UpstreamError
from gateway.memo import Memo

# Below the idle limit of common servers (uvicorn's is 5 s), so that a kept connection is seldom closed by the peer: a
# request lost on a closed one may have been billed, and is not sent again.
KEEPALIVE_SECONDS = 4.0
# The most bytes buffered for a caller that does not read, plus one read; the rest stays in upstream's buffers.
_WAITING_BYTES = 64 * 1024
# Up to this size head and body are joined, which costs less than a second write; above it, copying costs more.
_ONE_WRITE_BYTES = 64 * 1024
# A larger body is written in pieces, so that encrypting megabytes does not delay every other request.
_PIECE_BYTES = 256 * 1024
# The most bytes in a row without a byte of the body: heads, informational heads, trailers, chunk extensions.
_FRAMING_BYTES = 64 * 1024
_MOST_HEADERS = 256
# The size of the cache of decoded headers, most of which repeat.
_REMEMBERED_HEADERS = 4096
_NO_HEADERS: dict[str, str] = {}


class UpstreamConnection(asyncio.Protocol):
    """A connection for one request at a time. `start` begins one, `send` sends it, `release` or `close` ends it.

    httptools (llhttp) itself refuses: a bare LF or CR; a Content-Length that is repeated, invalid, or beside
    Transfer-Encoding; an invalid chunk size (such as a status line); folded lines; bytes that are not HTTP.
    """

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._clock = asyncio.get_running_loop().time
        self._pieces: list[bytes] = []
        # The parser's callback for each piece of the body.
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)
        self._transport = cast("asyncio.Transport", None)
        self._kernel = select.poll()
        self._is_held = True
        """Whether a request uses it; otherwise it is idle or closed."""
        self._is_awaiting = False
        """Whether a request was started and its answer has not ended."""
        self._is_lost = False
        self._is_kept = False
        self._ends_with_connection = False
        self._is_reading_paused = False
        self._is_writing_paused = False
        self._rest = memoryview(b"")
        self._waiting_bytes = 0
        self._framing_bytes = 0
        self._head = b""
        """The bytes received of the answer's head, while it is incomplete."""
        self._on_progress: Callable[[], None] = _nothing
        self.status: int | None = None
        """The answer's status, None until its head was read."""
        self.lines: list[bytes] = []
        """The header lines as received."""
        self.header: Callable[[str], str | None] = _NO_HEADERS.get
        """Returns the first value of a header by its name in lower case, None without one."""
        self.is_sent = False
        """Whether the whole request is in the kernel's buffer. With TLS up to 64 kB may still be in the transport's."""
        self.is_ended = False
        """Whether the body is complete; `take` may still return bytes of it."""
        self.failure: UpstreamError | None = None
        """Why the answer is cut; `take` may still return bytes received before."""
        self.last_heard = self._clock()
        """When the last byte was received, or the request was started, by the loop's clock."""

    def start(self, on_progress: Callable[[], None]) -> None:
        """Begin a request, of which `send` sends the bytes.

        `on_progress` is called, within the loop's callbacks, when a public attribute changed or bytes can be taken.
        """
        self._on_progress = on_progress
        self.status, self.lines, self.header, self.failure = None, [], _NO_HEADERS.get, None
        self.is_sent = self.is_ended = False
        self._framing_bytes = 0
        self._head = b""
        self.last_heard = self._clock()

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Name and value of each header."""
        return list(map(header_of, self.lines))

    def send(self, head: bytes, body: bytes) -> None:
        """Write the request: head and body at once, in one write unless the body is large.

        On a connection that was closed meanwhile nothing is sent, and `failure` is set. `release` closes it too.
        """
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
        """Return the body's bytes received since the last call, b"" for none, and resume reading."""
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

    def release(self) -> None:
        """End the request. The connection is kept if the answer is complete and both sides permit it."""
        if not self._is_held:
            return
        # An answer may end before the request is written; the rest of the request would then still be due.
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
        """Close it under its user, whose request fails with `failure`."""
        self._transport.abort()

    def resume(self) -> bool:
        """Use it again, if it is open and received no byte since the last answer, not even in the kernel's buffer.

        The loop reports bytes that arrive in the current turn only afterwards; they would be taken for the next answer.
        """
        self._is_held = not (self._is_lost or self._transport.is_closing() or self._kernel.poll(0))
        return self._is_held

    def _send_rest(self) -> None:
        """Write until the kernel's buffer is full; set `is_sent` at the end."""
        while self._rest and not self._is_writing_paused and not self._transport.is_closing():
            piece, self._rest = self._rest[:_PIECE_BYTES], self._rest[_PIECE_BYTES:]
            self._transport.write(piece)
        # A transport whose write failed is closing, and reports it in the next turn of the loop.
        if not self._is_writing_paused and not self.is_sent and not self._transport.is_closing():
            self.is_sent = True
            self._on_progress()

    def _fail(self, message: str) -> None:
        """End the answer as incomplete."""
        self._is_awaiting = False
        self.failure = UpstreamError(message)
        self._transport.abort()
        self._on_progress()

    def _lose(self, fault: Exception | None) -> None:
        """Record the end of the connection, which completes only an answer without a length."""
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
        """Store the transport."""
        self._transport = cast("asyncio.Transport", transport)
        # With a limit of 0 the transport pauses while it buffers anything, from which `is_sent` is known, and uvloop
        # writes at once. A TLS transport pauses at its limit, not above: with 0 it would pause while empty.
        self._transport.set_write_buffer_limits(high=0 if transport.get_extra_info("ssl_object") is None else 1)
        self._kernel.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._pool.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes."""
        if not self._is_awaiting:
            # Bytes outside an answer: without a request, or after an answer's end.
            self._pool.drop(self)
            self._transport.abort()
            return
        self.last_heard = self._clock()
        if self.status is None:
            self._head += data
        pieces = self._pieces
        known = len(pieces)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self.is_ended:
                # The answer is complete by its own framing. The bytes after it are dropped.
                self._transport.abort()
            else:
                self._fail("OpenRouter's answer is no well-formed HTTP.")
                return
        if len(pieces) > known:
            self._framing_bytes = 0
            self._waiting_bytes += len(data)
            if self._waiting_bytes > _WAITING_BYTES and not self.is_ended:
                self._is_reading_paused = True
                self._transport.pause_reading()
        else:
            self._framing_bytes += len(data)
            if self._framing_bytes > _FRAMING_BYTES and not self.is_ended:
                self._fail("OpenRouter's answer has too large a head.")
                return
        self._on_progress()

    def eof_received(self) -> None:
        """Handle the peer's end; the transport then closes ours too."""
        self._lose(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the connection, regular (None) or by an error."""
        self._is_lost = True
        self._lose(exc)
        self._pool.forget(self)

    def pause_writing(self) -> None:
        """Record that the kernel's buffer is full."""
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        """Continue to write the request."""
        self._is_writing_paused = False
        self._send_rest()

    # What the parser calls. An exception ends the parsing.

    def on_message_begin(self) -> None:
        """Refuse a second answer in the same packet as the end of the first."""
        if self.is_ended:
            raise ValueError("bytes behind the end")

    def on_headers_complete(self) -> None:
        """Store the head, unless it is informational, and decide what may follow."""
        # llhttp has verified its form: lines that end with CRLF, after any number of empty ones. Without an `on_header`
        # it makes no objects for them, and most lines repeat.
        head, _, self._head = self._head.lstrip(b"\r\n").partition(b"\r\n\r\n")
        status = self._parser.get_status_code()
        if status < 200:
            # 101 would switch to a protocol that was not requested; statuses below 100 do not exist.
            if status == 101 or status < 100:
                raise ValueError("no final status")
            return
        lines = head.split(b"\r\n")[1:]
        if len(lines) > _MOST_HEADERS:
            raise ValueError("too many headers")
        self._head = b""
        self.lines = lines
        first_values = dict(map(_by_name, reversed(lines)))
        self.header = first_values.get
        coding, has_doubled = first_values.get("transfer-encoding"), len(first_values) < len(lines)
        if coding is not None and (coding != "chunked" or has_doubled) and _codings(self.headers) != ["chunked"]:
            # We send no TE, so only chunked is allowed. llhttp would read `identity, chunked` as chunked, pass `gzip,
            # chunked` on without its label, and read `chunked, gzip` to the end of the connection.
            raise ValueError("an unknown transfer coding")
        self._ends_with_connection = coding is None and "content-length" not in first_values
        # HTTP/1.0 has another keep-alive convention, and a chunked answer in it is invalid (RFC 9112 §6.1).
        self._is_kept = self._parser.should_keep_alive() and head.startswith(b"HTTP/1.1 ")
        self.status = status

    def on_message_complete(self) -> None:
        """Record the end of the answer; also called for an informational head."""
        if self.status is not None:
            self._is_awaiting, self.is_ended = False, True


def header_of(line: bytes) -> tuple[str, str]:
    """Return a header line's name and value, without the optional whitespace around the value (RFC 9112 §5).

    Decoded as UTF-8 with surrogate escapes, so that encoding restores every byte.
    """
    name, _, value = line.decode("utf-8", "surrogateescape").partition(":")
    return name, value.strip(" \t")


def _read_by_name(line: bytes) -> tuple[str, str]:
    name, value = header_of(line)
    return name.lower(), value


_by_name = Memo(_read_by_name, _REMEMBERED_HEADERS).__getitem__


def _codings(headers: list[tuple[str, str]]) -> list[str]:
    return [value.strip().lower() for name, value in headers if name.lower() == "transfer-encoding"]


class Pool:
    """All open connections to one OpenRouter, and which of them are idle."""

    def __init__(self) -> None:
        self._open: set[UpstreamConnection] = set()
        self._idle: dict[UpstreamConnection, float] = {}
        """Idle connections and since when, by the loop's clock; the longest idle first."""
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def add(self, connection: UpstreamConnection) -> None:
        """Register a new connection."""
        self._open.add(connection)

    def keep(self, connection: UpstreamConnection) -> None:
        """Make a connection idle, for the next request within a few seconds."""
        self._idle[connection] = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(KEEPALIVE_SECONDS, self._expire)

    def take(self) -> UpstreamConnection | None:
        """Return the most recently used idle connection, None without a usable one."""
        oldest = self._loop.time() - KEEPALIVE_SECONDS
        while self._idle:
            connection, since = self._idle.popitem()
            if since > oldest and connection.resume():
                return connection
            connection.close()
        return None

    def drop(self, connection: UpstreamConnection) -> None:
        """Remove it from the idle connections."""
        self._idle.pop(connection, None)

    def forget(self, connection: UpstreamConnection) -> None:
        """Unregister a closed connection."""
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
        """Close connections that were idle for too long: one timer for all of them."""
        self._timer = None
        for connection, since in tuple(self._idle.items()):
            if since + KEEPALIVE_SECONDS > self._loop.time():
                self._timer = self._loop.call_at(since + KEEPALIVE_SECONDS, self._expire)
                return
            del self._idle[connection]
            connection.close()


def _nothing() -> None:
    """The `on_progress` of an idle connection: do nothing."""
