"""The path of one metered request: authenticate, admit, send, relay, settle. No other file depends on the order.

Rule: once a hold was requested, `Closing.close` posts the settlement in any case. Rule: the Redis command for "sent" is
handed to the kernel before the request is.
"""

import asyncio
import contextlib
import time

from aiohttp import web

from gateway.call import Call
from gateway.errors import Unavailable, UpstreamError, WattfareError
from gateway.keys import Budget
from gateway.ledger.holds import Ledger
from gateway.ledger.outcomes import Admission
from gateway.logs import log
from gateway.metered.admission import Admissions
from gateway.metered.answer import Answer
from gateway.metered.body import ChatRequest
from gateway.metered.closing import Closing
from gateway.metered.headers import forwarded, own_lines, passed_lines
from gateway.metered.inflight import NEVER, Inflight, OpenRequest, Stopped
from gateway.metered.meter import Void
from gateway.metered.payer import cut_off, payer
from gateway.metered.relay import Relay, Upstream, raise_failure, stop_if_over
from gateway.metered.test_mode import SimulatedConnection
from gateway.metered.turns import turn_of
from gateway.openrouter.client import Client
from gateway.openrouter.connection import UpstreamConnection
from gateway.openrouter.dialects import Dialect
from gateway.openrouter.encodings import Undecodable, decoded
from gateway.openrouter.prices import Prices
from gateway.openrouter.refusals import refusal
from gateway.payers.app_pace import AppPace
from gateway.payers.apps import Apps, authorization_of
from gateway.sealing import SealBroken, Sealer
from gateway.store.store import Store

# Larger bodies are parsed in a thread: 1.5 MB of single digits take a fifth of a second.
_LARGE_BODY_BYTES = 64 * 1024
# A revocation is answered within a second (`broadcast`), also if a process did not receive it. After a freeze or a slow
# connect, or while it is not subscribed, a process therefore checks the budget again before it sends.
_STALE_SECONDS = 0.5
# The most bytes read of a refusal; recorded ones have some kilobytes.
_REFUSAL_BYTES = 256 * 1024


class Proxy:
    """Handles one metered request, from the secret key to the settled hold."""

    def __init__(
        self,
        *,
        store: Store,
        apps: Apps,
        app_pace: AppPace,
        ledger: Ledger,
        sealer: Sealer,
        client: Client,
        prices: Prices,
        inflight: Inflight,
        admissions: Admissions,
        closing: Closing,
        relay: Relay,
    ) -> None:
        self._store = store
        self._apps = apps
        self._app_pace = app_pace
        self._ledger = ledger
        self._sealer = sealer
        self._client = client
        self._timeouts = client.timeouts
        self._prices = prices
        self._inflight = inflight
        self._admissions = admissions
        self._closing = closing
        self._relay = relay
        # Asking for the running loop takes a system call in Python 3.11.
        self._loop = asyncio.get_running_loop()

    async def forward(self, call: Call, dialect: Dialect) -> web.Response | Answer:
        """Answer one metered call. Raises WattfareError."""
        request = await self._open(call, dialect)
        upstream: Upstream | None = None
        try:
            admission = await self._admissions.admit(request)
            self._held(request, admission)
            if request.waited_seconds:
                # During the wait the app may have been closed, or its secret rotated.
                await self._apps.authenticate(authorization_of(call.headers))
            upstream = self._idle(request) or await self._connect(request)
            request.reach("connected")
            await self._send(request, admission, upstream)
            await self._until_opened(request, upstream)
            if not upstream.is_ended:
                # A complete answer has its id in the settlement.
                await self._relay.attach(request)
            stop_if_over(request)
            request.answer = _answer(request, admission, upstream)
            await self._relay.carry(request, upstream)
            return request.response()
        except Stopped:
            request.leave()
            if request.gone == "revoked":
                await self._relay.answer_revoked(request)
            return request.response()
        except asyncio.CancelledError:
            request.leave()
            raise
        except UpstreamError as failed:
            request.break_off()
            if not request.has_answered:
                if not isinstance(request.meter.outcome(), Void):
                    failed.note_bill()
                raise
            # Cut the connection, so that the caller can see that the answer is incomplete; append nothing.
            call.close()
            return request.response()
        except Exception:
            if request.has_answered:
                # A second status line inside a body would not be valid HTTP.
                call.close()
            raise
        finally:
            if upstream is not None:
                upstream.release()
            try:
                if not request.is_closed:
                    await self._closing.close(request)
            finally:
                self._inflight.remove(request)

    # -- the steps, in their order -------------------------------------------------------------------------

    async def _open(self, call: Call, dialect: Dialect) -> OpenRequest:
        """Find the payer, and read the request. Raises WattfareError, Stopped."""
        authorization = authorization_of(call.headers)
        caller = self._apps.proven(authorization) or await self._apps.authenticate(authorization)
        self._app_pace.admit(caller)
        budget = payer(call, caller)
        salt = self._store.salt
        if not salt:
            raise Unavailable
        call.charge_to(budget, salt)
        received = call.received()
        body = await call.body() if received is None else received
        is_large = len(body) > _LARGE_BODY_BYTES
        chat = await _read_large(call, budget, body, dialect) if is_large else ChatRequest.parse(body, dialect)
        if is_large or received is None:
            # While a slow or large body was read, the app may have been closed or its secret rotated.
            await self._apps.authenticate(authorization)
        call.notes["model"], call.notes["stream"] = chat.model, chat.stream
        if call.is_lost:
            raise Stopped  # disconnected while the body was read; from here on a disconnect is noticed at once
        request = OpenRequest(budget, call, chat, self._loop)
        self._inflight.add(request)
        return request

    def _held(self, request: OpenRequest, admission: Admission) -> None:
        """Record the hold. Raises Stopped."""
        if admission.is_overdue:
            self._closing.request_sweep(request.budget)
        request.held(admission)
        request.reach("held")
        stop_if_over(request)

    def _idle(self, request: OpenRequest) -> Upstream | None:
        """Return a connection that is open, None without one."""
        return SimulatedConnection(request.chat) if request.budget.mode == "test" else self._client.take_idle()

    async def _connect(self, request: OpenRequest) -> UpstreamConnection:
        """Return a new connection. Raises UpstreamError, Stopped."""
        connecting = asyncio.get_running_loop().create_task(self._client.connect())
        connecting.add_done_callback(lambda _: request.wake())
        try:
            while not connecting.done():
                await request.news(NEVER)
                stop_if_over(request)
        except BaseException:
            if not connecting.cancel() and not connecting.cancelled() and connecting.exception() is None:
                connecting.result().release()
            raise
        return connecting.result()

    async def _send(self, request: OpenRequest, admission: Admission, upstream: Upstream) -> None:
        """Mark the request as sent and send it upstream. Raises NotConnected, Unavailable, Stopped."""
        body = request.chat.body
        if admission.max_tokens is not None:
            body = request.chat.shortened(admission.max_tokens)
        head = b"" if request.budget.mode == "test" else self._head(request, admission, len(body))
        if request.clock() - request.started > _STALE_SECONDS or not self._apps.receives_cuts:
            await self._check_again(request)
            stop_if_over(request)

        def on_progress() -> None:
            if upstream.status is None and upstream.failure is None:
                # An informational head came, or the request's last byte was sent.
                if upstream.is_sent:
                    request.sent()
                return
            try:
                if self._relay.passes(request, upstream):
                    return
            except Exception as bug:
                request.fail(bug)
            request.wake()

        def send(is_marked: bool) -> None:
            if not is_marked:
                # Without the mark, a crash would void a request that was billed.
                request.fail(Unavailable())
            elif not request.gone:
                request.reach("sending")
                try:
                    upstream.send(head, body)
                except Exception as bug:
                    request.fail(bug)

        upstream.start(on_progress)
        self._ledger.post_sent(request.budget, request.request_id, request.due_ms, send)

    def _head(self, request: OpenRequest, admission: Admission, length: int) -> bytes:
        try:
            funding_key = self._sealer.open(admission.funding, place=request.budget.place)
        except SealBroken:
            log.error("funding_key_sealed", request_id=request.request_id)
            raise Unavailable("The key ring cannot open this user's funding key. Nothing was spent.") from None
        lines = forwarded(request.call.headers)
        return self._client.head(request.chat.dialect, lines, funding_key, length)

    async def _check_again(self, request: OpenRequest) -> None:
        """Check the budget again before sending. Raises NotConnected, Unavailable."""
        renewal = await self._ledger.renew(request.budget, request.request_id)
        request.due_ms = renewal.due_ms
        if not renewal.is_active or await self._apps.is_closed(request.budget.app_id):
            raise cut_off(request.budget)
        if not renewal.is_held:
            # The process was frozen past its hold's deadline: the sweeper released the amount, and others may hold it.
            raise Unavailable

    async def _until_opened(self, request: OpenRequest, upstream: Upstream) -> None:
        """Wait for upstream's status line and headers. Raises its refusal, UpstreamError, Stopped."""
        limit = request.clock() + self._timeouts.first_byte
        while (status := upstream.status) is None:
            raise_failure(upstream)
            await self._relay.wait(request, limit, "OpenRouter did not answer in time. Try again.")
        self._relay.opens(request, upstream)
        if not 200 <= status < 300:
            raise await self._refusal(request, upstream, status)

    async def _refusal(self, request: OpenRequest, upstream: Upstream, status: int) -> WattfareError:
        """Return upstream's refusal as an error of ours; a truncated one by its received part."""
        meter, body = request.meter, b""
        limit = request.clock() + (request.read_on_seconds if request.gone else self._timeouts.silence)
        with contextlib.suppress(UpstreamError):
            while True:
                meter.body(piece := upstream.take())
                body += piece
                if upstream.is_ended or upstream.failure or meter.is_done or len(body) >= _REFUSAL_BYTES:
                    break
                await self._relay.wait(request, limit, "OpenRouter fell silent.")
        request.end("refused")
        with contextlib.suppress(Undecodable):
            body = decoded(body, upstream.header("content-encoding"), _REFUSAL_BYTES)
        refused = refusal(status, dict(upstream.headers), body, now_ms=time.time_ns() // 1_000_000)
        prices, model = self._prices.current, request.chat.model
        if status in (400, 404) and prices is not None and model in refused.message:
            refused.message += prices.did_you_mean(model)
        return refused


def _answer(request: OpenRequest, admission: Admission, upstream: Upstream) -> Answer | None:
    """Return the answer to begin, None if the caller is gone."""
    if request.gone:
        return None
    lines = passed_lines(upstream.lines) + own_lines(request.request_id, admission, upstream.header)
    return Answer(request.call, upstream.status or 0, lines, upstream.header)


async def _read_large(call: Call, budget: Budget, body: bytes, dialect: Dialect) -> ChatRequest:
    """Parse a large body in a thread, because it takes seconds.

    One at a time for each app, so that one app cannot take every thread. Raises InvalidRequest, Stopped.
    """
    async with turn_of(f"read:{budget.app_id}"):
        if call.is_lost:
            raise Stopped
        return await asyncio.to_thread(ChatRequest.parse, body, dialect)
