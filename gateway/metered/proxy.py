"""The path of one metered request: authenticate, admit, send, relay, settle. No other file depends on the order.

Rule: once a hold was requested, `Closing.close` posts the settlement in any case. Rule: bytes are relayed unchanged;
the meter reads a copy. Rule: the Redis command for "sent", for the generation id and for the settlement is handed to
the kernel before the bytes that depend on it.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable

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
from gateway.metered.headers import forwarded, own_lines, passed_on
from gateway.metered.inflight import NEVER, Inflight, OpenRequest, Stopped
from gateway.metered.meter import Void
from gateway.metered.payer import cut_off, payer
from gateway.metered.test_mode import SimulatedConnection
from gateway.metered.turns import turn_of
from gateway.openrouter.client import Client
from gateway.openrouter.connection import UpstreamConnection
from gateway.openrouter.dialects import WIRE, Dialect, StreamError
from gateway.openrouter.encodings import Undecodable, decoded
from gateway.openrouter.prices import Prices
from gateway.openrouter.refusals import refusal
from gateway.payers.app_pace import AppPace
from gateway.payers.apps import Apps, authorization_of
from gateway.sealing import SealBroken, Sealer
from gateway.store.store import Store

_LAST_EVENT_SECONDS = 0.5
# Larger bodies are parsed in a thread: 1.5 MB of single digits take a second to weigh.
_LARGE_BODY_BYTES = 64 * 1024
# A revocation is answered within a second (`broadcast`), also if a process did not receive it. After a freeze or a slow
# connect, or while it is not subscribed, a process therefore checks the budget again before it sends.
_STALE_SECONDS = 0.5
# The most bytes read of a refusal; recorded ones have some kilobytes.
_REFUSAL_BYTES = 256 * 1024

Upstream = UpstreamConnection | SimulatedConnection


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
        caller_seconds: float,
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
        self._caller_seconds = caller_seconds
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
            upstream = await self._connection(request)
            await self._send(request, admission, upstream)
            await self._until_opened(request, upstream)
            if not upstream.is_ended:
                # A complete answer has its id in the settlement.
                await self._attach(request)
            _stop_if_over(request)
            request.answer = _answer(request, admission, upstream)
            await self._relay(request, upstream)
            return request.response()
        except Stopped:
            request.leave()
            if request.gone == "revoked":
                await self._answer_revoked(request)
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
        if not self._store.salt:
            raise Unavailable
        call.charge_to(budget, self._store.salt)
        body = await call.body()
        chat = await _read(call, budget, body, dialect)
        if self._apps.proven(authorization) is None:
            # While a slow body was read, the app may have been closed or its secret rotated.
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
        _stop_if_over(request)

    async def _connection(self, request: OpenRequest) -> Upstream:
        """Return a connection to upstream. Raises UpstreamError, Stopped."""
        if request.budget.mode == "test":
            upstream: Upstream = SimulatedConnection(request.chat)
        else:
            upstream = self._client.take_idle() or await self._connect(request)
        request.reach("connected")
        return upstream

    async def _connect(self, request: OpenRequest) -> UpstreamConnection:
        connecting = asyncio.get_running_loop().create_task(self._client.connect())
        connecting.add_done_callback(lambda _: request.wake())
        try:
            while not connecting.done():
                await request.news(NEVER)
                _stop_if_over(request)
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
        if not await self._ledger.post_sent(request.budget, request.request_id, request.due_ms):
            # Without the mark, a crash would void a request that was billed.
            raise Unavailable
        _stop_if_over(request)
        request.reach("sending")

        def on_progress() -> None:
            if upstream.is_sent:
                request.sent()
            request.wake()

        upstream.send(head, body, on_progress)

    def _head(self, request: OpenRequest, admission: Admission, length: int) -> bytes:
        try:
            funding_key = self._sealer.open(admission.funding, place=request.budget.place)
        except SealBroken:
            log.error("funding_key_sealed", request_id=request.request_id)
            raise Unavailable("The key ring cannot open this user's funding key. Nothing was spent.") from None
        headers = forwarded(request.call.headers)
        return self._client.head(request.chat.dialect.value, headers, funding_key, length)

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
            _raise_failure(upstream)
            await self._wait(request, limit, "OpenRouter did not answer in time. Try again.")
        request.opened(status, upstream.header("content-encoding"), upstream.header("x-generation-id"))
        request.reach("opened")
        if not 200 <= status < 300:
            raise await self._refusal(request, upstream, status)

    async def _relay(self, request: OpenRequest, upstream: Upstream) -> None:
        """Relay the answer unchanged and feed the meter; post the settlement before the last bytes are written."""
        is_head_out = False
        while True:
            piece, is_whole = upstream.take(), upstream.is_ended or request.is_past_end
            if piece:
                request.feed(piece)
            elif not is_whole and is_head_out:
                _raise_failure(upstream)
                await self._wait_for_more(request, upstream)
                continue
            if is_whole:
                request.end("complete")
                request.reach("ended")
            if is_whole or (request.over_at != NEVER and request.meter.states_cost):
                await self._closing.close(request)
            elif request.attached is None:
                await self._attach(request)
            if request.gone:
                _stop_if_over(request)
            # An answer that hangs open after its end may be shorter than its Content-Length; it is then cut.
            elif self._hand_on(request, piece, is_last=is_whole and (upstream.is_ended or not request.has_length)):
                await self._until_taken(request)
            is_head_out = True
            request.reach("relayed")
            if is_whole:
                request.reach("answered")
                return

    def _hand_on(self, request: OpenRequest, piece: bytes, *, is_last: bool) -> bool:
        """Write a piece to the caller; return whether the write buffer is full. Raises Stopped."""
        answer = request.answer
        if answer is None:
            return False
        request.reach("prepared")
        if piece:
            request.last_piece = piece
        try:
            return answer.send(piece, is_last=is_last)
        except ConnectionError:
            request.hang_up()
            _stop_if_over(request)
            return False

    async def _until_taken(self, request: OpenRequest) -> None:
        """Wait until the write buffer has drained. A caller that reads nothing for too long is disconnected."""
        try:
            await request.within(self._caller_seconds, request.call.request.writer.drain())
        except ConnectionError:
            request.hang_up()
            _stop_if_over(request)

    async def _refusal(self, request: OpenRequest, upstream: Upstream, status: int) -> WattfareError:
        """Return upstream's refusal as an error of ours; a truncated one by its received part."""
        meter, body = request.meter, b""
        limit = request.clock() + self._timeouts.silence
        with contextlib.suppress(UpstreamError):
            while True:
                meter.body(piece := upstream.take())
                body += piece
                if upstream.is_ended or upstream.failure or meter.is_done or len(body) >= _REFUSAL_BYTES:
                    break
                await self._wait(request, limit, "OpenRouter fell silent.")
        request.end("refused")
        with contextlib.suppress(Undecodable):
            body = decoded(body, upstream.header("content-encoding"), _REFUSAL_BYTES)
        refused = refusal(status, dict(upstream.headers), body, now_ms=time.time_ns() // 1_000_000)
        prices, model = self._prices.current, request.chat.model
        if status in (400, 404) and prices is not None and model in refused.message:
            refused.message += prices.did_you_mean(model)
        return refused

    def _wait_for_more(self, request: OpenRequest, upstream: Upstream) -> Awaitable[None]:
        """Wait for progress of upstream, at most a second for an answer that hangs open after its end.

        Raises UpstreamError, Stopped.
        """
        if request.over_at != NEVER:
            return self._wait(request, request.over_at)
        silent = upstream.last_heard + self._timeouts.silence
        idle = request.idle_limit(upstream.last_heard, self._timeouts.keepalive)
        return self._wait(request, min(idle, silent), "OpenRouter fell silent. Try again.")

    async def _wait(self, request: OpenRequest, limit: float, message: str = "") -> None:
        """Wait for progress. Raises UpstreamError with `words` when `limit` has passed, and Stopped."""
        if message and request.clock() >= limit:
            raise UpstreamError(message, status=504)
        await request.news(limit)
        if request.gone:
            if request.gone == "revoked":
                await self._answer_revoked(request)
            _stop_if_over(request)

    async def _attach(self, request: OpenRequest) -> None:
        """Post the generation id to Redis before the bytes after it are written to the caller."""
        generation_id = request.meter.generation_id
        if generation_id is not None:
            request.attached = generation_id
            await self._ledger.post_generation(request.budget, request.request_id, generation_id)
            request.reach("attached")

    async def _answer_revoked(self, request: OpenRequest) -> None:
        """Answer a caller whose connection was revoked; upstream may still be read for the cost."""
        if request.is_informed:
            return
        request.is_informed = True
        answer, meter = request.answer, request.meter
        with contextlib.suppress(ConnectionError):
            if answer is None or not answer.has_begun:
                refused = request.refused = request.call.refuse(cut_off(request.budget))
                refused.force_close()
                await request.within(_LAST_EVENT_SECONDS, refused.prepare(request.call.request))
                await request.within(_LAST_EVENT_SECONDS, refused.write_eof())
            elif request.is_closed or answer.has_length or not meter.accepts_event(is_labelled=answer.is_event_stream):
                # Within JSON or gzip, or after the stream's end, an error event could not be read: cut the connection.
                request.call.close()
            else:
                ended = cut_off(request.budget)
                event = StreamError(ended.code, ended.type, ended.message, meter.events)
                # The blank line ends a truncated event, so that ours is a separate one.
                gap = b"" if request.at_event_end else b"\n\n"
                answer.send(gap + WIRE[request.chat.dialect].error_event(event), is_last=True)


def _answer(request: OpenRequest, admission: Admission, upstream: Upstream) -> Answer | None:
    """Return the answer to begin, None if the caller is gone."""
    if request.gone:
        return None
    passed = passed_on(upstream.headers, upstream.header)
    own = own_lines(request.request_id, admission, has_request_id=passed.has_request_id)
    return Answer(request.call, upstream.status or 0, passed, own)


async def _read(call: Call, budget: Budget, body: bytes, dialect: Dialect) -> ChatRequest:
    """Parse a body; a large one in a thread, because it takes seconds.

    One at a time for each app, so that one app cannot take every thread. Raises InvalidRequest, Stopped.
    """
    if len(body) <= _LARGE_BODY_BYTES:
        return ChatRequest.parse(body, dialect)
    async with turn_of(f"read:{budget.app_id}"):
        if call.is_lost:
            raise Stopped
        return await asyncio.to_thread(ChatRequest.parse, body, dialect)


def _stop_if_over(request: OpenRequest) -> None:
    """Stop an answer without a caller, once its id or cost is known."""
    if request.is_over:
        raise Stopped


def _raise_failure(upstream: Upstream) -> None:
    if upstream.failure is not None:
        raise upstream.failure
