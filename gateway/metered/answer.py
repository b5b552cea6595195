"""Writes one answer to the caller: the head together with the first bytes, and each piece in one write.

aiohttp's own response would take half as long as the rest of the path, so only its bookkeeping is used.
"""

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp import HttpVersion11, web

from gateway.metered.headers import Passed

# The buffer size from which asyncio and uvloop pause a writer.
_BACKED_UP_BYTES = 64 * 1024


class Answer(web.StreamResponse):
    """An answer to `request` with upstream's status and headers, and the gateway's header lines `own`."""

    _eof_sent = True  # for aiohttp: `send` writes head and end; an answer without its end was cut, and is closed

    def __init__(self, request: web.BaseRequest, status: int, passed: Passed, own: str = "") -> None:
        super().__init__(status=status)
        self._request = request
        self._lines = passed.lines + own
        has_length = passed.has_length or status == HTTPStatus.NO_CONTENT
        is_new = request.version >= HttpVersion11
        self._is_chunked = is_new and not has_length
        self._keeps_alive = request.keep_alive and (is_new or has_length)
        self.is_event_stream = passed.is_event_stream
        self.has_length = has_length
        self.has_begun = False
        self.has_ended = False

    @property
    def keep_alive(self) -> bool:
        """Whether aiohttp may read another request from this connection."""
        return self._keeps_alive and self.has_ended

    def send(self, piece: bytes, *, is_last: bool) -> bool:
        """Write the head if it was not written yet, then `piece`, then at the last one the end of the body.

        Returns whether the write buffer is so full that the caller must await the writer's `drain`. Raises
        ConnectionResetError.
        """
        transport = self._request.transport
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
        minor = self._request.version.minor
        hop = "Transfer-Encoding: chunked\r\n" if self._is_chunked else ""
        if not self._keeps_alive and minor == 1:
            hop += "Connection: close\r\n"
        elif self._keeps_alive and minor == 0:
            hop += "Connection: keep-alive\r\n"
        lines = f"{self._lines}{hop}{_date(int(time.time()))}"
        return f"HTTP/1.{minor} {self.status} {self.reason}\r\n{lines}\r\n".encode("utf-8", "surrogateescape")


@lru_cache(1)
def _date(now_seconds: int) -> str:
    return f"Date: {formatdate(now_seconds, usegmt=True)}\r\n"
