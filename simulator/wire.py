"""The bytes of a stand-in OpenRouter's answers: comments, chunks, usage, errors, blanks before JSON.

The forms are those recorded from OpenRouter in 2025 and 2026, key order included.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

import orjson

from simulator.variants import ErrorAnswer, Fault, Model, ModelVariant

CHARACTERS_PER_TOKEN = 4

COMMENT = b": OPENROUTER PROCESSING\n\n"
BLANKS = b"\n         \n"
DONE = b"data: [DONE]\n\n"

# Longer than any client waits: the silent model's answer ends when its client gives up.
FOREVER_MS = 3_600_000


@dataclass(frozen=True)
class Chunk:
    """Bytes to send at once after `pause_ms`; `tokens` is how many completion tokens they carry."""

    data: bytes
    pause_ms: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class AnswerPlan:
    """An answer with everything decided but the form: streamed or not."""

    variant: ModelVariant
    id: str
    created: int
    text: str | None
    keepalive_ms: int
    user_id: str
    prompt_tokens: int
    completion_tokens: int
    is_cut_short: bool
    cost_usd: str = "0"
    start_usd: Decimal = Decimal(0)

    @property
    def model(self) -> Model:
        """The row of the model table."""
        return self.variant.model

    @property
    def slug(self) -> str:
        """The model's name as the answer states it, which may be a dated one."""
        return self.model.canonical_slug or self.variant.name

    @property
    def finish_reason(self) -> str | None:
        """How the answer ended; None when it never did."""
        if self.model.fault in (Fault.CUT, Fault.SILENT):
            return None
        if self.model.fault in (Fault.ERROR_LAST, Fault.BARE_ERROR):
            return "error"
        return "length" if self.is_cut_short else "stop"

    def piece(self, token: int) -> str:
        """Return the text of one token."""
        if self.text is None:
            return f"{token % 1000:03d} "
        start = token * CHARACTERS_PER_TOKEN
        return self.text[start : start + CHARACTERS_PER_TOKEN]


@dataclass(frozen=True)
class Chunks:
    """The chunks of an answer, made while they are read, the same at every reading."""

    plan: AnswerPlan
    streamed: bool

    def __iter__(self) -> Iterator[Chunk]:
        chunks = _stream(self.plan) if self.streamed else _whole(self.plan)
        size = self.plan.model.split_bytes
        return _split(chunks, size) if size else chunks


def error_body(error: ErrorAnswer, user_id: str) -> dict[str, object]:
    """Return the JSON of an error without a generation, as it stands in an error answer or bare in a 200."""
    body: dict[str, object] = {"error": _error(error)}
    if error.with_user:
        body["user_id"] = user_id
    return body


def usd_literal(usd: Decimal) -> str:
    """Return `usd` as JavaScript writes a number: no trailing zeros, an exponent below a millionth."""
    if usd == 0:
        return "0"
    shortest = usd.normalize()
    if shortest.adjusted() >= -6:
        return format(shortest, "f")
    digits = "".join(map(str, shortest.as_tuple().digits))
    point = "." if len(digits) > 1 else ""
    return f"{digits[0]}{point}{digits[1:]}e{shortest.adjusted()}"


def _error(error: ErrorAnswer) -> dict[str, object]:
    if not error.coded:
        return {"message": error.message, "http_status": error.code, "error_type": "not_found"}
    metadata = {"metadata": error.metadata} if error.metadata is not None else {}
    return {"message": error.message, "code": error.code, **metadata}


def _stream(plan: AnswerPlan) -> Iterator[Chunk]:
    yield Chunk(COMMENT)
    yield Chunk(COMMENT)
    yield from _tokens(plan)
    yield from _ENDINGS[plan.model.fault](plan)


def _tokens(plan: AnswerPlan) -> Iterator[Chunk]:
    before, after = _event(plan, None, content="\0").split(b'"\\u0000"')
    for token in range(plan.completion_tokens):
        yield from _kept_alive(plan.variant.pause_ms, plan.keepalive_ms, COMMENT)
        if plan.model.comments_between:
            yield Chunk(COMMENT)
        rest_ms = plan.variant.pause_ms % plan.keepalive_ms
        yield Chunk(before + orjson.dumps(plan.piece(token)) + after, rest_ms, tokens=1)


def _kept_alive(pause_ms: int, period_ms: int, sign: bytes) -> Iterator[Chunk]:
    """Yield the keep-alive bytes `sign` after each full period of a pause; the caller waits for the rest of it."""
    for _ in range(pause_ms // period_ms):
        yield Chunk(sign, period_ms)


def _event(
    plan: AnswerPlan,
    finish_reason: str | None,
    *,
    content: str = "",
    error: ErrorAnswer | None = None,
    usage: dict[str, object] | None = None,
) -> bytes:
    choice = {
        "index": 0,
        "delta": {"content": content, "role": "assistant"},
        "finish_reason": finish_reason,
        "native_finish_reason": finish_reason,
    }
    event: dict[str, object] = {
        "id": plan.id,
        "object": "chat.completion.chunk",
        "created": plan.created,
        "model": plan.slug,
        "provider": plan.model.provider,
    }
    if usage is not None:
        event["service_tier"] = None
    event["choices"] = [choice]
    if error is not None:
        event["error"] = _error(error)
    if usage is not None:
        event["usage"] = usage
    return b"data: " + orjson.dumps(event) + b"\n\n"


def _usage(plan: AnswerPlan, cost_usd: str | None = None) -> dict[str, object]:
    """Return the usage object; cost literals are written exactly as they are billed."""
    model = plan.model
    billed = orjson.Fragment(cost_usd or plan.cost_usd)
    usage: dict[str, object] = {
        "prompt_tokens": plan.prompt_tokens,
        "completion_tokens": plan.completion_tokens,
        "total_tokens": plan.prompt_tokens + plan.completion_tokens,
        "cost": orjson.Fragment("0") if model.is_byok else billed,
        "is_byok": model.is_byok,
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 0, "video_tokens": 0},
        "cost_details": {"upstream_inference_cost": billed},
        "completion_tokens_details": {"reasoning_tokens": 0, "image_tokens": 0, "audio_tokens": 0},
    }
    if model.fault is Fault.COST_NULL:
        usage["cost"] = None
    if model.fault is Fault.COST_MISSING:
        del usage["cost"], usage["is_byok"], usage["cost_details"]
    elif not model.states_byok:
        del usage["is_byok"]
    return usage


def _finish(plan: AnswerPlan) -> Chunk:
    return Chunk(_event(plan, plan.finish_reason))


def _usage_chunk(plan: AnswerPlan, cost_usd: str | None = None) -> Chunk:
    return Chunk(_event(plan, plan.finish_reason, usage=_usage(plan, cost_usd)))


def _end_whole(plan: AnswerPlan) -> Iterator[Chunk]:
    yield _finish(plan)
    yield _usage_chunk(plan)
    yield Chunk(DONE)


def _end_bare_error(plan: AnswerPlan) -> Iterator[Chunk]:
    yield Chunk(b"data: " + orjson.dumps(error_body(plan.model.error, plan.user_id)) + b"\n\n")


def _end_error_billed(plan: AnswerPlan) -> Iterator[Chunk]:
    yield Chunk(_event(plan, plan.finish_reason, error=plan.model.error))
    yield _usage_chunk(plan)


def _end_error_with_usage(plan: AnswerPlan) -> Iterator[Chunk]:
    yield _finish(plan)
    yield Chunk(_event(plan, None, error=plan.model.error, usage=_usage(plan)))
    yield Chunk(DONE)


def _end_error_last(plan: AnswerPlan) -> Iterator[Chunk]:
    yield Chunk(_event(plan, "error", error=plan.model.error))


def _end_without_usage(plan: AnswerPlan) -> Iterator[Chunk]:
    yield _finish(plan)
    yield Chunk(DONE)


def _end_usage_doubled(plan: AnswerPlan) -> Iterator[Chunk]:
    yield _finish(plan)
    yield _usage_chunk(plan, usd_literal(Decimal(plan.cost_usd) / 2))
    yield _usage_chunk(plan)
    yield Chunk(DONE)


def _end_cut(plan: AnswerPlan) -> Iterator[Chunk]:
    event = _event(plan, None, content="never whole")
    yield Chunk(event[: len(event) // 2])


def _end_silent(_: AnswerPlan) -> Iterator[Chunk]:
    yield Chunk(b"", FOREVER_MS)


_ENDINGS: dict[Fault, Callable[[AnswerPlan], Iterator[Chunk]]] = {
    Fault.NONE: _end_whole,
    Fault.BARE_ERROR: _end_bare_error,
    Fault.ERROR_BILLED: _end_error_billed,
    Fault.ERROR_WITH_USAGE: _end_error_with_usage,
    Fault.ERROR_LAST: _end_error_last,
    Fault.USAGE_MISSING: _end_without_usage,
    Fault.COST_MISSING: _end_whole,
    Fault.COST_NULL: _end_whole,
    Fault.USAGE_DOUBLED: _end_usage_doubled,
    Fault.CUT: _end_cut,
    Fault.SILENT: _end_silent,
    Fault.HANGING: _end_whole,
}


def _whole(plan: AnswerPlan) -> Iterator[Chunk]:
    """Yield an answer that is not streamed: blanks commit the 200 before anything is known, then the JSON."""
    pause_ms = plan.variant.pause_ms * plan.completion_tokens
    yield Chunk(BLANKS)
    yield from _kept_alive(pause_ms, plan.keepalive_ms, BLANKS)
    rest_ms = pause_ms % plan.keepalive_ms
    if plan.model.fault is Fault.SILENT:
        yield Chunk(b"", FOREVER_MS)
        return
    body = orjson.dumps(_completion(plan))
    cut = len(body) // 2 if plan.model.fault is Fault.CUT else len(body)
    yield Chunk(BLANKS + body[:cut], rest_ms, tokens=plan.completion_tokens)


def _completion(plan: AnswerPlan) -> dict[str, object]:
    model = plan.model
    if model.fault is Fault.BARE_ERROR:
        return error_body(model.error, plan.user_id)
    choice: dict[str, object] = {
        "index": 0,
        "logprobs": None,
        "finish_reason": plan.finish_reason,
        "native_finish_reason": plan.finish_reason,
        "message": {
            "role": "assistant",
            "content": "".join(map(plan.piece, range(plan.completion_tokens))),
            "refusal": None,
            "reasoning": None,
        },
    }
    if model.fault in (Fault.ERROR_BILLED, Fault.ERROR_WITH_USAGE, Fault.ERROR_LAST):
        choice["error"] = _error(model.error)
    completion: dict[str, object] = {
        "id": plan.id,
        "object": "chat.completion",
        "created": plan.created,
        "model": plan.slug,
        "provider": model.provider,
        "system_fingerprint": None,
        "service_tier": None,
        "choices": [choice],
    }
    if model.fault is not Fault.USAGE_MISSING:
        completion["usage"] = _usage(plan)
    return completion


def _split(chunks: Iterator[Chunk], size: int) -> Iterator[Chunk]:
    """Yield the same bytes in pieces of `size`; a chunk's tokens come with its last piece."""
    for chunk in chunks:
        starts = range(0, len(chunk.data), size)
        for start in starts:
            is_last = start + size >= len(chunk.data)
            yield Chunk(
                chunk.data[start : start + size],
                chunk.pause_ms if start == 0 else 0,
                tokens=chunk.tokens if is_last else 0,
            )
