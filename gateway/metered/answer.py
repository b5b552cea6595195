"""Writes one answer to the caller: the head together with the first bytes, and each piece in one write.

aiohttp's own response would take half as long as the rest of the path.
"""

import time
from email.utils import formatdate
from functools import lru_cache
from http.client import responses

from gateway.call import Call
from gateway.metered.headers import Passed

_NO_CONTENT = 204
# The buffer size from which asyncio and uvloop pause a writer.
_BACKED_UP_BYTES = 64 * 1024


class Answer:
    """An answer to `call` with upstream's status and headers, and the gateway's header lines `own`."""

    has_begun = False
    has_ended = False
    keeps_alive = False
    """Whether another request may be read from this connection; not after an answer that was cut."""

    def __init__(self, call: Call, status: int, passed: Passed, own: str = "") -> None:
        minor = call.message.version.minor
        has_length = passed.has_length or status == _NO_CONTENT
        may_keep = not call.message.should_close and (minor == 1 or has_length)
        self._connection = call.connection
        self._is_chunked = minor == 1 and not has_length
        self._may_keep = may_keep
        self.status = status
        self.is_event_stream = passed.is_event_stream
        self.has_length = has_length
        hop = "Transfer-Encoding: chunked\r\n" if self._is_chunked else ""
        if not may_keep and minor == 1:
            hop += "Connection: close\r\n"
        elif may_keep and minor == 0:
            hop += "Connection: keep-alive\r\n"
        head = f"{_status_line(minor, status)}{passed.lines}{own}{hop}{_date(int(time.time()))}\r\n"
        self._head = head.encode("utf-8", "surrogateescape")

    def send(self, piece: bytes, *, is_last: bool) -> bool:
        """Write the head if it was not written yet, then `piece`, then at the last one the end of the body.

        Returns whether the write buffer is so full that the caller must await the writer's `drain`. Raises
        ConnectionResetError.
        """
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        if self._is_chunked:
            end = b"0\r\n\r\n" if is_last else b""
            piece = b"%x\r\n%b\r\n%b" % (len(piece), piece, end) if piece else end
        if not self.has_begun:
            self.has_begun = True
            piece = self._head + piece
        if is_last:
            self.has_ended, self.keeps_alive = True, self._may_keep
        transport.write(piece)
        return transport.get_write_buffer_size() > _BACKED_UP_BYTES


@lru_cache
def _status_line(minor: int, status: int) -> str:
    return f"HTTP/1.{minor} {status} {responses.get(status, '')}\r\n"


@lru_cache(1)
def _date(now_seconds: int) -> str:
    return f"Date: {formatdate(now_seconds, usegmt=True)}\r\n"
