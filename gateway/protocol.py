"""HTTP with callers for both servers: aiohttp's protocol with our limits and error answers.

Rule: invalid HTTP is answered with our envelope and headers; no byte of it is repeated or logged.
"""

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.web_protocol import RequestHandler

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
_VERSIONS = (HttpVersion10, HttpVersion11)

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refuse = Callable[[web.BaseRequest, InvalidRequest], web.Response]


class CallerServer(web.Server):
    """Serves callers with `handle`; `refuse` makes the answer to invalid HTTP, of which it gets no byte.

    `more`: options of aiohttp's Server. A handler is not cancelled when its caller disconnects.
    """

    def __init__(self, handle: Handle, refuse: Refuse, **more: object) -> None:
        def checked(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
            if self._is_leaving or request._message.upgrade:  # noqa: SLF001 - no public attribute
                # Its answer has `Connection: close`, so the caller then connects to a process that listens. After
                # a CONNECT a body would be read as requests, and after an upgrade to h2c a request would be lost.
                request._message = request._message._replace(should_close=True)  # noqa: SLF001
            return handle(request) if request.version in _VERSIONS else self._refuse_version(request)

        super().__init__(checked, handler_cancellation=False, **more)  # type: ignore[arg-type]
        self.refuse = refuse
        self._is_leaving = False

    def close_kept(self) -> None:
        """From now on close each kept connection with its next answer.

        Closing it between two requests could lose a request in transit.
        """
        self._is_leaving = True

    async def left(self, seconds: float) -> None:
        """Wait until no connection is left, within the limit."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.connections:
                    await asyncio.sleep(_LOOK_SECONDS)

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return _Protocol(
            self,
            loop=self._loop,
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGER_SECONDS,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            auto_decompress=False,
        )

    async def _refuse_version(self, request: web.BaseRequest) -> web.Response:
        request._cache["version"] = HttpVersion11  # noqa: SLF001 - else the status line repeats the caller's
        response = self.refuse(request, InvalidRequest("Use HTTP/1.1."))
        response.force_close()
        return response


class _Protocol(CallerConnection):
    """A caller's connection."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to invalid HTTP."""
        del exc, message
        server = self._manager
        if not isinstance(server, CallerServer):
            raise TypeError("a protocol of another server")
        said = InvalidRequest("This is not a well-formed HTTP request.", status=status if status < 500 else 400)
        response = server.refuse(request, said)
        response.force_close()
        return response

    def log_exception(self, *_: object, exc_info: BaseException | None = None, **__: object) -> None:
        """Log an exception's type and place only, as values may be a prompt or a key."""
        place = traceback.extract_tb(exc_info.__traceback__)[-1] if exc_info and exc_info.__traceback__ else None
        log.error("bug", error=type(exc_info).__name__, at=f"{place.name}:{place.lineno}" if place else "")
