"""HTTP with callers for both servers: aiohttp's protocol with our limits and error answers.

Rule: invalid HTTP is answered with our envelope and headers; no byte of it is repeated or logged.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from aiohttp import EMPTY_PAYLOAD, HttpVersion10, HttpVersion11, StreamReader, web
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.call import CallerConnection
from gateway.errors import InvalidRequest
from gateway.logs import log_bug

# A session token may contain a user id of 256 bytes; some clients also send long cookies and trace headers.
HEADER_BYTES = 32 * 1024
# The limit of an idle connection, and of receiving a head: aiohttp has one timer for both.
KEEPALIVE_SECONDS = 75.0
# How long the rest of an unread body is awaited before the connection is closed.
LINGER_SECONDS = 5.0
# The interval of checks whether all connections are closed, by which a shutdown may be late.
_LOOK_SECONDS = 0.02
# The head in place of one that is not valid HTTP.
_MALFORMED = RawRequestMessage(
    "UNKNOWN", "", HttpVersion11, CIMultiDictProxy(CIMultiDict()), (), True, None, False, False, URL()
)

Handle = Callable[
    [RawRequestMessage, StreamReader, CallerConnection, InvalidRequest | None],
    Awaitable[bool],
]


class CallerServer(web.Server):
    """Serves callers with `handle`, which is not cancelled when its caller disconnects.

    `handle` gets a request's head, its body, its connection, and what is wrong with its HTTP: the head is then not the
    caller's. It writes the answer, and returns whether the connection may be kept.
    """

    def __init__(self, handle: Handle) -> None:
        super().__init__(handle, handler_cancellation=False)  # type: ignore[arg-type]
        self.handle = handle
        self.is_leaving = False

    def close_kept(self) -> None:
        """From now on close each kept connection with its next answer.

        Closing it between two requests could lose a request in transit.
        """
        self.is_leaving = True

    async def left(self, seconds: float) -> None:
        """Wait until no connection is left, within the limit."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.connections:
                    await asyncio.sleep(_LOOK_SECONDS)

    def __call__(self) -> "_Protocol":
        """Return the protocol of a new connection."""
        return _Protocol(self)


class _Protocol(CallerConnection):
    """A caller's connection to `server`."""

    _body: StreamReader = EMPTY_PAYLOAD
    """The body of the request that is answered."""

    def __init__(self, server: CallerServer) -> None:
        super().__init__(
            server,
            loop=server._loop,  # noqa: SLF001 - no public attribute
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=KEEPALIVE_SECONDS,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            auto_decompress=False,
        )
        self._server = server
        # One less than aiohttp's parser counts, for which a request is in the queue until it was answered.
        self._max_msg_queue_size -= 1

    async def start(self) -> None:
        """Answer one request after the other until the connection closes.

        aiohttp's own loop makes a task for each request, and has steps for access logs and accepted upgrades.
        """
        loop, handle = self._loop, self._server.handle
        self.task = asyncio.current_task()
        self._current_request = self  # type: ignore[assignment] # for aiohttp, which only calls its `_cancel`
        try:
            while not self._force_close:
                if not self._messages:
                    self._waiter = loop.create_future()
                    try:
                        await self._waiter
                    finally:
                        self._waiter = None
                message, self._body = self._messages.popleft()
                fault = None
                if type(message) is not RawRequestMessage or message.version is not HttpVersion11 or message.upgrade:
                    message, fault = _unusual(message)
                if self._server.is_leaving:
                    # Its answer has `Connection: close`, so the caller then connects to a process that listens.
                    message = message._replace(should_close=True)
                self._request_in_progress = True
                try:
                    is_kept = await handle(message, self._body, self, fault)
                    if not self._body.is_eof():
                        await self._linger()
                    self._make_room()
                finally:
                    self._request_in_progress = False
                    if self._handler_waiter is not None:
                        self._handler_waiter.set_result(None)
                if self._close or not is_kept:
                    break
                self._next_keepalive_close_time = closes_at = loop.time() + KEEPALIVE_SECONDS
                if self._keepalive_handle is None:
                    self._keepalive_handle = loop.call_at(closes_at, self._process_keepalive)
        except ConnectionError:
            pass
        except Exception as bug:
            log_bug(bug)
        finally:
            # These refer to the connection.
            self.task, self._current_request, self._body = None, None, EMPTY_PAYLOAD
            self.force_close()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Resume what was paused; aiohttp asks for it at the end of each body, where it costs a pass of its parser."""
        if self._reading_paused or (resume_parser and not self._body.is_eof()):
            super().resume_reading(resume_parser)

    def _make_room(self) -> None:
        """Let the parser go on after a request, if it stopped because too many were waiting.

        aiohttp says so when it takes a request from the queue, but the parser counts a request once its body has ended.
        """
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    def _cancel(self, fault: BaseException) -> None:
        """End a wait for the rest of the body, as the connection is lost or the process stops."""
        self._body.set_exception(fault)

    async def _linger(self) -> None:
        """Read the rest of an unread body for a while: closing at once would discard the answer at its sender."""
        with contextlib.suppress(TimeoutError, web.RequestPayloadError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._body.is_eof():
                    await self._body.readany()
                return
        self.close()


def _unusual(message: object) -> tuple[RawRequestMessage, InvalidRequest | None]:
    """Return a request's head that is not plain HTTP/1.1, and what is wrong with it."""
    if not isinstance(message, RawRequestMessage):
        return _MALFORMED, InvalidRequest("This is not a well-formed HTTP request.")
    if message.version not in {HttpVersion11, HttpVersion10}:
        return _MALFORMED, InvalidRequest("Use HTTP/1.1.")
    if message.upgrade:
        # After a CONNECT a body would be read as requests, and after an upgrade to h2c a request would be lost.
        message = message._replace(should_close=True)
    return message, None
