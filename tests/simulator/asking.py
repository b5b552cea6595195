"""How tests call the simulator and read its answers."""

import json
from decimal import Decimal
from typing import Any

from simulator.answers import SimulatedAnswer, simulate

GENERATION_ID = "gen-1780944361-X5HAtL0Z2NQp8nHAiT6F"
CREATED_SECONDS = 1_780_944_361


def ask(
    model: str, *, stream: bool = True, free: bool = False, text: str = "Say this back.", **more: object
) -> SimulatedAnswer:
    """The answer to one user message."""
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}], **more}
    return simulate(body, generation_id=GENERATION_ID, created_seconds=CREATED_SECONDS, free=free)


PROMPTS: dict[str, dict[str, object]] = {
    "chat/completions": {"messages": [{"role": "user", "content": "Say this back."}]},
    "completions": {"prompt": "Say this back."},
    "embeddings": {"input": "Say this back."},
    "responses": {"input": "Say this back."},
    "messages": {"messages": [{"role": "user", "content": "Say this back."}], "max_tokens": 64},
}


def ask_in(
    dialect: str, model: str = "sandbox/echo", *, stream: bool = True, free: bool = False, **more: object
) -> SimulatedAnswer:
    """The answer to one question in any dialect."""
    body = {"model": model, "stream": stream, **PROMPTS[dialect], **more}
    return simulate(body, dialect=dialect, generation_id=GENERATION_ID, created_seconds=CREATED_SECONDS, free=free)


def raw(answer: SimulatedAnswer) -> bytes:
    """Everything it sends."""
    return b"".join(chunk.data for chunk in answer.chunks)


def events(answer: SimulatedAnswer) -> list[dict[str, Any]]:
    """Return the JSON events of a complete stream."""
    lines = [event.rpartition(b"\n")[2] for event in raw(answer).split(b"\n\n")]
    return [
        json.loads(line[6:], parse_float=Decimal)
        for line in lines
        if line.startswith(b"data: {") and line.endswith(b"}")
    ]


def document(answer: SimulatedAnswer) -> dict[str, Any]:
    """The JSON of an answer that was not streamed, or of an error."""
    body = json.loads(raw(answer), parse_float=Decimal)
    assert isinstance(body, dict)
    return body


def usages(answer: SimulatedAnswer) -> list[dict[str, Any]]:
    """Every usage that is not null."""
    found = [event["usage"] for event in events(answer) if event.get("usage") is not None]
    return [usage for usage in found if isinstance(usage, dict)]


def said(answer: SimulatedAnswer) -> str:
    """Return the model's output text."""
    return "".join(choice["delta"]["content"] for event in events(answer) for choice in event["choices"])
