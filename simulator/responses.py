"""The wire format of /responses, as recorded from OpenRouter in August 2026: no event names, `[DONE]` at the end.

Rule: events are numbered in order, and the last one contains the whole response with its usage.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from simulator.errors import code_name
from simulator.variants import ErrorAnswer, Fault
from simulator.wire import DONE, AnswerPlan, Pieces, cost_members, data


@dataclass(frozen=True)
class ResponsesForm:
    """`format`: the requested text format, which the response repeats."""

    format: object = None
    header_id: bool = True

    def refusal(self, error: ErrorAnswer, user_id: str) -> dict[str, object]:
        """Return an error object with a code name."""
        return {"error": _error(error), "metadata": None, **({"user_id": user_id} if error.with_user else {})}

    def bare_error(self, plan: AnswerPlan) -> bytes:
        """Return the flat error event, the answer's only event."""
        return _flat(plan.model.error, 0)

    def start(self, plan: AnswerPlan) -> bytes:
        """Return the response without output, then the item, and for a text its content part."""
        begun = self._response(plan, "in_progress")
        item = _item(plan, "in_progress", None)
        events: list[dict[str, object]] = [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
        ]
        if not plan.tool:
            part = {"part": {"type": "output_text", "text": "", "annotations": [], "logprobs": []}}
            events.append({"type": "response.content_part.added", **_at(plan), **part})
        return _numbered(events, 0)

    def pieces(self, plan: AnswerPlan) -> Pieces:
        """Return a function that makes each token's delta: only the piece and the number differ."""
        mark = "\0"
        kind = "function_call_arguments" if plan.tool else "output_text"
        logprobs: dict[str, object] = {} if plan.tool else {"logprobs": []}
        event = data({"type": f"response.{kind}.delta", **_at(plan), "delta": mark, **logprobs, "sequence_number": 0})
        before, after = event.split(orjson.dumps(mark))
        after = after.removesuffix(b"0}\n\n")
        first = _starts(plan)
        return lambda token: before + orjson.dumps(plan.piece(token)) + after + b"%d}\n\n" % (first + token)

    def close(self, plan: AnswerPlan) -> bytes:
        """Return the complete text or arguments, then the item."""
        done = {"type": "response.output_item.done", "output_index": 0, "item": _item(plan, _ended(plan), plan.content)}
        if plan.tool:
            whole = {"name": plan.tool, "arguments": plan.content}
            events = [{"type": "response.function_call_arguments.done", **_at(plan), **whole}, done]
        else:
            part = {"type": "output_text", "text": plan.content, "annotations": [], "logprobs": []}
            events = [
                {"type": "response.output_text.done", **_at(plan), "text": plan.content, "logprobs": []},
                {"type": "response.content_part.done", **_at(plan), "part": part},
                done,
            ]
        return _numbered(events, _starts(plan) + plan.completion_tokens)

    def half_usage(self, plan: AnswerPlan, cost_usd: str) -> bytes:
        """Return a response in progress with a usage; any other event with one would end the answer."""
        response = {**self._response(plan, "in_progress"), "usage": _usage(plan, cost_usd)}
        return _numbered([{"type": "response.in_progress", "response": response}], _closed(plan))

    def usage(self, plan: AnswerPlan, *, stated: bool) -> bytes:
        """Return the final response."""
        response = self.document(plan)
        if not stated:
            response["usage"] = None
        number = _closed(plan) + (plan.model.fault is Fault.USAGE_DOUBLED)
        return _numbered([{"type": f"response.{_ended(plan)}", "response": response}], number)

    def error(self, plan: AnswerPlan) -> bytes:
        """Return the failed response with its usage, or the flat error event without usage."""
        if plan.model.fault is Fault.ERROR_LAST:
            return _flat(plan.model.error, _starts(plan) + plan.completion_tokens)
        closed = plan.model.fault is Fault.ERROR_WITH_USAGE
        number = _closed(plan) if closed else _starts(plan) + plan.completion_tokens
        return _numbered([{"type": "response.failed", "response": self.document(plan)}], number)

    def end(self) -> bytes:
        """Return `[DONE]`."""
        return DONE

    def document(self, plan: AnswerPlan) -> dict[str, object]:
        """Return the response, with status `failed` if there is an error."""
        response = self._response(plan, _ended(plan))
        response["output"] = [_item(plan, _ended(plan), plan.content)]
        if plan.is_failed:
            response["error"] = _error(plan.model.error)
        if plan.is_cut_short and not plan.is_failed:
            response["incomplete_details"] = {"reason": "max_output_tokens"}
        response["usage"] = None if plan.model.fault is Fault.USAGE_MISSING else _usage(plan)
        return response

    def _response(self, plan: AnswerPlan, status: str) -> dict[str, object]:
        return {
            "id": plan.id,
            "object": "response",
            "created_at": plan.created,
            "model": plan.slug,
            "status": status,
            "completed_at": plan.created if status == "completed" else None,
            "output": [],
            "error": None,
            "incomplete_details": None,
            "tools": [],
            "tool_choice": "auto",
            "parallel_tool_calls": True,
            "max_output_tokens": None,
            "temperature": 1,
            "top_p": 1,
            "metadata": {},
            "background": False,
            "previous_response_id": None,
            "service_tier": "auto",
            "truncation": "disabled",
            "store": False,
            "instructions": None,
            "text": {"format": self.format or {"type": "text"}},
            "reasoning": None,
            "usage": None,
        }


def responses_form(body: Mapping[str, object]) -> ResponsesForm:
    """Return the form of the requested answer."""
    text = body.get("text")
    form = text.get("format") if isinstance(text, dict) else None
    try:
        # The schema is echoed with decimals as floats; one that orjson cannot write is not echoed.
        return ResponsesForm(orjson.loads(orjson.dumps(form, default=float)) if isinstance(form, dict) else None)
    except TypeError:
        return ResponsesForm()


def _starts(plan: AnswerPlan) -> int:
    """Return the number of events before the first delta."""
    return 3 if plan.tool else 4


def _closed(plan: AnswerPlan) -> int:
    """Return the number of events before the final response."""
    return _starts(plan) + plan.completion_tokens + (2 if plan.tool else 3)


def _ended(plan: AnswerPlan) -> str:
    if plan.is_failed:
        return "failed"
    return "incomplete" if plan.is_cut_short else "completed"


def _item_id(plan: AnswerPlan) -> str:
    return f"{'fc' if plan.tool else 'msg'}_tmp_{plan.opaque}"


def _at(plan: AnswerPlan) -> dict[str, object]:
    place: dict[str, object] = {"output_index": 0, "item_id": _item_id(plan)}
    return place if plan.tool else {**place, "content_index": 0}


def _item(plan: AnswerPlan, status: str, text: str | None) -> dict[str, object]:
    """Return the output's only item. `text`: its content, None at the start."""
    status = "incomplete" if status == "failed" else status
    if plan.tool:
        call = {"call_id": f"call_{plan.opaque}", "name": plan.tool, "arguments": text or ""}
        return {"id": _item_id(plan), "type": "function_call", "status": status, **call}
    content = [] if text is None else [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    return {"id": _item_id(plan), "type": "message", "status": status, "role": "assistant", "content": content}


def _usage(plan: AnswerPlan, cost_usd: str | None = None) -> dict[str, object]:
    return {
        "input_tokens": plan.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": plan.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": plan.prompt_tokens + plan.completion_tokens,
        **cost_members(plan, cost_usd),
    }


def _error(error: ErrorAnswer) -> dict[str, object]:
    metadata = {"metadata": error.metadata} if error.metadata is not None else {}
    return {"code": code_name(error.code), "message": error.message, **metadata}


def _flat(error: ErrorAnswer, number: int) -> bytes:
    return _numbered([{"type": "error", **_error(error), "param": None}], number)


def _numbered(events: list[dict[str, object]], first: int) -> bytes:
    return b"".join(data({**event, "sequence_number": first + at}) for at, event in enumerate(events))
