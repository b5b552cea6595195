"""The spans of one metered call: its attributes, and the durations of admission, model and settlement. Pure.

Rule: no prompt, no key and no user id: a span contains no more about a payer than the call's log line.
Names follow OpenTelemetry's semantic conventions for HTTP servers and generative AI; others begin with `wattfare.`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.openrouter.dialects import Dialect

_OPERATIONS = {
    Dialect.CHAT: "chat",
    Dialect.COMPLETIONS: "text_completion",
    Dialect.EMBEDDINGS: "embeddings",
    Dialect.RESPONSES: "chat",
    Dialect.MESSAGES: "chat",
}
OPERATIONS = {
    f"{prefix}/{dialect.value}": name for prefix in ("/v1", "/api/v1") for dialect, name in _OPERATIONS.items()
}
"""The paths of metered calls, each with the convention's operation name."""
# Attribute names by the name of the field in the log line.
_OF_CALL = {
    "gen_ai.request.model": "model",
    "wattfare.app": "app",
    "wattfare.user": "user",
    "wattfare.mode": "mode",
    "wattfare.code": "code",
    "wattfare.ledger": "ledger",
    "wattfare.ended_by": "ended_by",
    "wattfare.hold_nano": "hold_nano",
    "wattfare.cost_usd": "cost_usd",
    "wattfare.waited_ms": "waited_ms",
}
_OF_MODEL = {
    "gen_ai.request.model": "model",
    "gen_ai.request.stream": "stream",
    "gen_ai.usage.input_tokens": "prompt_tokens",
    "gen_ai.usage.output_tokens": "completion_tokens",
}
# A caller's disconnect or a cut is not an error of the model.
_MODEL_FAULTS = ("upstream", "refused")

Value = str | bool | int | float


@dataclass(frozen=True, slots=True)
class Step:
    """One span. `kind`: SERVER, CLIENT or INTERNAL. Times: seconds of one clock. `fault`: why it failed."""

    name: str
    kind: str
    begun: float
    ended: float
    attributes: dict[str, Value]
    events: dict[str, float] = field(default_factory=dict)
    fault: str = ""


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call's log fields. `points`: when it first reached each point of its path."""

    path: str
    status: int
    request_id: str
    notes: Mapping[str, object]
    begun: float
    ended: float
    points: Mapping[str, float]


def steps(record: CallRecord, *, scheme: str, upstream: str) -> Iterator[Step]:
    """Yield the spans of a metered call: the outer one, then those within. `upstream`: OpenRouter's host."""
    operation, notes = OPERATIONS[record.path], record.notes
    http: dict[str, Value] = {
        "http.request.method": "POST",
        "http.route": record.path,
        "http.response.status_code": record.status,
        "url.path": record.path,
        "url.scheme": scheme,
        "wattfare.request_id": record.request_id,
    }
    fault = str(notes.get("code", record.status)) if record.status >= 500 else ""
    yield Step(
        f"POST {record.path}", "SERVER", record.begun, record.ended, {**http, **_named(notes, _OF_CALL)}, {}, fault
    )
    yield from _between(record, "asked", "held", "admit")
    for model_span in _between(record, "sending", "closing", f"{operation} {notes.get('model', '')}".strip()):
        model: dict[str, Value] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "openrouter",
            "server.address": upstream,
            **_named(notes, _OF_MODEL),
        }
        # An answer received at once is settled before its first byte is relayed.
        events = {"first_byte": min(record.points["relayed"], model_span.ended)} if "relayed" in record.points else {}
        ended_by = str(notes.get("ended_by", ""))
        fault = ended_by if ended_by in _MODEL_FAULTS else ""
        yield Step(model_span.name, "CLIENT", model_span.begun, model_span.ended, model, events, fault)
    yield from _between(record, "closing", "closed", "settle")


def _between(record: CallRecord, first: str, last: str, name: str) -> list[Step]:
    """Return the span between two points, or to the call's end; None if the call did not reach the first."""
    points = record.points
    return [Step(name, "INTERNAL", points[first], points.get(last, record.ended), {})] if first in points else []


def _named(notes: Mapping[str, object], names: Mapping[str, str]) -> dict[str, Value]:
    found = ((attribute, notes.get(name)) for attribute, name in names.items())
    return {attribute: value for attribute, value in found if isinstance(value, str | bool | int | float)}
