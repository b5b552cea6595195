"""What a stand-in OpenRouter answers to a chat-completions request, byte for byte, and what it bills for it.

Pure: no I/O, no clock, no randomness; the caller gives the id and the time.
Tokens are counted simply: four characters of text are one token, a rest counts as one.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal

import orjson

from gateway.money import nano_from_usd
from simulator.variants import ECHO, Abort, ErrorAnswer, Fault, ModelVariant, find_variant
from simulator.wire import CHARACTERS_PER_TOKEN, AnswerPlan, Chunk, Chunks, error_body, usd_literal

# The account a key belongs to, when the caller does not name one. Real error bodies carry it; a proxy must drop it.
SOME_USER_ID = "user_2sandboxSANDBOX2sandboxSAND"

# OpenRouter's period is not documented; one a second keeps any client from giving up.
KEEPALIVE_MS = 1_000

_SLUG = re.compile(r"(?!sandbox/)[\w.~@-]{1,100}/[\w.:~-]{1,150}\Z", re.ASCII)
_HALVED = {Fault.ERROR_LAST, Fault.CUT, Fault.SILENT}

# OpenRouter's zero-completion insurance: an answer that ends in one of these costs nothing.
_UNBILLED = {Fault.BARE_ERROR, Fault.ERROR_WITH_USAGE, Fault.ERROR_LAST}


@dataclass(frozen=True)
class SimulatedAnswer:
    """One answer to a request. `chunks` is made while it is read and can be read again.

    `cut`: the connection drops after the last chunk, without a clean end. `hangs`: it stays open after the last chunk.
    `cost_nano` is all that is billed when the answer runs to its end; with `is_byok` by the provider, not OpenRouter.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: Iterable[Chunk]
    model: str
    generation_id: str | None = None
    created_seconds: int = 0
    streamed: bool = False
    cut: bool = False
    hangs: bool = False
    cost_usd: str = "0"
    cost_nano: int = 0
    start_nano: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    is_byok: bool = False
    finish_reason: str | None = None
    provider: str = "Sandbox"
    abort: Abort = Abort.PRODUCED

    def billed_nano(self, produced_tokens: int) -> int:
        """Return what is billed when the client hangs up after that many completion tokens were sent.

        A stream is billed nothing before its first token, then the prompt and the completion's share so far, a
        fraction rounded up; of a given price just the share. An answer that is not streamed is billed in full.
        """
        if self.abort is Abort.FULL or not self.streamed:
            return self.cost_nano
        produced = min(produced_tokens, self.completion_tokens)
        if self.abort is Abort.NOTHING or produced == 0:
            return 0
        output_nano = (self.cost_nano - self.start_nano) * produced
        return self.start_nano - (-output_nano // self.completion_tokens)

    def billed_after(self, chunks: int) -> int:
        """Return what is billed when the client hangs up after that many chunks were sent."""
        sent = zip(range(chunks), self.chunks, strict=False)
        return self.billed_nano(sum(chunk.tokens for _, chunk in sent))


def simulate(
    body: Mapping[str, object],
    *,
    generation_id: str,
    created_seconds: int,
    free: bool = False,
    user_id: str = SOME_USER_ID,
    keepalive_ms: int = KEEPALIVE_MS,
) -> SimulatedAnswer:
    """Return the answer to a chat-completions body.

    `free` is the gateway's test mode: only models of a given price state one, and any `author/slug` answers like echo.
    A name that is in no table is otherwise a 400, as is a body without messages or with an impossible max_tokens.
    A pause longer than `keepalive_ms` (at least 1) is broken by comments, or by blanks before JSON.
    """
    name = body.get("model")
    variant = find_variant(name) if isinstance(name, str) else None
    if variant is None and free and isinstance(name, str) and _SLUG.match(name):
        variant = ModelVariant(ECHO, name)
    if variant is None:
        text = f"{name} is not a valid model ID" if name else "No models provided"
        return error_answer(ErrorAnswer(400, text[:300]), user_id=user_id)
    if variant.model.fault is Fault.REFUSED:
        return error_answer(variant.model.error, model=variant.name, user_id=user_id)
    problem = _problem_of(body)
    if problem:
        return error_answer(ErrorAnswer(400, problem), model=variant.name, user_id=user_id)
    plan = _decide(variant, body, generation_id, created_seconds, keepalive_ms, user_id)
    return _rendered(_priced(plan, free=free), streamed=body.get("stream") is True)


def error_answer(error: ErrorAnswer, *, model: str = "", user_id: str = SOME_USER_ID) -> SimulatedAnswer:
    """Return an error answer that carries its own status: no generation, nothing billed."""
    headers = [("Content-Type", "application/json")]
    if error.retry_after_seconds is not None:
        headers.append(("Retry-After", str(error.retry_after_seconds)))
    chunks = (Chunk(orjson.dumps(error_body(error, user_id))),)
    return SimulatedAnswer(error.code, tuple(headers), chunks, model, provider="", finish_reason="error")


def generation_body(answer: SimulatedAnswer, *, produced_tokens: int | None = None) -> bytes:
    """Return the JSON of `GET /generation`; `produced_tokens` went out before the client hung up, if it did."""
    cancelled = produced_tokens is not None
    nano = answer.cost_nano if produced_tokens is None else answer.billed_nano(produced_tokens)
    complete = nano == answer.cost_nano
    cost = answer.cost_usd if complete else usd_literal(Decimal(nano).scaleb(-9))
    upstream = usd_literal(Decimal(nano).scaleb(-9)) if answer.is_byok else "0"
    tokens = answer.completion_tokens if complete or produced_tokens is None else produced_tokens
    charged = orjson.Fragment("0" if answer.is_byok else cost)
    record: dict[str, object] = {
        "created_at": datetime.fromtimestamp(answer.created_seconds, UTC).isoformat(),
        "model": answer.model,
        "app_id": None,
        "external_user": None,
        "streamed": answer.streamed,
        "cancelled": cancelled,
        "latency": 100,
        "moderation_latency": None,
        "generation_time": 100,
        "tokens_prompt": answer.prompt_tokens // 2,
        "tokens_completion": tokens // 2,
        "native_tokens_prompt": answer.prompt_tokens,
        "native_tokens_completion": tokens,
        "native_tokens_reasoning": 0,
        "native_tokens_cached": 0,
        "num_search_results": None,
        "origin": "",
        "is_byok": answer.is_byok,
        "finish_reason": None if cancelled else answer.finish_reason,
        "native_finish_reason": None if cancelled else answer.finish_reason,
        "usage": charged,
        "api_type": "completions",
        "id": answer.generation_id,
        "upstream_id": None,
        "total_cost": charged,
        "cache_discount": None,
        "upstream_inference_cost": orjson.Fragment(upstream),
        "provider_name": answer.provider,
    }
    return orjson.dumps({"data": record})


def count_tokens(text: str) -> int:
    """Return how many tokens `text` is: four characters each, a rest counts as one."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _problem_of(body: Mapping[str, object]) -> str | None:
    if not _messages(body) and not isinstance(body.get("prompt"), str):
        return 'Input required: specify "prompt" or "messages"'
    limit = _output_limit(body)
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        return "max_tokens must be a positive integer"
    return None


def _output_limit(body: Mapping[str, object]) -> object:
    named = [body.get(field) for field in ("max_tokens", "max_completion_tokens")]
    limits = [limit for limit in named if limit is not None]
    whole = [limit for limit in limits if isinstance(limit, int)]
    return min(whole) if limits and len(whole) == len(limits) else next(iter(limits), None)


def _messages(body: Mapping[str, object]) -> list[Mapping[str, object]]:
    messages = body.get("messages")
    return [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []


def _text(content: object) -> str:
    """Return the text of a message's content, a string or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


def _decide(
    variant: ModelVariant,
    body: Mapping[str, object],
    generation_id: str,
    created_seconds: int,
    keepalive_ms: int,
    user_id: str,
) -> AnswerPlan:
    messages = _messages(body)
    texts = [_text(message.get("content")) for message in messages] or [str(body.get("prompt"))]
    asked = [text for text, message in zip(texts, messages, strict=False) if message.get("role") == "user"]
    text = None if variant.length_tokens else ((asked or texts)[-1] or "Hello from the sandbox.")
    wanted = variant.length_tokens or count_tokens(text or "")
    limit = _output_limit(body)
    affordable = min(variant.max_completion_tokens, limit) if isinstance(limit, int) else variant.max_completion_tokens
    tokens = min(wanted, affordable)
    return AnswerPlan(
        variant=variant,
        id=generation_id,
        created=created_seconds,
        text=text,
        keepalive_ms=keepalive_ms,
        user_id=user_id,
        prompt_tokens=max(1, sum(map(count_tokens, texts))),
        completion_tokens=_produced(variant.model.fault, tokens),
        is_cut_short=tokens < wanted,
    )


def _produced(fault: Fault, tokens: int) -> int:
    if fault is Fault.BARE_ERROR:
        return 0
    return -(-tokens // 2) if fault in _HALVED else tokens


def _priced(plan: AnswerPlan, *, free: bool) -> AnswerPlan:
    model, given = plan.model, plan.variant.given_usd
    if model.fault in _UNBILLED:
        return plan
    if given is not None:
        return replace(plan, cost_usd=given)
    if free:
        return plan
    price = model.charged or model.price
    start = price.start_usd(plan.prompt_tokens)
    cost = usd_literal(start + price.output_usd(plan.prompt_tokens, plan.completion_tokens))
    return replace(plan, cost_usd=cost, start_usd=start)


def _rendered(plan: AnswerPlan, *, streamed: bool) -> SimulatedAnswer:
    model = plan.model
    bare = model.fault is Fault.BARE_ERROR
    headers = [("Content-Type", "text/event-stream" if streamed else "application/json"), ("Cache-Control", "no-cache")]
    if model.header_id and not bare:
        headers.append(("X-Generation-Id", plan.id))
    return SimulatedAnswer(
        status=200,
        headers=tuple(headers),
        chunks=Chunks(plan, streamed),
        model=plan.slug,
        generation_id=None if bare else plan.id,
        created_seconds=plan.created,
        streamed=streamed,
        cut=model.fault is Fault.CUT,
        hangs=model.fault is Fault.HANGING,
        cost_usd=plan.cost_usd,
        cost_nano=nano_from_usd(plan.cost_usd),
        start_nano=int((plan.start_usd.scaleb(9)).to_integral_value(ROUND_CEILING)),
        prompt_tokens=plan.prompt_tokens,
        completion_tokens=plan.completion_tokens,
        is_byok=model.is_byok,
        finish_reason=plan.finish_reason,
        provider=model.provider,
        abort=model.abort,
    )
