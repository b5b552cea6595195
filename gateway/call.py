"""One HTTP call: its id, its log line, its body, and its answer."""

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import cached_property, lru_cache
from math import isfinite
from typing import ClassVar, cast

import orjson
from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.hdrs import CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, METH_ALL, TRANSFER_ENCODING
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.web_protocol import RequestHandler

from gateway import keys, metrics
from gateway.errors import InvalidRequest, WattfareError
from gateway.keys import Budget
from gateway.logs import log_request
from gateway.strict_json import strict_json

MAX_CONTROL_BODY_BYTES = 64 * 1024
_MEGABYTE = 1024 * 1024
REQUEST_ID = "x-request-id"  # what the clients' libraries show as the id of a request
OWN_REQUEST_ID = "x-wattfare-request-id"
EVERY_ANSWER = {"Server": "wattfare", "X-Content-Type-Options": "nosniff"}
_JSON = "application/json"
_IDS = 100  # how many ids share a system call, after which its share is small
_UTF_8 = ("utf-8", "utf8")  # the second is no registered name, but what many clients write
_CHARSET = re.compile(r'\bcharset\s*=\s*"?([^";\s]*)')


class CallerConnection(RequestHandler):
    """aiohttp's connection to a caller, which reports its loss at once, by a disconnect or a half-close."""

    on_lost: Callable[[], None] | None = None
    task: asyncio.Task[object] | None = None
    """The task that answers its requests."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """Report the loss to the handler of the open request."""
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    async def drained(self) -> None:
        """Wait until the write buffer has drained. Raises ConnectionError if the connection is lost."""
        await self._drain_helper()


class Call:
    """A request with its id and its log line. The id is random until the payer is known; then it leads to the payer.

    `silence_seconds`: the most time between two parts of the body. `most_body_bytes`: the largest body.
    """

    trace: ClassVar[Callable[["Call", int], None] | None] = None
    """Called with a call and its status once its log line is written, to make a trace; None: no traces."""

    allowed_origin = ""
    """The page's origin, once it was found to be registered for the app of the session token."""
    status = 0
    enclose: Callable[[int, Mapping[str, object]], dict[str, object]] | None = None
    """Makes the error body of the endpoint's dialect; None: the plain envelope."""

    def __init__(
        self,
        message: RawRequestMessage,
        content: StreamReader,
        connection: CallerConnection,
        silence_seconds: float | None,
        most_body_bytes: int,
    ) -> None:
        self.message = message
        self.content = content
        self.connection = connection
        self.headers = message.headers
        self.path = message.path.partition("?")[0]
        """The raw path, without the query."""
        self._silence_seconds = silence_seconds
        self._most_body_bytes = most_body_bytes
        self.started = time.perf_counter()
        self.notes: dict[str, object] = {}

    @cached_property
    def request_id(self) -> str:
        """The id of this call."""
        return keys.request_id(keys.random_account(), next(_random))

    @cached_property
    def request(self) -> web.BaseRequest:
        """Aiohttp's request, which its responses and readers of a query need."""
        loop = asyncio.get_running_loop()
        writer, task = StreamWriter(self.connection, loop), cast("asyncio.Task[None]", asyncio.current_task(loop))
        return web.BaseRequest(self.message, self.content, self.connection, writer, task, loop)

    @property
    def is_lost(self) -> bool:
        """Whether the caller has disconnected."""
        return self.connection.transport is None

    def on_hang_up(self, hang_up: Callable[[], None] | None) -> None:
        """Call `hang_up` when the caller's connection is lost."""
        self.connection.on_lost = hang_up

    def close(self) -> None:
        """Send the written bytes, then close the caller's connection without ending the body."""
        if self.connection.transport is not None:
            self.connection.transport.close()

    def charge_to(self, budget: Budget, salt: bytes) -> None:
        """Make the id lead to `budget`, and add the payer's tag to the log line, which does not identify the user."""
        account = budget.account(salt)
        self.request_id = keys.request_id(account, next(_random))
        notes = self.notes
        notes["app"], notes["user"], notes["mode"] = budget.app_id, account, budget.mode

    def write_log(self, status: int) -> None:
        """Write the log line of this call, its last step: its notes, and the path without its query."""
        metrics.count_request(status)
        facts, method = self.notes, self.message.method
        facts["request_id"] = self.request_id
        # The caller may choose any text as its method.
        facts["method"] = method if method in METH_ALL else "other"
        facts["path"] = self.path[:200]
        facts["status"] = status
        facts["total_ms"] = milliseconds(time.perf_counter() - self.started)
        log_request(facts)
        if Call.trace is not None:
            Call.trace(self, status)

    def received(self, most_bytes: int | None = None) -> bytes | None:
        """Return the raw JSON request body if it was received to its end, as most are when a call begins; else None.

        `most_bytes`: a fixed limit instead of the configured one. Raises InvalidRequest: 400 for a transfer coding, 413
        if too large, 415 if not plain JSON.
        """
        headers, content = self.headers, self.content
        if headers.get(CONTENT_TYPE) != _JSON or CONTENT_ENCODING in headers:
            fault = _type_fault(headers.get(CONTENT_TYPE, _JSON), headers.get(CONTENT_ENCODING, "identity"))
            if fault is not None:
                raise InvalidRequest(fault, status=415)
        if TRANSFER_ENCODING in headers and headers[TRANSFER_ENCODING].strip().lower() != "chunked":
            # The parser would read `identity, chunked` as chunked, and `gzip, chunked` as plain JSON.
            raise InvalidRequest("Send the body chunked or with its length, in no other transfer coding.")
        if not content.is_eof():
            return None
        if not content.total_bytes:
            return b""
        # As `read_nowait` does with ten times the steps, among them flow control, which the end of the body has ended.
        parts = content._buffer  # noqa: SLF001 - no public attribute
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        if len(body) > (most_bytes or self._most_body_bytes):
            raise _too_large(most_bytes or self._most_body_bytes)
        return body

    async def body(self, most_bytes: int | None = None) -> bytes:
        """Return the raw JSON request body once it was received. Raises like `received`, and 408 for a timeout."""
        body = self.received(most_bytes)
        if body is not None:
            return body
        headers, content, most_bytes = self.headers, self.content, most_bytes or self._most_body_bytes
        length = headers.get(CONTENT_LENGTH, "")
        if length.isascii() and length.isdigit() and int(length) > most_bytes:
            raise _too_large(most_bytes)
        if EXPECT in headers:
            self._send_continue()
        parts: list[bytes] = []
        size = 0
        while not content.at_eof():
            chunk = await self._more()
            size += len(chunk)
            if size > most_bytes:
                raise _too_large(most_bytes)
            parts.append(chunk)
        return b"".join(parts)

    async def _more(self) -> bytes:
        """Return the next part of the body, b"" at its end. Raises InvalidRequest if none arrives in time."""
        try:
            async with asyncio.timeout(self._silence_seconds):
                return await self.content.readany()
        except TimeoutError:
            message = "The rest of the body did not come in time. Nothing was spent. Send it again."
            raise InvalidRequest(message, status=408, headers={"Connection": "close"}) from None

    def _send_continue(self) -> None:
        """Send 100 Continue if the client expects it (RFC 9110 §10.1.1), which the server does not do by itself."""
        expects = self.headers.get(EXPECT, "").strip().lower() == "100-continue"
        if expects and self.message.version >= HttpVersion11 and self.connection.transport is not None:
            self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def document(self) -> dict[str, object]:
        """Parse a small JSON object, fractions as Decimal. Raises InvalidRequest."""
        return strict_json(await self.body(MAX_CONTROL_BODY_BYTES))

    def answer(self, document: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
        """Return a JSON answer that must not be cached."""
        return web.Response(
            body=_as_json(document),
            status=status,
            content_type="application/json",
            headers={"Cache-Control": "no-store", **self.own_headers(), **(headers or {})},
        )

    def refuse(self, error: WattfareError) -> web.Response:
        """Return the error envelope."""
        self.notes["code"] = error.code
        metrics.refusals_of(error.code).inc()
        self.status = error.status
        error_object = error.error_object(self.request_id)
        document = {"error": error_object} if self.enclose is None else self.enclose(error.status, error_object)
        return self.answer(document, status=error.status, headers=error.headers)

    def own_headers(self) -> dict[str, str]:
        """Return the headers of every answer."""
        request_id = self.request_id
        return {**EVERY_ANSWER, OWN_REQUEST_ID: request_id, REQUEST_ID: request_id}


def milliseconds(seconds: float) -> float:
    """Return a duration for the log, in steps of 10 µs; `round` takes twice the time."""
    return seconds * 100_000 // 1 / 100


def _randoms() -> Iterator[bytes]:
    """Yield the random part of one id after the other; one system call gives many."""
    while True:
        block = os.urandom(_IDS * keys.RANDOM_BYTES)
        for at in range(0, len(block), keys.RANDOM_BYTES):
            yield block[at : at + keys.RANDOM_BYTES]


_random = _randoms()


async def write(request: web.BaseRequest, response: web.StreamResponse) -> bool:
    """Write an answer of aiohttp's; return whether the connection may be kept. Raises ConnectionError."""
    await response.prepare(request)
    await response.write_eof()
    return bool(response.keep_alive)


def _as_json(document: object) -> bytes:
    """Return the JSON of an answer, with numbers without exponents, as people read the amounts."""
    body = orjson.dumps(document)
    return orjson.dumps(_written_out(document)) if b"e-" in body else body


def _written_out(value: object) -> object:
    match value:
        case float() if isfinite(value):
            return orjson.Fragment(f"{Decimal(repr(value)):f}")
        case dict():
            return {name: _written_out(each) for name, each in value.items()}
        case list():
            return [_written_out(each) for each in value]
        case _:
            return value


@lru_cache(256)
def _type_fault(content_type: str, encoding: str) -> str | None:
    """Return what is wrong with a body's headers, None if they state plain JSON in UTF-8."""
    media_type, _, parameters = content_type.lower().partition(";")
    media_type = media_type.strip()
    if media_type != _JSON and not media_type.endswith("+json"):
        return f"Send the body as JSON with 'Content-Type: {_JSON}'."
    charset = _CHARSET.search(parameters)
    if charset is not None and charset[1] not in _UTF_8:
        # In another charset OpenRouter might read another request than the one that the hold is for.
        return "Send the body as UTF-8."
    if encoding.strip().lower() != "identity":
        return "Send the body without Content-Encoding."
    return None


def _too_large(most_bytes: int) -> InvalidRequest:
    if most_bytes < _MEGABYTE:
        return InvalidRequest(f"The body is larger than {most_bytes // 1024} kB.", status=413)
    most = f"{most_bytes // _MEGABYTE} MB, the most that this gateway takes"
    return InvalidRequest(f"The body is larger than {most} (its operator sets WATTFARE_MAX_BODY_MB).", status=413)
