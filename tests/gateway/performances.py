"""How tests ask the stand-in and read what it says."""

import json
from decimal import Decimal
from typing import Any

from simulator.answers import Performance, perform

GENERATION_ID = "gen-1780944361-X5HAtL0Z2NQp8nHAiT6F"
CREATED_SECONDS = 1_780_944_361


def ask(
    model: str, *, stream: bool = True, free: bool = False, text: str = "Say this back.", **more: object
) -> Performance:
    """The answer to one user message."""
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}], **more}
    return perform(body, generation_id=GENERATION_ID, created_seconds=CREATED_SECONDS, free=free)


def raw(performance: Performance) -> bytes:
    """Everything it sends."""
    return b"".join(chunk.data for chunk in performance.chunks)


def events(performance: Performance) -> list[dict[str, Any]]:
    """The JSON events of a stream that came whole."""
    lines = raw(performance).split(b"\n\n")
    return [
        json.loads(line[6:], parse_float=Decimal)
        for line in lines
        if line.startswith(b"data: {") and line.endswith(b"}")
    ]


def document(performance: Performance) -> dict[str, Any]:
    """The JSON of an answer that was not streamed, or of an error."""
    body = json.loads(raw(performance), parse_float=Decimal)
    assert isinstance(body, dict)
    return body


def usages(performance: Performance) -> list[dict[str, Any]]:
    """Every usage that is not null."""
    found = [event["usage"] for event in events(performance) if event.get("usage") is not None]
    return [usage for usage in found if isinstance(usage, dict)]


def said(performance: Performance) -> str:
    """What the model said."""
    return "".join(choice["delta"]["content"] for event in events(performance) for choice in event["choices"])
