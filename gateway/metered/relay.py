"""Relays an answer from upstream to the caller, and lets the meter read it beside.

Rule: bytes are relayed unchanged, as they come. Rule: the Redis commands for the generation id and for the settlement
are handed to the kernel before the bytes that depend on them.
"""

import contextlib
from collections.abc import Awaitable

from gateway.errors import UpstreamError
from gateway.ledger.holds import Ledger
from gateway.metered.closing import Closing
from gateway.metered.inflight import NEVER, OpenRequest, Stopped
from gateway.metered.payer import cut_off
from gateway.metered.test_mode import SimulatedConnection
from gateway.openrouter.client import Timeouts
from gateway.openrouter.connection import UpstreamConnection
from gateway.openrouter.dialects import WIRE, StreamError

_LAST_EVENT_SECONDS = 0.5

Upstream = UpstreamConnection | SimulatedConnection


class Relay:
    """Relays answers. `caller_seconds`: how long a caller may read nothing."""

    def __init__(self, ledger: Ledger, closing: Closing, timeouts: Timeouts, *, caller_seconds: float) -> None:
        self._ledger = ledger
        self._closing = closing
        self._timeouts = timeouts
        self._caller_seconds = caller_seconds

    async def carry(self, request: OpenRequest, upstream: Upstream) -> None:
        """Relay the answer unchanged and feed the meter; post the settlement before the last bytes are written."""
        is_head_out = False
        while True:
            while request.is_settling:
                await request.news(NEVER)
            came, is_whole = upstream.take(), upstream.is_ended or request.is_past_end
            if came:
                request.feed(came)
            piece, request.unwritten = request.unwritten + came, b""
            if not piece and not is_whole and is_head_out:
                raise_failure(upstream)
                await self._until_next(request, upstream)
                continue
            if is_whole and request.meter.state != "closed":
                self._end(request)
            if not request.is_closed:
                if is_whole or (request.over_at != NEVER and request.meter.states_cost):
                    await self._closing.close(request)
                elif request.attached is None:
                    await self.attach(request)
            # An answer that hangs open after its end may be shorter than its Content-Length; it is then cut.
            has_length = request.answer is not None and request.answer.has_length
            is_last = is_whole and (upstream.is_ended or not has_length)
            if not request.gone and self._hand_on(request, piece, is_last=is_last):
                await self._until_taken(request)
            if request.gone:
                stop_if_over(request)
            is_head_out = True
            request.reach("relayed")
            if is_whole:
                request.reach("answered")
                return

    async def _until_next(self, request: OpenRequest, upstream: Upstream) -> None:
        """Wait until the handler must act; meanwhile `passes` relays what comes. Raises UpstreamError, Stopped."""
        is_midway = request.attached is not None and request.over_at == NEVER and not request.gone
        request.is_midway = is_midway
        try:
            await self._wait_for_more(request, upstream)
        finally:
            request.is_midway = False
        if is_midway and request.call.connection.writing_paused:
            await self._until_taken(request)

    def passes(self, request: OpenRequest, upstream: Upstream) -> bool:
        """Relay the middle of a stream, and settle a complete answer; return False if the handler must act now.

        Most of what comes is such. It costs less to act in the callback that received it than to wake the handler.
        """
        is_midway, request.is_midway = request.is_midway, False
        if request.gone or upstream.failure is not None:
            return False
        # The handler opens a refusal, since only it reads its body, by which something may be owed.
        is_whole = upstream.is_ended and 200 <= (upstream.status or 0) < 300
        if not is_midway and not (is_whole and self.opens(request, upstream)):
            # An answer that begins before the whole request was sent may be billed too.
            request.sent()
            return False
        piece = upstream.take()
        if piece and not upstream.is_ended:
            request.feed(piece)
        if upstream.is_ended or request.over_at != NEVER:
            return self._settles(request, piece, is_whole=upstream.is_ended)
        if piece:
            is_full = self._hand_on(request, piece, is_last=False)
            request.reach("relayed")
            request.is_midway = not (is_full or request.gone)
        else:
            request.is_midway = True
        return request.is_midway

    def opens(self, request: OpenRequest, upstream: Upstream) -> bool:
        """Record the status line and headers that have come, once; return whether they were not recorded yet."""
        if request.opened_at is not None:
            return False
        status, header = upstream.status or 0, upstream.header
        request.opened(status, header("content-encoding"), header("x-generation-id"))
        request.reach("opened")
        return True

    def _settles(self, request: OpenRequest, piece: bytes, *, is_whole: bool) -> bool:
        """Post the settlement of an answer that is complete, and leave `piece` to the handler, which is woken then."""
        request.unwritten = piece
        if is_whole:
            self._end(request, piece)
        elif not request.meter.states_cost:
            return False
        if not request.is_closed:
            self._closing.close_then(request, request.settled)
            request.is_settling = True
        return request.is_settling

    def _end(self, request: OpenRequest, last: bytes = b"") -> None:
        request.end("complete", last)
        request.reach("ended")

    def _hand_on(self, request: OpenRequest, piece: bytes, *, is_last: bool) -> bool:
        """Write a piece to the caller, who may be gone then; return whether the write buffer is full."""
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
            return False

    async def _until_taken(self, request: OpenRequest) -> None:
        """Wait until the write buffer has drained. A caller that reads nothing for too long is disconnected."""
        try:
            await request.within(self._caller_seconds, request.call.connection.drained())
        except ConnectionError:
            request.hang_up()
            stop_if_over(request)

    def _wait_for_more(self, request: OpenRequest, upstream: Upstream) -> Awaitable[None]:
        """Wait for progress of upstream, at most a second for an answer that hangs open after its end.

        Raises UpstreamError, Stopped.
        """
        if request.over_at != NEVER:
            return self.wait(request, request.over_at)
        silent = upstream.last_heard + self._timeouts.silence
        idle = request.idle_limit(upstream.last_heard, self._timeouts.keepalive)
        return self.wait(request, min(idle, silent), "OpenRouter fell silent. Try again.")

    async def wait(self, request: OpenRequest, limit: float, message: str = "") -> None:
        """Wait for progress. Raises UpstreamError with `words` when `limit` has passed, and Stopped."""
        if message and request.clock() >= limit:
            raise UpstreamError(message, status=504)
        await request.news(limit)
        if request.gone:
            if request.gone == "revoked":
                await self.answer_revoked(request)
            stop_if_over(request)

    async def attach(self, request: OpenRequest) -> None:
        """Post the generation id to Redis before the bytes after it are written to the caller."""
        generation_id = request.meter.generation_id
        if generation_id is not None:
            request.attached = generation_id
            await self._ledger.post_generation(request.budget, request.request_id, generation_id)
            request.reach("attached")

    async def answer_revoked(self, request: OpenRequest) -> None:
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


def stop_if_over(request: OpenRequest) -> None:
    """Stop an answer without a caller, once its id or cost is known."""
    if request.is_over:
        raise Stopped


def raise_failure(upstream: Upstream) -> None:
    """Raise the UpstreamError by which an answer was cut, if it was."""
    if upstream.failure is not None:
        raise upstream.failure
