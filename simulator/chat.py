"""The wire format of /chat/completions and the older /completions, as recorded from OpenRouter, key order included."""

from dataclasses import dataclass

import orjson

from simulator.variants import ErrorAnswer, Fault
from simulator.wire import DONE, AnswerPlan, Pieces, cost_members, data


@dataclass(frozen=True)
class ChatForm:
    """Chat, or with `is_text` the older endpoint, whose choices contain a text instead of a message."""

    is_text: bool = False
    header_id: bool = True

    def refusal(self, error: ErrorAnswer, user_id: str) -> dict[str, object]:
        """Return `{"error": …}`, with the account id that a proxy must drop."""
        return {"error": plain_error(error), **({"user_id": user_id} if error.with_user else {})}

    def bare_error(self, plan: AnswerPlan) -> bytes:
        """Return the refusal as one event."""
        return data(self.refusal(plan.model.error, plan.user_id))

    def start(self, plan: AnswerPlan) -> bytes:
        """Return the chunk with a tool call's name; b"" for a text."""
        return self._event(plan, None, call={"id": f"call_{plan.opaque}", "name": plan.tool}) if plan.tool else b""

    def pieces(self, plan: AnswerPlan) -> Pieces:
        """Return a function that makes each token's chunk: only the piece differs."""
        mark = "\0"
        event = self._event(plan, None, call={} if plan.tool else None, content=mark)
        before, after = event.split(orjson.dumps(mark))
        return lambda token: before + orjson.dumps(plan.piece(token)) + after

    def close(self, plan: AnswerPlan) -> bytes:
        """Return the chunk with the finish reason."""
        return self._event(plan, plan.finish_reason)

    def half_usage(self, plan: AnswerPlan, cost_usd: str) -> bytes:
        """Return a usage chunk."""
        return self._event(plan, plan.finish_reason, usage=chat_usage(plan, cost_usd))

    def usage(self, plan: AnswerPlan, *, stated: bool) -> bytes:
        """Return the usage chunk."""
        return self._event(plan, plan.finish_reason, usage=chat_usage(plan)) if stated else b""

    def error(self, plan: AnswerPlan) -> bytes:
        """Return the error chunk: before a usage chunk, with usage, or last of all."""
        fault = plan.model.fault
        if fault is Fault.ERROR_WITH_USAGE:
            return self._event(plan, None, error=plan.model.error, usage=chat_usage(plan))
        event = self._event(plan, plan.finish_reason, error=plan.model.error)
        return event + self.usage(plan, stated=True) if fault is Fault.ERROR_BILLED else event

    def end(self) -> bytes:
        """Return `[DONE]`."""
        return DONE

    def document(self, plan: AnswerPlan) -> dict[str, object]:
        """Return the completion; a provider's error is in its choice."""
        model = plan.model
        choice: dict[str, object] = {
            "index": 0,
            "logprobs": None,
            "finish_reason": plan.finish_reason,
            "native_finish_reason": plan.finish_reason,
        }
        if self.is_text:
            choice["text"] = plan.content
        else:
            choice["message"] = _message(plan)
        if plan.is_failed:
            choice["error"] = plain_error(model.error)
        completion: dict[str, object] = {
            "id": plan.id,
            "object": "text_completion" if self.is_text else "chat.completion",
            "created": plan.created,
            "model": plan.slug,
            "provider": model.provider,
            "system_fingerprint": None,
            "service_tier": None,
            "choices": [choice],
        }
        if model.fault is not Fault.USAGE_MISSING:
            completion["usage"] = chat_usage(plan)
        return completion

    def _event(
        self,
        plan: AnswerPlan,
        finish_reason: str | None,
        *,
        content: str = "",
        call: dict[str, str] | None = None,
        error: ErrorAnswer | None = None,
        usage: dict[str, object] | None = None,
    ) -> bytes:
        delta: dict[str, object] = {"content": content, "role": "assistant"}
        if call is not None:
            function = {"name": call["name"], "arguments": ""} if call else {"arguments": content}
            named = {"id": call["id"]} if call else {}
            delta.update(content=None, tool_calls=[{"index": 0, **named, "type": "function", "function": function}])
        output: dict[str, object] = {"text": content, "logprobs": None} if self.is_text else {"delta": delta}
        ended = {"finish_reason": finish_reason, "native_finish_reason": finish_reason}
        event: dict[str, object] = {
            "id": plan.id,
            "object": "text_completion" if self.is_text else "chat.completion.chunk",
            "created": plan.created,
            "model": plan.slug,
            "provider": plan.model.provider,
        }
        if usage is not None:
            event["service_tier"] = None
        event["choices"] = [{"index": 0, **output, **ended}]
        if error is not None:
            event["error"] = plain_error(error)
        if usage is not None:
            event["usage"] = usage
        return data(event)


def plain_error(error: ErrorAnswer) -> dict[str, object]:
    """Return an error object with a numeric code."""
    if not error.coded:
        return {"message": error.message, "http_status": error.code, "error_type": "not_found"}
    metadata = {"metadata": error.metadata} if error.metadata is not None else {}
    return {"message": error.message, "code": error.code, **metadata}


def chat_usage(plan: AnswerPlan, cost_usd: str | None = None) -> dict[str, object]:
    """Return the usage object."""
    stated = cost_members(plan, cost_usd)
    details = {"cost_details": stated.pop("cost_details")} if stated else {}
    return {
        "prompt_tokens": plan.prompt_tokens,
        "completion_tokens": plan.completion_tokens,
        "total_tokens": plan.prompt_tokens + plan.completion_tokens,
        **stated,
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 0, "video_tokens": 0},
        **details,
        "completion_tokens_details": {"reasoning_tokens": 0, "image_tokens": 0, "audio_tokens": 0},
    }


def _message(plan: AnswerPlan) -> dict[str, object]:
    message: dict[str, object] = {
        "role": "assistant",
        "content": None if plan.tool else plan.content,
        "refusal": None,
        "reasoning": None,
    }
    if plan.tool:
        function = {"name": plan.tool, "arguments": plan.content}
        message["tool_calls"] = [{"index": 0, "id": f"call_{plan.opaque}", "type": "function", "function": function}]
    return message
