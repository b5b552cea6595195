"""HTTP with callers for both servers: aiohttp's protocol with our limits and error answers.

Rule: invalid HTTP is answered with our envelope and headers; no byte of it is repeated or logged.
"""

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import HttpVersion10, HttpVersion11, StreamReader, web
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.web_protocol import ERROR

from gateway.call import CallerConnection
from gateway.errors import InvalidRequest
from gateway.logs import log

# A session token may contain a user id of 256 bytes; some clients also send long cookies and trace headers.
HEADER_BYTES = 32 * 1024
# The limit of an idle connection, and of receiving a head: aiohttp has one timer for both.
KEEPALIVE_SECONDS = 75.0
# How long the rest of an unread body is awaited before the connection is closed.
LINGER_SECONDS = 5.0
# The interval of checks whether all connections are closed, by which a shutdown may be late.
_LOOK_SECONDS = 0.02
_VERSIONS = (HttpVersion11, HttpVersion10)

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refuse = Callable[[web.BaseRequest, InvalidRequest], web.Response]


class CallerServer(web.Server):
    """Serves callers with `handle`; `refuse` makes the answer to invalid HTTP, of which it gets no byte.

    `more`: options of aiohttp's Server. A handler is not cancelled when its caller disconnects.
    """

    def __init__(self, handle: Handle, refuse: Refuse, **more: object) -> None:
        super().__init__(handle, handler_cancellation=False, **more)  # type: ignore[arg-type]
        self.refuse = refuse
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

    async def start(self) -> None:
        """Answer one request after the other until the connection closes.

        aiohttp's own loop makes a task for each request, and has steps for access logs and accepted upgrades.
        """
        loop, handle = self._loop, self._server.request_handler
        try:
            while not self._force_close:
                if not self._messages:
                    self._waiter = loop.create_future()
                    try:
                        await self._waiter
                    finally:
                        self._waiter = None
                self._request_in_progress = True
                try:
                    request, payload, fault = self._next()
                    response = await handle(request) if fault is None else self._refusal(request, fault)
                    if not response.prepared:
                        await response.prepare(request)
                        await response.write_eof()
                    if not payload.is_eof():
                        await self._linger(payload)
                finally:
                    self._request_in_progress, self._current_request = False, None
                    if self._handler_waiter is not None:
                        self._handler_waiter.set_result(None)
                if self._close or not response.keep_alive:
                    break
                self._next_keepalive_close_time = closes_at = loop.time() + KEEPALIVE_SECONDS
                if self._keepalive_handle is None:
                    self._keepalive_handle = loop.call_at(closes_at, self._process_keepalive)
        except ConnectionError:
            pass
        except Exception as bug:
            # Only type and place are logged, as values may be a prompt or a key.
            place = traceback.extract_tb(bug.__traceback__)[-1]
            log.error("bug", error=type(bug).__name__, at=f"{place.name}:{place.lineno}")
        finally:
            self.force_close()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Resume what was paused; aiohttp asks for it at the end of each body, where it costs a pass of its parser."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _next(self) -> tuple[web.BaseRequest, StreamReader, InvalidRequest | None]:
        """Return the next received request, its body, and what is wrong with its HTTP."""
        message, payload = self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        fault = None
        if not isinstance(message, RawRequestMessage):
            message, fault = ERROR, InvalidRequest("This is not a well-formed HTTP request.")
        elif message.version not in _VERSIONS:
            # The status line would repeat the caller's version.
            message, fault = message._replace(version=HttpVersion11), InvalidRequest("Use HTTP/1.1.")
        elif self._server.is_leaving or message.upgrade:
            # Its answer has `Connection: close`, so the caller then connects to a process that listens. After
            # a CONNECT a body would be read as requests, and after an upgrade to h2c a request would be lost.
            message = message._replace(should_close=True)
        writer = StreamWriter(self, self._loop)
        task = cast("asyncio.Task[None]", self._task_handler)
        request = self._current_request = self._server.request_factory(message, payload, self, writer, task)
        return request, payload, fault

    def _refusal(self, request: web.BaseRequest, fault: InvalidRequest) -> web.Response:
        """Return the answer to invalid HTTP."""
        response = self._server.refuse(request, fault)
        response.force_close()
        return response

    async def _linger(self, payload: StreamReader) -> None:
        """Read the rest of an unread body for a while: closing at once would discard the answer at its sender."""
        with contextlib.suppress(TimeoutError, web.RequestPayloadError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not payload.is_eof():
                    await payload.readany()
                return
        self.close()
