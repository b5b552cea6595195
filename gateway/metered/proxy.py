"""The conductor: authenticate, admit, forward, relay, settle. No other file knows the order.

Rule: whatever happens after a hold was asked for, `Closing.close` runs, and hands the outcome to a task of its own
that outlives the caller. Rule: bytes go on as they came; metering stands beside the relay, never in it.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from decimal import Decimal
from typing import TypeVarTuple

from aiohttp import web
from multidict import CIMultiDict

from gateway.call import Call
from gateway.errors import GrantInvalid, InvalidRequest, NotConnected, Unavailable, UpstreamError
from gateway.keys import Budget
from gateway.ledger.holds import Admission, Ledger
from gateway.ledger.worst_case import WorstCase
from gateway.logs import log
from gateway.metered.body import ChatRequest, Dialect
from gateway.metered.closing import Closing
from gateway.metered.exchange import Exchange, Exchanges
from gateway.metered.meter import State
from gateway.metered.pricing import estimate_nano, worst_case
from gateway.metered.test_mode import rehearse, rehearsed_worst_case
from gateway.money import NANO_PER_USD
from gateway.openrouter.client import HOP_BY_HOP, Reply, Upstream, forwarded
from gateway.openrouter.prices import Prices
from gateway.openrouter.refusals import refusal
from gateway.payers.apps import Apps, Caller
from gateway.payers.identity import from_header
from gateway.sealing import SealBroken, Sealer
from gateway.store.store import Store

Written = TypeVarTuple("Written")

USER_HEADER = "x-wattfare-user"
GRANT_HEADER = "x-wattfare-grant"
_LAST_WORDS_SECONDS = 0.5
# One and a half megabytes of single digits take a second to weigh.
_LARGE_BODY_BYTES = 64 * 1024
# A revocation is answered a second after it is sent (`broadcast`), also when a process did not hear it. One that was
# frozen, or connected slowly, or does not hear now, asks once more before it sends.
_STALE_SECONDS = 0.5
_REVOKED_EVENT = (
    b'data: {"error":{"code":"not_connected","type":"billing_error",'
    b'"message":"The user has ended this connection."}}\n\n'
)
# Upstream's words about its own host, or about who may call it from a browser, are not ours to repeat.
_NOT_PASSED_ON = HOP_BY_HOP | {
    "alt-svc",
    "date",
    "nel",
    "permissions-policy",
    "report-to",
    "server",
    "set-cookie",
    "strict-transport-security",
}
_NOT_PASSED_ON_PREFIXES = ("access-control-", "x-wattfare-")


class Proxy:
    """Carries one metered request from secret key to settled hold."""

    def __init__(
        self,
        *,
        store: Store,
        apps: Apps,
        ledger: Ledger,
        sealer: Sealer,
        upstream: Upstream,
        prices: Prices,
        exchanges: Exchanges,
        closing: Closing,
        caller_seconds: float,
    ) -> None:
        self._store = store
        self._apps = apps
        self._ledger = ledger
        self._sealer = sealer
        self._upstream = upstream
        self._prices = prices
        self._exchanges = exchanges
        self._closing = closing
        self._caller_seconds = caller_seconds

    async def forward(self, call: Call, dialect: Dialect) -> web.StreamResponse:
        """Answer one metered call. Raises WattfareError."""
        caller = await self._apps.authenticate(call.request.headers.get("Authorization"))
        budget = payer(call.request.headers.getall, caller)
        if not self._store.salt:
            raise Unavailable
        call.charge_to(budget, self._store.salt)
        chat = await _understood(await call.body(), dialect)
        # Again: the body may have taken its time, and meanwhile the app was closed or its secret rotated.
        await self._apps.authenticate(call.request.headers.get("Authorization"))
        call.notes |= {"model": chat.model, "stream": chat.stream}
        exchange = Exchange(budget, call, chat)
        # A task of its own: it may outlive its caller until it has told what its cost depends on.
        carrier = self._exchanges.start(exchange, self._carry_to_end(exchange))
        try:
            await exchange.dismissed.wait()
        except asyncio.CancelledError:
            call.is_told = exchange.asked
            exchange.let_go("client")
            raise
        if exchange.gone and not _is_answered(exchange, carrier):
            call.is_told = exchange.asked
            if exchange.gone == "client":
                raise ConnectionResetError
            return await self._end_revoked(exchange)
        return carrier.result()

    async def _carry_to_end(self, exchange: Exchange) -> web.StreamResponse:
        try:
            return await self._carry(exchange)
        except (asyncio.CancelledError, ConnectionError):
            exchange.leave()
            raise
        except Exception:
            if exchange.response is not None and exchange.response.prepared and not exchange.gone:
                # A second status line inside a body would be no HTTP.
                _hang_up(exchange)
            raise
        finally:
            self._closing.close(exchange)

    async def _carry(self, exchange: Exchange) -> web.StreamResponse:
        admission = await self._admit(exchange)
        body = exchange.chat.body
        if admission.max_tokens is not None:
            body = exchange.chat.shortened(admission.max_tokens)
        try:
            async with self._open(exchange, admission, body) as reply:
                return await self._answer(exchange, admission, reply)
        except UpstreamError:
            exchange.break_off()
            if exchange.response is None:
                raise
            # The caller must see that the answer is not whole: no clean end, no words of ours in it.
            if not exchange.gone:
                _hang_up(exchange)
            return exchange.response

    async def _admit(self, exchange: Exchange) -> Admission:
        """Place the hold. From `asked` on, one may exist whatever this raises."""
        budget, chat = exchange.budget, exchange.chat
        worst = self._worst_case(budget, chat)
        estimate = 0 if budget.mode == "test" else estimate_nano(chat, self._prices.current, completion_bytes=0)
        await self._exchanges.index(budget)
        exchange.asked = True
        exchange.reach("asked")
        try:
            admission = await self._ledger.admit(
                budget, exchange.request_id, worst, model=chat.model, estimate_nano=estimate
            )
        except Unavailable:
            raise
        except Exception:
            exchange.asked = False
            raise
        exchange.held(admission)
        exchange.reach("held")
        return admission

    def _worst_case(self, budget: Budget, chat: ChatRequest) -> WorstCase | None:
        if budget.mode == "test":
            return rehearsed_worst_case(chat)
        return worst_case(chat, self._prices.current, now_ms=time.time_ns() // 1_000_000)

    @contextlib.asynccontextmanager
    async def _open(self, exchange: Exchange, admission: Admission, body: bytes) -> AsyncIterator[Reply]:
        async def on_connected() -> None:
            exchange.reach("connected")
            if time.monotonic() - exchange.started > _STALE_SECONDS or not self._apps.hears_cuts:
                await self._still_may(exchange)
            await self._ledger.post_sent(exchange.budget, exchange.request_id, exchange.due_ms)
            exchange.reach("sending")

        if exchange.budget.mode == "test":
            async with rehearse(exchange.chat, on_connected) as rehearsed:
                exchange.sent()
                yield rehearsed
            return
        try:
            funding_key = self._sealer.open(admission.funding, place=exchange.budget.place)
        except SealBroken:
            log.error("funding_key_sealed", request_id=exchange.request_id)
            raise Unavailable("The key ring cannot open this user's funding key. Nothing was spent.") from None
        headers = forwarded(exchange.call.request.headers)
        path = exchange.chat.dialect.value
        async with self._upstream.open(path, body, headers, funding_key, on_connected, exchange.sent) as reply:
            yield reply

    async def _still_may(self, exchange: Exchange) -> None:
        """Ask once more before anything leaves. Raises NotConnected, Unavailable."""
        renewal = await self._ledger.renew(exchange.budget, exchange.request_id)
        exchange.due_ms = renewal.due_ms
        if not renewal.is_active or await self._apps.is_closed(exchange.budget.app_id):
            raise NotConnected
        if not renewal.is_held:
            # Frozen for longer than a hold lives: the sweeper gave its money back, and others may have it.
            raise Unavailable

    async def _answer(self, exchange: Exchange, admission: Admission, reply: Reply) -> web.StreamResponse:
        exchange.opened(reply)
        exchange.reach("opened")
        await self._attach(exchange)
        exchange.reach("attached")
        _stop_if_over(exchange)
        if not 200 <= reply.status < 300:
            said = await reply.read()
            exchange.meter.body(said)
            exchange.end("refused")
            raise refusal(reply.status, reply.headers, said, now_ms=time.time_ns() // 1_000_000)
        response = web.StreamResponse(status=reply.status, headers=_response_headers(exchange, admission, reply))
        exchange.response = response
        await self._pass_on(exchange, response.prepare, exchange.call.request)
        exchange.reach("prepared")
        await self._relay(exchange, reply, response)
        return response

    async def _relay(self, exchange: Exchange, reply: Reply, response: web.StreamResponse) -> None:
        meter = exchange.meter
        async for chunk in reply.chunks():
            exchange.note_chunk()
            meter.body(chunk)
            if exchange.attached is None:
                await self._attach(exchange)
            _stop_if_over(exchange)
            if not exchange.gone:
                exchange.at_event_end = chunk.endswith(b"\n\n")
            await self._pass_on(exchange, response.write, chunk)
            exchange.reach("relayed")
            if meter.is_done:
                reply.finish_soon()
        exchange.end("complete")
        exchange.reach("ended")
        await self._pass_on(exchange, response.write_eof)
        exchange.reach("answered")

    async def _pass_on(
        self, exchange: Exchange, write: Callable[[*Written], Awaitable[object]], *what: *Written
    ) -> None:
        """Hand something to the caller. One who is gone, or takes nothing for too long, is let go.

        Raises ConnectionError when nothing more is worth waiting for.
        """
        if exchange.gone:
            return
        try:
            async with asyncio.timeout(self._caller_seconds):
                await write(*what)
        except (ConnectionError, TimeoutError):
            if exchange.call.request.transport is not None:
                exchange.call.request.transport.abort()
            exchange.note_gone("client")
            _stop_if_over(exchange)

    async def _attach(self, exchange: Exchange) -> None:
        """Send the generation id to Redis before the caller gets the byte after it."""
        generation_id = exchange.meter.generation_id
        if generation_id is not None and await self._ledger.post_generation(
            exchange.budget, exchange.request_id, generation_id
        ):
            exchange.attached = generation_id

    async def _end_revoked(self, exchange: Exchange) -> web.StreamResponse:
        """Answer a caller whose connection was revoked meanwhile."""
        response = exchange.response
        if response is None or not response.prepared:
            raise NotConnected
        is_ended = exchange.ended_by == "complete" and exchange.meter.state is State.CLOSED
        if is_ended or not response.content_type.startswith("text/event-stream"):
            # Words in the midst of JSON, or after an end that is still on its way, would be no answer.
            _hang_up(exchange)
            return response
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                # The blank line ends an event that was cut in half, so that ours is read as one.
                await response.write((b"" if exchange.at_event_end else b"\n\n") + _REVOKED_EVENT)
                await response.write_eof()
        return response


async def _understood(body: bytes, dialect: Dialect) -> ChatRequest:
    """Parse a body; a large one beside the event loop, which it would hold up for seconds. Raises InvalidRequest."""
    if len(body) <= _LARGE_BODY_BYTES:
        return ChatRequest.parse(body, dialect)
    return await asyncio.to_thread(ChatRequest.parse, body, dialect)


def payer(headers: Callable[[str, list[str]], list[str]], caller: Caller) -> Budget:
    """Return the budget that the payer headers name. Raises InvalidRequest, GrantInvalid."""
    users, grants = headers(USER_HEADER, []), headers(GRANT_HEADER, [])
    if len(users) + len(grants) != 1:
        raise InvalidRequest(f"Send exactly one of {USER_HEADER} and {GRANT_HEADER}, once.")
    if grants:
        raise GrantInvalid
    try:
        return Budget(caller.mode, caller.app.app_id, from_header(users[0]))
    except ValueError as fault:
        raise InvalidRequest(f"{USER_HEADER} {fault}.") from None


def _response_headers(exchange: Exchange, admission: Admission, reply: Reply) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict(_passed_on(reply.headers))
    headers.update(exchange.call.own_headers())
    if admission.remaining_nano is not None:
        headers["x-wattfare-remaining-usd"] = f"{Decimal(admission.remaining_nano) / NANO_PER_USD:f}"
    if admission.max_tokens is not None:
        headers["x-wattfare-max-tokens"] = str(admission.max_tokens)
    return headers


def _passed_on(headers: Mapping[str, str]) -> CIMultiDict[str]:
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        lowered = name.lower()
        if lowered not in _NOT_PASSED_ON and not lowered.startswith(_NOT_PASSED_ON_PREFIXES):
            kept.add(name, value)
    return kept


def _is_answered(exchange: Exchange, carrier: "asyncio.Task[web.StreamResponse]") -> bool:
    """Tell whether the caller was answered to the end before anything stopped it."""
    is_whole = carrier.done() and not carrier.cancelled() and carrier.exception() is None
    return is_whole and exchange.ended_by != exchange.gone


def _stop_if_over(exchange: Exchange) -> None:
    """Stop an answer whose caller is gone or cut off, once it has told what its cost depends on."""
    if exchange.gone and not exchange.farewell_seconds:
        raise ConnectionResetError


def _hang_up(exchange: Exchange) -> None:
    """Send what is written, then close the connection without the end of a body."""
    transport = exchange.call.request.transport
    if transport is not None:
        transport.close()
