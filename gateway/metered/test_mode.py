"""Test mode: answers are simulated in this process, without a request to OpenRouter, a cost, or a funding key."""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator

import orjson

from gateway.errors import UpstreamError
from gateway.ledger.worst_case import WorstCase
from gateway.metered.body import ChatRequest
from gateway.metered.pricing import worst_case
from gateway.openrouter.pricelist import PriceList
from simulator.answers import simulate
from simulator.variants import find_variant, model_entry
from simulator.wire import Chunk

_ID_BYTES = 10


class SimulatedConnection:
    """One simulated answer, in any dialect, with the interface of a connection to OpenRouter."""

    def __init__(self, chat: ChatRequest) -> None:
        self._chat = chat
        self._chunks: Iterator[Chunk] = iter(())
        self._cut = False
        self._pieces: list[bytes] = []
        self._pause: asyncio.TimerHandle | None = None
        self._on_progress: Callable[[], None] = lambda: None
        self._is_released = False
        self.is_sent = True
        self.status: int | None = None
        self.headers: list[tuple[str, str]] = []
        self.is_ended = False
        self.failure: UpstreamError | None = None
        self.last_heard = 0.0

    def start(self, on_progress: Callable[[], None]) -> None:
        """Begin a request. `on_progress` is called whenever more of its answer is available."""
        self._on_progress = on_progress

    def send(self, _head: bytes, _body: bytes) -> None:
        """Start the answer, unless it was released."""
        if self._is_released:
            return
        now = int(time.time())
        generation_id = f"gen-{now}-{secrets.token_hex(_ID_BYTES)}"
        played = simulate(
            self._chat.document,
            generation_id=generation_id,
            created_seconds=now,
            dialect=self._chat.dialect.value,
            free=True,
        )
        self._chunks, self._cut = iter(played.chunks), played.cut
        self.status, self.headers = played.status, list(played.headers)
        self._play()

    @property
    def lines(self) -> list[bytes]:
        """The header lines."""
        return [f"{name}: {value}".encode() for name, value in self.headers]

    def header(self, name: str) -> str | None:
        """Return a header's value, None without one. `name` in lower case."""
        return next((value for each, value in self.headers if each.lower() == name), None)

    def take(self) -> bytes:
        """Return the bytes since the last call."""
        piece = b"".join(self._pieces)
        self._pieces.clear()
        return piece

    def release(self) -> None:
        """End the answer."""
        self._is_released = True
        if self._pause is not None:
            self._pause.cancel()

    def _play(self, waited: Chunk | None = None) -> None:
        """Provide chunks up to the next pause; `waited`: the chunk whose pause is over."""
        self.last_heard = asyncio.get_running_loop().time()
        if waited is not None:
            self._pieces.append(waited.data)
        for chunk in self._chunks:
            if chunk.pause_ms:
                self._pause = asyncio.get_running_loop().call_later(chunk.pause_ms / 1000, self._play, chunk)
                break
            self._pieces.append(chunk.data)
        else:
            self.failure = UpstreamError("The simulated answer broke off.") if self._cut else None
            self.is_ended = not self._cut
        self._on_progress()


def simulated_worst_case(chat: ChatRequest) -> WorstCase | None:
    """Return the hold of a test budget: the stated price of a model with one, 0 for an ordinary model."""
    variant = find_variant(chat.model)
    if variant is None or not chat.model.startswith("sandbox/"):
        return WorstCase(fixed_nano=0, per_token_zepto=0, max_tokens=chat.max_tokens or 1)
    listed = PriceList.parse(orjson.dumps({"data": [model_entry(variant)]}), fetched_ms=0)
    return worst_case(chat, listed, now_ms=0)
