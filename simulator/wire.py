"""Turns a planned answer into chunks: comments, tokens, faults and endings, blanks before JSON.

The wire format of each dialect is its form: chat.py, embeddings.py, responses.py, messages.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Protocol

import orjson

from simulator.variants import ErrorAnswer, Fault, Model, ModelVariant

CHARACTERS_PER_TOKEN = 4

COMMENT = b": OPENROUTER PROCESSING\n\n"
BLANKS = b"\n         \n"
DONE = b"data: [DONE]\n\n"

# An hour, longer than any client waits: the silent model's answer ends when its client gives up.
FOREVER_MS = 3_600_000


@dataclass(frozen=True)
class Chunk:
    """Bytes to send at once after `pause_ms`; `tokens` is how many completion tokens they carry."""

    data: bytes
    pause_ms: int = 0
    tokens: int = 0


class Pieces(Protocol):
    """Makes the event of one token."""

    def __call__(self, token: int, /) -> bytes: ...


class Form(Protocol):
    """One dialect's wire format. Each method returns whole events, or b"" if the dialect has none there."""

    @property
    def header_id(self) -> bool:
        """Whether the id is also in a header."""

    def refusal(self, error: ErrorAnswer, user_id: str) -> dict[str, object]:
        """Return the JSON of an error without a generation."""

    def bare_error(self, plan: "AnswerPlan") -> bytes:
        """Return the refusal inside a stream."""

    def start(self, plan: "AnswerPlan") -> bytes:
        """Return the events before any output."""

    def pieces(self, plan: "AnswerPlan") -> Pieces:
        """Return a function that makes each token's event."""

    def close(self, plan: "AnswerPlan", /) -> bytes:
        """Return the events that complete the output."""

    def half_usage(self, plan: "AnswerPlan", cost_usd: str) -> bytes:
        """Return an event with a preliminary usage."""

    def usage(self, plan: "AnswerPlan", *, stated: bool) -> bytes:
        """Return the answer's last events, with its usage if `stated`."""

    def error(self, plan: "AnswerPlan") -> bytes:
        """Return an error with or without usage, depending on the fault."""

    def end(self) -> bytes:
        """Return the end of the stream."""

    def document(self, plan: "AnswerPlan") -> Mapping[str, object]:
        """Return the JSON of an answer that is not streamed."""


@dataclass(frozen=True)
class AnswerPlan:
    """A fully decided answer, before it is rendered as a stream or as JSON."""

    form: Form
    variant: ModelVariant
    id: str
    created: int
    text: str | None
    keepalive_ms: int
    user_id: str
    prompt_tokens: int
    completion_tokens: int
    is_cut_short: bool
    tool: str = ""
    cost_usd: str = "0"
    start_usd: Decimal = Decimal(0)

    @property
    def model(self) -> Model:
        """The row of the model table."""
        return self.variant.model

    @property
    def slug(self) -> str:
        """The model's name in the answer, which may be a dated one."""
        return self.model.canonical_slug or self.variant.name

    @property
    def finish_reason(self) -> str | None:
        """The finish reason; None if the answer never ends."""
        if self.model.fault in (Fault.CUT, Fault.SILENT):
            return None
        if self.model.fault in (Fault.ERROR_LAST, Fault.BARE_ERROR):
            return "error"
        if self.is_cut_short:
            return "length"
        return "tool_calls" if self.tool else "stop"

    @cached_property
    def content(self) -> str:
        """The whole output text."""
        return "".join(map(self.piece, range(self.completion_tokens)))

    @property
    def opaque(self) -> str:
        """The unique part of the id."""
        return self.id.rpartition("-")[2]

    @property
    def is_failed(self) -> bool:
        """Whether the answer contains an error."""
        return self.model.fault in (Fault.ERROR_BILLED, Fault.ERROR_WITH_USAGE, Fault.ERROR_LAST)

    def piece(self, token: int) -> str:
        """Return the text of one token."""
        if self.text is None:
            return f"{token % 1000:03d} "
        start = token * CHARACTERS_PER_TOKEN
        return self.text[start : start + CHARACTERS_PER_TOKEN]


@dataclass(frozen=True)
class Chunks:
    """The chunks of an answer, generated lazily and identically at each iteration."""

    plan: AnswerPlan
    streamed: bool

    def __iter__(self) -> Iterator[Chunk]:
        chunks = _stream(self.plan) if self.streamed else _whole(self.plan)
        size = self.plan.model.split_bytes
        return _split(chunks, size) if size else chunks


def usd_literal(usd: Decimal) -> str:
    """Return `usd` as JavaScript formats a number: no trailing zeros, an exponent below a millionth."""
    if usd == 0:
        return "0"
    shortest = usd.normalize()
    if shortest.adjusted() >= -6:
        return format(shortest, "f")
    digits = "".join(map(str, shortest.as_tuple().digits))
    point = "." if len(digits) > 1 else ""
    return f"{digits[0]}{point}{digits[1:]}e{shortest.adjusted()}"


def cost_members(plan: AnswerPlan, cost_usd: str | None = None) -> dict[str, object]:
    """Return the cost members of a usage; amounts are written exactly as billed."""
    model = plan.model
    if model.fault is Fault.COST_MISSING:
        return {}
    billed = orjson.Fragment(cost_usd or plan.cost_usd)
    fee = orjson.Fragment("0") if model.is_byok else billed
    stated: dict[str, object] = {"cost": None if model.fault is Fault.COST_NULL else fee}
    if model.states_byok:
        stated["is_byok"] = model.is_byok
    return {**stated, "cost_details": {"upstream_inference_cost": billed}}


def data(event: Mapping[str, object]) -> bytes:
    """Return one SSE event without an event name."""
    return b"data: " + orjson.dumps(event) + b"\n\n"


def _stream(plan: AnswerPlan) -> Iterator[Chunk]:
    yield Chunk(COMMENT)
    yield Chunk(COMMENT)
    if plan.model.fault is not Fault.BARE_ERROR and (start := plan.form.start(plan)):
        yield Chunk(start)
    yield from _tokens(plan)
    for data in _ending(plan):
        if data:
            yield Chunk(data)
    if plan.model.fault is Fault.SILENT:
        yield Chunk(b"", FOREVER_MS)


def _tokens(plan: AnswerPlan) -> Iterator[Chunk]:
    event_of = plan.form.pieces(plan)
    rest_ms = plan.variant.pause_ms % plan.keepalive_ms
    for token in range(plan.completion_tokens):
        yield from _kept_alive(plan.variant.pause_ms, plan.keepalive_ms, COMMENT)
        if plan.model.comments_between:
            yield Chunk(COMMENT)
        yield Chunk(event_of(token), rest_ms, tokens=1)


def _kept_alive(pause_ms: int, period_ms: int, sign: bytes) -> Iterator[Chunk]:
    """Yield the keep-alive bytes `sign` after each full period of a pause; the caller waits the remainder."""
    for _ in range(pause_ms // period_ms):
        yield Chunk(sign, period_ms)


def _ending(plan: AnswerPlan) -> tuple[bytes, ...]:
    """Return the events after the last token."""
    form, fault = plan.form, plan.model.fault
    match fault:
        case Fault.BARE_ERROR:
            return (form.bare_error(plan),)
        case Fault.ERROR_BILLED | Fault.ERROR_LAST:
            return (form.error(plan),)
        case Fault.ERROR_WITH_USAGE:
            return (form.close(plan), form.error(plan), form.end())
        case Fault.USAGE_DOUBLED:
            half = form.half_usage(plan, usd_literal(Decimal(plan.cost_usd) / 2))
            return (form.close(plan), half, form.usage(plan, stated=True), form.end())
        case Fault.CUT:
            event = form.pieces(plan)(0)
            return (event[: len(event) // 2],)
        case Fault.SILENT:
            return ()
        case _:
            stated = fault is not Fault.USAGE_MISSING
            return (form.close(plan), form.usage(plan, stated=stated), form.end())


def _whole(plan: AnswerPlan) -> Iterator[Chunk]:
    """Yield an answer that is not streamed: blanks, which commit the 200 before the outcome is known, then JSON."""
    pause_ms = plan.variant.pause_ms * plan.completion_tokens
    yield Chunk(BLANKS)
    yield from _kept_alive(pause_ms, plan.keepalive_ms, BLANKS)
    if plan.model.fault is Fault.SILENT:
        yield Chunk(b"", FOREVER_MS)
        return
    is_bare = plan.model.fault is Fault.BARE_ERROR
    document = plan.form.refusal(plan.model.error, plan.user_id) if is_bare else plan.form.document(plan)
    body = orjson.dumps(document)
    cut = len(body) // 2 if plan.model.fault is Fault.CUT else len(body)
    yield Chunk(BLANKS + body[:cut], pause_ms % plan.keepalive_ms, tokens=plan.completion_tokens)


def _split(chunks: Iterator[Chunk], size: int) -> Iterator[Chunk]:
    """Yield the same bytes in pieces of `size`; a chunk's tokens are in its last piece."""
    for chunk in chunks:
        starts = range(0, len(chunk.data), size)
        for start in starts:
            is_last = start + size >= len(chunk.data)
            yield Chunk(
                chunk.data[start : start + size],
                chunk.pause_ms if start == 0 else 0,
                tokens=chunk.tokens if is_last else 0,
            )
