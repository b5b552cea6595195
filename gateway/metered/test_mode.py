"""Test mode: answers played in this very process. Nothing leaves for OpenRouter, nothing costs, no key is needed."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import orjson

from gateway.errors import InvalidRequest, UpstreamError
from gateway.ledger.worst_case import WorstCase
from gateway.metered.body import ChatRequest, Dialect
from gateway.metered.pricing import worst_case
from gateway.openrouter.pricelist import PriceList
from simulator.answers import SimulatedAnswer, simulate
from simulator.variants import find_variant, model_entry

_ID_BYTES = 10


class RehearsedReply:
    """One played answer, read like OpenRouter's."""

    def __init__(self, performance: SimulatedAnswer) -> None:
        self._performance = performance
        self._is_finishing = False
        self.status = performance.status
        self.headers: Mapping[str, str] = dict(performance.headers)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body, pauses and all. Raises UpstreamError when the piece ends in a cut."""
        for chunk in self._performance.chunks:
            if self._is_finishing and chunk.pause_ms > 1000:
                return
            if chunk.pause_ms:
                await asyncio.sleep(chunk.pause_ms / 1000)
            yield chunk.data
        if self._performance.cut:
            raise UpstreamError("The rehearsed answer broke off.")

    async def read(self) -> bytes:
        """Return the whole body."""
        parts: list[bytes] = []
        with contextlib.suppress(UpstreamError):
            parts.extend([chunk async for chunk in self.chunks()])
        return b"".join(parts)

    def finish_soon(self) -> None:
        """Note that the terminal event was seen."""
        self._is_finishing = True


@contextlib.asynccontextmanager
async def rehearse(chat: ChatRequest, on_connected: Callable[[], Awaitable[None]]) -> AsyncIterator[RehearsedReply]:
    """Yield the answer that test mode gives to `chat`. Raises InvalidRequest for a dialect that is not rehearsed."""
    if chat.dialect is not Dialect.CHAT:
        raise InvalidRequest("Test mode answers chat completions only. Use a live key for this.", status=422)
    await on_connected()
    now = int(time.time())
    generation_id = f"gen-{now}-{secrets.token_hex(_ID_BYTES)}"
    yield RehearsedReply(simulate(chat.document, generation_id=generation_id, created_seconds=now, free=True))


def rehearsed_worst_case(chat: ChatRequest) -> WorstCase | None:
    """Return what a test budget must hold: the stated price of a priced fault, nothing for an ordinary model."""
    variant = find_variant(chat.model)
    if variant is None or not chat.model.startswith("sandbox/"):
        return WorstCase(fixed_nano=0, per_token_zepto=0, max_tokens=chat.max_tokens or 1)
    listed = PriceList.parse(orjson.dumps({"data": [model_entry(variant)]}), fetched_ms=0)
    return worst_case(chat, listed, now_ms=0)
