"""Streams with every shape recorded from OpenRouter, with our own texts and ids."""

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import cast

import pytest

FOLDER = Path(__file__).parent / "streams"


@dataclass(frozen=True, slots=True)
class Recording:
    """One stream: its bytes, the lengths of its transport chunks if known, and the expected result of reading it."""

    name: str
    body: bytes
    chunk_lengths: tuple[int, ...]
    generation_id: str | None
    cost: Decimal | None
    prompt_tokens: int | None
    completion_tokens: int | None
    has_usage: bool
    done: bool
    error_codes: tuple[int | str, ...]

    def chunks(self) -> list[bytes]:
        """The body as the recorder received it, or whole."""
        lengths = self.chunk_lengths or (len(self.body),)
        ends = [sum(lengths[: count + 1]) for count in range(len(lengths))]
        return [self.body[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _recording(path: Path) -> Recording:
    facts = json.loads(path.with_suffix(".json").read_text())
    expected = facts["expected"]
    literal = expected["cost_literal"]
    return Recording(
        name=path.stem,
        body=path.read_bytes(),
        chunk_lengths=tuple(facts["chunk_lengths"] or ()),
        generation_id=expected["id"],
        cost=None if literal is None else Decimal(literal),
        prompt_tokens=expected["prompt_tokens"],
        completion_tokens=expected["completion_tokens"],
        has_usage=cast(bool, expected["has_usage"]),
        done=cast(bool, expected["done"]),
        error_codes=tuple(expected["error_codes"]),
    )


RECORDINGS = tuple(_recording(path) for path in sorted(FOLDER.glob("*.sse")))

each_recording = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)


def recording(name: str) -> Recording:
    """The stream of this name."""
    return next(each for each in RECORDINGS if each.name == name)
