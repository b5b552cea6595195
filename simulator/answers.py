"""Simulates OpenRouter's answer to a request in any dialect, byte for byte, and its cost.

Rule: pure: no I/O, no clock, no randomness; the caller gives the id and the time.
Tokens are counted simply: one for each four characters of text, rounded up.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import TypedDict

import orjson

from gateway.money import nano_from_usd
from simulator.chat import ChatForm
from simulator.embeddings import embeddings_form
from simulator.messages import MessagesForm
from simulator.parsed_request import ParsedRequest, inputs_of, read_request
from simulator.responses import responses_form
from simulator.variants import ECHO, Abort, ErrorAnswer, Fault, ModelVariant, find_variant
from simulator.wire import CHARACTERS_PER_TOKEN, AnswerPlan, Chunk, Chunks, Form, usd_literal

# The account id of a key, unless the caller gives one. Real error bodies contain it; a proxy must drop it.
SOME_USER_ID = "user_2sandboxSANDBOX2sandboxSAND"

# OpenRouter's period is not documented; once a second prevents any client's timeout.
KEEPALIVE_MS = 1_000

_SLUG = re.compile(r"(?!sandbox/)[\w.~@-]{1,100}/[\w.:~-]{1,150}\Z", re.ASCII)
_HALVED = {Fault.ERROR_LAST, Fault.CUT, Fault.SILENT}

# OpenRouter's "zero completion insurance": an answer that ends in one of these faults is not billed.
_UNBILLED = {Fault.BARE_ERROR, Fault.ERROR_WITH_USAGE, Fault.ERROR_LAST}

_CHAT = ChatForm()
_FORMS: Mapping[str, Callable[[Mapping[str, object]], Form | str]] = {
    "chat/completions": lambda _: _CHAT,
    "completions": lambda _: ChatForm(is_text=True),
    "embeddings": lambda body: embeddings_form(body, inputs_of(body)),
    "responses": responses_form,
    "messages": lambda _: MessagesForm(),
}


@dataclass(frozen=True)
class SimulatedAnswer:
    """One answer to a request. `chunks` is generated lazily and can be iterated repeatedly.

    `cut`: the connection drops after the last chunk, without a clean end. `hangs`: it stays open after the last chunk.
    `cost_nano`: the bill of the complete answer; with `is_byok` the provider's, not OpenRouter's.
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
        """Return the bill in nano-USD when the client hangs up after `produced_tokens` completion tokens.

        A stream costs nothing before its first token, then the prompt plus the completion's share so far, rounded up;
        with a fixed price, just the share. An answer that is not streamed is billed in full.
        """
        if self.abort is Abort.FULL or not self.streamed:
            return self.cost_nano
        produced = min(produced_tokens, self.completion_tokens)
        if self.abort is Abort.NOTHING or produced == 0:
            return 0
        output_nano = (self.cost_nano - self.start_nano) * produced
        return self.start_nano - (-output_nano // self.completion_tokens)


def simulate(
    body: Mapping[str, object],
    *,
    generation_id: str,
    created_seconds: int,
    dialect: str = "chat/completions",
    free: bool = False,
    user_id: str = SOME_USER_ID,
    keepalive_ms: int = KEEPALIVE_MS,
) -> SimulatedAnswer:
    """Return the answer to a request; `dialect` is the path below `/v1/`.

    `free`: the gateway's test mode: only models with a fixed price state a cost, and any `author/slug` is an echo.
    Otherwise an unknown model is a 400, as is a body without a prompt or with an invalid output ceiling.
    During a pause, SSE comments (or blanks before JSON) are sent each `keepalive_ms` (at least 1).
    """
    made = _FORMS[dialect](body)
    form = _CHAT if isinstance(made, str) else made
    name = body.get("model")
    variant = find_variant(name) if isinstance(name, str) else None
    if variant is None and free and isinstance(name, str) and _SLUG.match(name):
        variant = ModelVariant(ECHO, name)
    if variant is None:
        text = f"{name} is not a valid model ID" if name else "No models provided"
        return error_answer(ErrorAnswer(400, text[:300]), user_id=user_id, form=form)
    if variant.model.fault is Fault.REFUSED:
        return error_answer(variant.model.error, model=variant.name, user_id=user_id, form=form)
    parsed = read_request(body, dialect)
    problem = parsed.problem or (made if isinstance(made, str) else "")
    if problem:
        return error_answer(ErrorAnswer(400, problem), model=variant.name, user_id=user_id, form=form)
    streams = dialect != "embeddings"
    plan = AnswerPlan(
        form=form,
        variant=variant,
        id=generation_id if streams else generation_id.replace("gen-", "gen-emb-", 1),
        created=created_seconds,
        keepalive_ms=keepalive_ms,
        user_id=user_id,
        prompt_tokens=max(1, sum(map(count_tokens, parsed.texts))),
        **_produced(variant, parsed, has_output=streams),
    )
    return _rendered(_priced(plan, free=free), streamed=streams and body.get("stream") is True)


def refusal_form(dialect: str) -> Form:
    """Return the form of a dialect's error answers; an unknown dialect has chat's."""
    made = _FORMS[dialect]({}) if dialect in _FORMS else _CHAT
    return _CHAT if isinstance(made, str) else made


def error_answer(
    error: ErrorAnswer, *, model: str = "", user_id: str = SOME_USER_ID, form: Form = _CHAT
) -> SimulatedAnswer:
    """Return an answer with an error status: no generation, nothing billed."""
    headers = [("Content-Type", "application/json")]
    if error.retry_after_seconds is not None:
        headers.append(("Retry-After", str(error.retry_after_seconds)))
    chunks = (Chunk(orjson.dumps(form.refusal(error, user_id))),)
    return SimulatedAnswer(error.code, tuple(headers), chunks, model, provider="", finish_reason="error")


def generation_body(answer: SimulatedAnswer, *, produced_tokens: int | None = None) -> bytes:
    """Return the JSON of `GET /generation`. `produced_tokens`: sent before the client hung up; None if it did not."""
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
    """Return the number of tokens of `text`: one for each four characters, rounded up."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


class _Output(TypedDict):
    text: str | None
    tool: str
    completion_tokens: int
    is_cut_short: bool


def _produced(variant: ModelVariant, parsed: ParsedRequest, *, has_output: bool) -> _Output:
    """Return the output: JSON if requested, a text of fixed length, or an echo of the question."""
    text = parsed.content
    if text is None and not variant.length_tokens:
        text = parsed.text
    wanted = count_tokens(text) if text is not None else variant.length_tokens or 0
    tokens = min(wanted, variant.max_completion_tokens, parsed.limit or wanted) if has_output else 0
    fault = variant.model.fault
    sent = 0 if fault is Fault.BARE_ERROR else -(-tokens // 2) if fault in _HALVED else tokens
    return _Output(text=text, tool=parsed.tool, completion_tokens=sent, is_cut_short=has_output and tokens < wanted)


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
    if model.header_id and plan.form.header_id and not bare:
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
