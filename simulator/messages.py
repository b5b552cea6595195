"""The wire format of /messages: Anthropic's named events, with OpenRouter's id and cost.

No recording is public: the events are Anthropic's documented ones; the cost is in the usage of `message_delta`.
"""

from dataclasses import dataclass

import orjson

from simulator.errors import code_name, type_name
from simulator.variants import ErrorAnswer, Fault
from simulator.wire import AnswerPlan, Pieces, cost_members, data

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


@dataclass(frozen=True)
class MessagesForm:
    """One message with one block: a text or a tool use."""

    header_id: bool = True

    def refusal(self, error: ErrorAnswer, user_id: str) -> dict[str, object]:
        """Return Anthropic's error, with the account id that a proxy must drop."""
        return {**_error(error, None), **({"user_id": user_id} if error.with_user else {})}

    def bare_error(self, plan: AnswerPlan) -> bytes:
        """Return the error event, the answer's only event."""
        return _named(_error(plan.model.error, None))

    def start(self, plan: AnswerPlan) -> bytes:
        """Return the message without content, and the start of its block."""
        message = {**_message(plan), "stop_reason": None, "content": []}
        if plan.model.fault is not Fault.USAGE_MISSING:
            message["usage"] = {"input_tokens": plan.prompt_tokens, "output_tokens": 1}
        block = _block(plan, {}) if plan.tool else {"type": "text", "text": ""}
        begun = {"type": "content_block_start", "index": 0, "content_block": block}
        return _named({"type": "message_start", "message": message}) + _named(begun)

    def pieces(self, plan: AnswerPlan) -> Pieces:
        """Return a function that makes each token's delta: only the piece differs."""
        mark = "\0"
        delta = (
            {"type": "input_json_delta", "partial_json": mark} if plan.tool else {"type": "text_delta", "text": mark}
        )
        event = _named({"type": "content_block_delta", "index": 0, "delta": delta})
        before, after = event.split(orjson.dumps(mark))
        return lambda token: before + orjson.dumps(plan.piece(token)) + after

    def close(self, _: AnswerPlan) -> bytes:
        """Return the end of the block."""
        return _named({"type": "content_block_stop", "index": 0})

    def half_usage(self, plan: AnswerPlan, cost_usd: str) -> bytes:
        """Return a first `message_delta`."""
        return _ending(plan, {"usage": _usage(plan, cost_usd)})

    def usage(self, plan: AnswerPlan, *, stated: bool) -> bytes:
        """Return the last `message_delta`."""
        return _ending(plan, {"usage": _usage(plan)} if stated else {})

    def error(self, plan: AnswerPlan) -> bytes:
        """Return the error event, with the usage after or inside it, depending on the fault."""
        error = _error(plan.model.error, plan.id)
        if plan.model.fault is Fault.ERROR_WITH_USAGE:
            return _named({**error, "usage": _usage(plan)})
        billed = plan.model.fault is Fault.ERROR_BILLED
        return _named(error) + (_ending(plan, {"usage": _usage(plan)}) if billed else b"")

    def end(self) -> bytes:
        """Return `message_stop`; `[DONE]` is not part of this dialect."""
        return _named({"type": "message_stop"})

    def document(self, plan: AnswerPlan) -> dict[str, object]:
        """Return the message, or the error with its id and usage."""
        usage = {} if plan.model.fault is Fault.USAGE_MISSING else {"usage": _usage(plan)}
        if plan.is_failed:
            return {"id": plan.id, **_error(plan.model.error, plan.id), **usage}
        block = _block(plan, _input(plan.content)) if plan.tool else {"type": "text", "text": plan.content}
        return {**_message(plan), "content": [block], **usage}


def _message(plan: AnswerPlan) -> dict[str, object]:
    return {
        "id": plan.id,
        "type": "message",
        "role": "assistant",
        "model": plan.slug,
        "provider": plan.model.provider,
        "content": [],
        "stop_reason": _stop_reason(plan),
        "stop_sequence": None,
    }


def _stop_reason(plan: AnswerPlan) -> str | None:
    return _STOP_REASONS.get(plan.finish_reason or "")


def _block(plan: AnswerPlan, arguments: object) -> dict[str, object]:
    return {"type": "tool_use", "id": f"toolu_{plan.opaque}", "name": plan.tool, "input": arguments}


def _input(content: str) -> object:
    """Return the arguments as an object; empty if they were cut short."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}


def _usage(plan: AnswerPlan, cost_usd: str | None = None) -> dict[str, object]:
    counted = {"input_tokens": plan.prompt_tokens, "output_tokens": plan.completion_tokens}
    cached = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {**counted, **cached, **cost_members(plan, cost_usd)}


def _ending(plan: AnswerPlan, usage: dict[str, object]) -> bytes:
    delta = {"stop_reason": _stop_reason(plan), "stop_sequence": None}
    return _named({"type": "message_delta", "delta": delta, **usage})


def _error(error: ErrorAnswer, request_id: str | None) -> dict[str, object]:
    metadata = {"metadata": error.metadata} if error.metadata is not None else {}
    fields = {"type": type_name(error.code), "message": error.message, "error_type": code_name(error.code), **metadata}
    return {"type": "error", "error": fields, "request_id": request_id}


def _named(event: dict[str, object]) -> bytes:
    return f"event: {event['type']}\n".encode() + data(event)
