"""Writes one answer to the caller: the head together with the first bytes, and each piece in one write.

aiohttp's own response would take half as long as the rest of the path.
"""

from collections.abc import Callable
from email.utils import formatdate
from http.client import responses
from time import time

from aiohttp import HttpVersion

from gateway.call import Call
from gateway.memo import Memo

_NO_CONTENT = 204
# The buffer size from which asyncio and uvloop pause a writer.
_BACKED_UP_BYTES = 64 * 1024
# The most forms of a head's start: two versions, kept or closed, of any status that accepts, with a length or without.
_STARTS = 8 * 100
_CHUNK, _LAST_CHUNK, _END = b"%x\r\n%b\r\n", b"%x\r\n%b\r\n0\r\n\r\n", b"0\r\n\r\n"


class Answer:
    """An answer to `call` with upstream's status, and `lines`: the header lines, without those of the framing.

    `header`: returns upstream's first value of a header by its lower-case name.
    """

    has_begun = False
    has_ended = False
    keeps_alive = False
    """Whether another request may be read from this connection; not after an answer that was cut."""

    def __init__(self, call: Call, status: int, lines: str, header: Callable[[str], str | None]) -> None:
        message = call.message
        has_length = status == _NO_CONTENT or header("content-length") is not None
        start, self._is_chunked, self._may_keep = _start((message.version, message.should_close, status, has_length))
        self._connection = call.connection
        self._header = header
        self.status = status
        self.has_length = has_length
        self._head = f"{start}{lines}{_date(int(time()))}\r\n".encode("utf-8", "surrogateescape")

    @property
    def is_event_stream(self) -> bool:
        """Whether its Content-Type is that of a stream of events."""
        return (self._header("content-type") or "").lower().startswith("text/event-stream")

    def send(self, piece: bytes, *, is_last: bool) -> bool:
        """Write the head if it was not written yet, then `piece`, then at the last one the end of the body.

        Returns whether the write buffer is so full that the caller must await the writer's `drain`. Raises
        ConnectionResetError.
        """
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        if self._is_chunked:
            if piece:
                piece = (_LAST_CHUNK if is_last else _CHUNK) % (len(piece), piece)
            elif is_last:
                piece = _END
        if not self.has_begun:
            self.has_begun = True
            piece = self._head + piece
        if is_last:
            self.has_ended, self.keeps_alive = True, self._may_keep
        transport.write(piece)
        return transport.get_write_buffer_size() > _BACKED_UP_BYTES


def _framed(form: tuple[HttpVersion, bool, int, bool]) -> tuple[str, bool, bool]:
    """Return the start of a head, whether its body is chunked, and whether the connection may be kept.

    `form`: the request's version, whether its connection should be closed, the status, whether the body has a length.
    """
    (_, minor), should_close, status, has_length = form
    is_chunked = minor == 1 and not has_length
    may_keep = not should_close and (minor == 1 or has_length)
    start = f"HTTP/1.{minor} {status} {responses.get(status, '')}\r\n"
    if is_chunked:
        start += "Transfer-Encoding: chunked\r\n"
    if may_keep != (minor == 1):
        start += f"Connection: {'keep-alive' if may_keep else 'close'}\r\n"
    return start, is_chunked, may_keep


def _dated(now_seconds: int) -> str:
    return f"Date: {formatdate(now_seconds, usegmt=True)}\r\n"


_start = Memo(_framed, _STARTS).__getitem__
_date = Memo(_dated, 1).__getitem__
