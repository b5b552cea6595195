"""Writes one answer to the caller: the head together with the first bytes, and each piece in one write.

aiohttp's own response would take half as long as the rest of the path.
"""

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from http.client import responses

from gateway.call import Call
from gateway.metered.headers import Passed

# The buffer size from which asyncio and uvloop pause a writer.
_BACKED_UP_BYTES = 64 * 1024


class Answer:
    """An answer to `call` with upstream's status and headers, and the gateway's header lines `own`."""

    has_begun = False
    has_ended = False

    def __init__(self, call: Call, status: int, passed: Passed, own: str = "") -> None:
        self._connection = call.connection
        self.status = status
        self._lines = passed.lines + own
        self._minor = minor = call.message.version.minor
        self.is_event_stream = passed.is_event_stream
        self.has_length = has_length = passed.has_length or status == HTTPStatus.NO_CONTENT
        self._is_chunked = minor == 1 and not has_length
        self._keeps_alive = not call.message.should_close and (minor == 1 or has_length)

    @property
    def keeps_alive(self) -> bool:
        """Whether another request may be read from this connection; not after an answer that was cut."""
        return self._keeps_alive and self.has_ended

    def send(self, piece: bytes, *, is_last: bool) -> bool:
        """Write the head if it was not written yet, then `piece`, then at the last one the end of the body.

        Returns whether the write buffer is so full that the caller must await the writer's `drain`. Raises
        ConnectionResetError.
        """
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        out = [] if self.has_begun else [self._head()]
        self.has_begun, self.has_ended = True, is_last
        if not self._is_chunked:
            out.append(piece)
        elif piece:
            out.append(b"%x\r\n%b\r\n%b" % (len(piece), piece, b"0\r\n\r\n" if is_last else b""))
        elif is_last:
            out.append(b"0\r\n\r\n")
        transport.write(out[0] if len(out) == 1 else b"".join(out))
        return transport.get_write_buffer_size() > _BACKED_UP_BYTES

    def _head(self) -> bytes:
        hop = "Transfer-Encoding: chunked\r\n" if self._is_chunked else ""
        if not self._keeps_alive and self._minor == 1:
            hop += "Connection: close\r\n"
        elif self._keeps_alive and self._minor == 0:
            hop += "Connection: keep-alive\r\n"
        head = f"{_status_line(self._minor, self.status)}{self._lines}{hop}{_date(int(time.time()))}\r\n"
        return head.encode("utf-8", "surrogateescape")


@lru_cache
def _status_line(minor: int, status: int) -> str:
    return f"HTTP/1.{minor} {status} {responses.get(status, '')}\r\n"


@lru_cache(1)
def _date(now_seconds: int) -> str:
    return f"Date: {formatdate(now_seconds, usegmt=True)}\r\n"
