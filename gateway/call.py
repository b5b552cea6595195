"""One HTTP call as the service sees it: its id, what the log says of it, its body, and how it is answered."""

import asyncio
import re
import secrets
import time
from collections.abc import Mapping

import orjson
from aiohttp import HttpVersion11, web

from gateway import keys, metrics
from gateway.errors import InvalidRequest, WattfareError
from gateway.keys import Budget
from gateway.logs import log
from gateway.strict_json import strict_json

MAX_BODY_BYTES = 10 * 1024 * 1024
MAX_CONTROL_BODY_BYTES = 64 * 1024
_SERVER = "wattfare"
_CHARSET = re.compile(r'\bcharset\s*=\s*"?([^";\s]*)')


class Call:
    """A request with its id and its line in the log. The id is random until the payer is known, then leads to it.

    `silence_seconds`: how long its body may stand still.
    """

    def __init__(self, request: web.BaseRequest, *, silence_seconds: float | None = None) -> None:
        self.request = request
        self._silence_seconds = silence_seconds
        self.request_id = keys.request_id(keys.random_account(), secrets.token_bytes(keys.RANDOM_BYTES))
        self.started = time.perf_counter()
        self.notes: dict[str, object] = {}
        self.is_told = False
        self.status = 0

    def charge_to(self, budget: Budget, salt: bytes) -> None:
        """Take an id that leads to `budget`, and let the log say whose call it is without saying who that is."""
        account = budget.account(salt)
        self.request_id = keys.request_id(account, secrets.token_bytes(keys.RANDOM_BYTES))
        self.notes |= {"app": budget.app_id, "user": account, "mode": budget.mode}

    def tell(self, status: int, **notes: object) -> None:
        """Write the one line of this call. The path is said without its query."""
        if self.is_told:
            return
        self.is_told = True
        metrics.REQUESTS.labels(str(status)).inc()
        log.info(
            "request",
            request_id=self.request_id,
            method=self.request.method,
            path=self.request.path[:200],
            status=status,
            **self.notes,
            **notes,
            total_ms=round((time.perf_counter() - self.started) * 1000, 2),
        )

    async def body(self, most_bytes: int = MAX_BODY_BYTES) -> bytes:
        """Return the JSON request body as it came.

        Raises InvalidRequest: 400 a transfer coding, 408 it stands still, 413 too large, 415 not plain JSON.
        """
        headers = self.request.headers
        content_type, _, parameters = headers.get("Content-Type", "application/json").lower().partition(";")
        content_type = content_type.strip()
        if content_type != "application/json" and not content_type.endswith("+json"):
            raise InvalidRequest("Send the body as JSON with 'Content-Type: application/json'.", status=415)
        charset = _CHARSET.search(parameters)
        if charset is not None and charset[1] != "utf-8":
            # OpenRouter might read another request out of the same bytes than the one that was held for.
            raise InvalidRequest("Send the body as UTF-8.", status=415)
        if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise InvalidRequest("Send the body without Content-Encoding.", status=415)
        if headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
            # The parser would take `identity, chunked` for chunked, and `gzip, chunked` for JSON.
            raise InvalidRequest("Send the body chunked or with its length, in no other transfer coding.")
        too_large = InvalidRequest(f"The body is larger than {most_bytes // 1024} kB.", status=413)
        length = headers.get("Content-Length", "")
        if length.isascii() and length.isdigit() and int(length) > most_bytes:
            raise too_large
        self._say_continue()
        parts: list[bytes] = []
        size = 0
        while chunk := await self._more():
            size += len(chunk)
            if size > most_bytes:
                raise too_large
            parts.append(chunk)
        return b"".join(parts)

    async def _more(self) -> bytes:
        """Return the next part of the body, b"" at its end. Raises InvalidRequest when none comes in time."""
        content = self.request.content
        if content.is_eof():
            # All of it is here, as it mostly is: no timer is needed.
            return await content.readany()
        try:
            async with asyncio.timeout(self._silence_seconds):
                return await content.readany()
        except TimeoutError:
            message = "The rest of the body did not come in time. Nothing was spent. Send it again."
            raise InvalidRequest(message, status=408, headers={"Connection": "close"}) from None

    def _say_continue(self) -> None:
        """Let a client go on that waits for leave to send its body (RFC 9110 §10.1.1): nobody else here does."""
        expects = self.request.headers.get("Expect", "").strip().lower() == "100-continue"
        if expects and self.request.version >= HttpVersion11 and self.request.transport is not None:
            self.request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def document(self) -> dict[str, object]:
        """Return a small JSON object, numbers with a fraction as Decimal. Raises InvalidRequest."""
        return strict_json(await self.body(MAX_CONTROL_BODY_BYTES))

    def answer(self, document: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
        """Return a JSON answer that nobody may keep."""
        return web.Response(
            body=orjson.dumps(document),
            status=status,
            content_type="application/json",
            headers={"Cache-Control": "no-store", **self.own_headers(), **(headers or {})},
        )

    def refuse(self, error: WattfareError) -> web.Response:
        """Return the error envelope."""
        self.notes["code"] = error.code
        self.status = error.status
        return self.answer(error.envelope(self.request_id), status=error.status, headers=error.headers)

    def own_headers(self) -> dict[str, str]:
        """Return the headers that every answer of ours carries."""
        return {
            "Server": _SERVER,
            "X-Content-Type-Options": "nosniff",
            "x-wattfare-request-id": self.request_id,
        }
