"""The bill of each key by generation, with which tests compare the gateway's ledger."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from simulator.answers import SimulatedAnswer, generation_body
from simulator.wire import usd_literal


class GenerationState(StrEnum):
    """Whether a generation is running, ended, or was cancelled by its client's hang-up."""

    OPEN = "open"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(slots=True)
class Entry:
    """One generation on the bill. `produced_tokens`: completion tokens sent; `ended_at`: unix seconds."""

    answer: SimulatedAnswer
    key_sha256: str
    state: GenerationState = GenerationState.OPEN
    produced_tokens: int = 0
    ended_at: float | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def cost_nano(self) -> int:
        """The cost in nano-USD; of an open generation, its cost if the client hung up now."""
        if self.state is GenerationState.DONE:
            return self.answer.cost_nano
        return self.answer.billed_nano(self.produced_tokens)

    def end(self, state: GenerationState, now: float) -> None:
        """Close the entry; only the first call has an effect."""
        if self.state is GenerationState.OPEN:
            self.state, self.ended_at = state, now
            self.ended.set()

    def generation(self) -> bytes:
        """Return the body of `GET /generation`."""
        cancelled = self.state is GenerationState.CANCELLED
        return generation_body(self.answer, produced_tokens=self.produced_tokens if cancelled else None)

    def as_json(self) -> dict[str, object]:
        """Return the entry as `GET /sandbox/bill` shows it."""
        return {
            "id": self.answer.generation_id,
            "model": self.answer.model,
            "cost": usd_literal(Decimal(self.cost_nano).scaleb(-9)),
            "cost_nano": self.cost_nano,
            "is_byok": self.answer.is_byok,
            "state": self.state.value,
            "cancelled": self.state is GenerationState.CANCELLED,
        }


class Bill:
    """All generations since the start or last reset, and each key's number of requests, refused ones included."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._by_key: defaultdict[str, list[Entry]] = defaultdict(list)
        self.requests: defaultdict[str, int] = defaultdict(int)

    def open(self, answer: SimulatedAnswer, key_sha256: str) -> Entry:
        """Open an entry. An answer without a generation id (a bare error) costs nothing and is not kept."""
        entry = Entry(answer, key_sha256)
        if answer.generation_id is not None:
            self._entries[answer.generation_id] = entry
            self._by_key[key_sha256].append(entry)
        return entry

    def find(self, generation_id: str) -> Entry | None:
        """Return the entry of a generation, None if unknown."""
        return self._entries.get(generation_id)

    def entries(self, key_sha256: str | None = None) -> Iterator[Entry]:
        """Return an iterator over the entries of one key, or of all."""
        return iter(list(self._entries.values()) if key_sha256 is None else self._by_key.get(key_sha256, []))

    def total_nano(self, key_sha256: str | None = None, *, is_byok: bool | None = None) -> int:
        """Return the total of one key or all; `is_byok` selects OpenRouter's part (False) or the providers' (True)."""
        entries = self.entries(key_sha256)
        return sum(e.cost_nano for e in entries if is_byok is None or e.answer.is_byok is is_byok)

    async def all_ended(self) -> None:
        """Wait until all generations known now have ended."""
        for entry in self.entries():
            await entry.ended.wait()

    def reset(self) -> None:
        """Clear the bill; generations that are still open will not be billed."""
        self._entries.clear()
        self._by_key.clear()
        self.requests.clear()

    def as_json(self) -> dict[str, object]:
        """Return the whole bill: totals, and `keys` by the SHA-256 of each key."""
        return {
            "cost_nano": self.total_nano(),
            "generations": len(self._entries),
            "keys": {key: self._key_json(key) for key in self.requests.keys() | self._by_key.keys()},
        }

    def _key_json(self, key_sha256: str) -> dict[str, object]:
        total_nano = self.total_nano(key_sha256)
        return {
            "requests": self.requests.get(key_sha256, 0),
            "cost": usd_literal(Decimal(total_nano).scaleb(-9)),
            "cost_nano": total_nano,
            "generations": [entry.as_json() for entry in self.entries(key_sha256)],
        }
