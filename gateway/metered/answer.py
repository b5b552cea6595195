"""One answer on its way to the caller: its head leaves with its first bytes, and every piece in one write.

aiohttp's own response costs as much as half of the path beside it; of it only the bookkeeping is used.
"""

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp import HttpVersion11, web

from gateway.metered.headers import Passed

# The size from which asyncio and uvloop let a writer wait.
_BACKED_UP_BYTES = 64 * 1024


class Answer(web.StreamResponse):
    """An answer to `request` with upstream's status and headers, and `own` header lines of ours."""

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
        """Send the head if it has not left, then `piece`, then the end of the body.

        Returns whether so much waits for the caller that more must wait for its writer's `drain`. Raises
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

    async def prepare(self, request: web.BaseRequest) -> None:
        """Do nothing: `send` did."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: an answer that has not ended broke off, and its connection is closed."""

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
