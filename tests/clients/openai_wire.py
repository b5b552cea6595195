"""What OpenRouter answers in OpenAI's dialects, whole enough for OpenAI's own library; each costs 0.0005 USD."""

import json

from tests.fakes import MODEL

COST_NANO = 500_000
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "cost": 0.0005}
_PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}


def event(document: object) -> bytes:
    """One event of a stream."""
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def chunk(delta: object, finish: str | None = None, **more: object) -> bytes:
    """One event of a chat stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    kind = {"id": "gen-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return event({**kind, "choices": [choice], **more})


def message(**more: object) -> bytes:
    """A whole chat answer."""
    said = {"role": "assistant", "content": None, **more}
    kind = {"id": "gen-1", "object": "chat.completion", "created": 1, "model": MODEL, "usage": USAGE}
    finish = "tool_calls" if "tool_calls" in more else "stop"
    return json.dumps({**kind, "choices": [{"index": 0, "message": said, "finish_reason": finish}]}).encode()


def call(name: str, arguments: str) -> dict[str, object]:
    """A tool's call in a chat answer."""
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


def response(*output: object, status: str = "completed", **more: object) -> dict[str, object]:
    """The object of the responses dialect."""
    known = {"id": "gen-1", "object": "response", "created_at": 1, "model": MODEL, "status": status, "output": output}
    tokens = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5, "cost": 0.0005}
    given = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None}
    return {**known, **given, "usage": tokens if status == "completed" else None, **more}


def item(*content: object, status: str = "completed") -> dict[str, object]:
    """A message in it."""
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": content}


def text(said: str) -> dict[str, object]:
    """A text in that."""
    return {"type": "output_text", "text": said, "annotations": []}


def spoken(said: str, number: int) -> bytes:
    """An event that carries text."""
    more = {"delta": said, "sequence_number": number, "logprobs": []}
    return event({"type": "response.output_text.delta", **_PLACE, **more})


CHAT_START = b": OPENROUTER PROCESSING\n\n" + chunk({"role": "assistant", "content": "Hel"})
CHAT = (CHAT_START, chunk({"content": "lo"}), chunk({}, "stop", usage=USAGE), DONE)
_IN_PROGRESS = {"type": "response.created", "response": response(status="in_progress"), "sequence_number": 0}
_ADDED = {"type": "response.output_item.added", "output_index": 0, "item": item(status="in_progress")}
_PART = {"type": "response.content_part.added", **_PLACE, "part": text(""), "sequence_number": 2}
RESPONSES_START = event(_IN_PROGRESS) + event({**_ADDED, "sequence_number": 1}) + event(_PART) + spoken("Hel", 3)
_COMPLETED = {"type": "response.completed", "response": response(item(text("Hello"))), "sequence_number": 5}
RESPONSES = (RESPONSES_START, spoken("lo", 4), event(_COMPLETED))
STARTS = {"chat": CHAT_START, "responses": RESPONSES_START}
STREAMS = {"chat": CHAT, "responses": RESPONSES}
