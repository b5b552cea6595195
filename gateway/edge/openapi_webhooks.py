"""The `webhooks` of `/openapi.json`: one for each type of event, with an example made by the sender's own code.

Rule: an event has the same shape here and on the wire.
"""

from typing import Final

import orjson

from gateway.edge.openapi_schemas import Json
from gateway.keys import Budget
from gateway.ledger.events import Event
from gateway.webhooks.messages import message_of

_APP, _ENTRY = "app2222222222222222", "1795000000000-0"
_USER = Budget.of_user("live", _APP, "user_123")
_GRANT = Budget.of_grant("live", _APP, "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
_CAP = {"cap_nano": "20000000000"}
_SAMPLES: Final = (
    ("A user connected", _USER, {"event": "connection.created", **_CAP, "by": "payer"}),
    (
        "A cap, a pause or the funding changed",
        _USER,
        {"event": "connection.updated", "change": "cap", "state": "active", **_CAP, "by": "payer"},
    ),
    ("A connection was ended", _USER, {"event": "connection.revoked", "by": "payer"}),
    (
        "50, 80 or 100 % of a cap are spent",
        _USER,
        {"event": "budget.threshold", "percent": "80", **_CAP, "spent_nano": "16040000000"},
    ),
    ("OpenRouter refused the user's key", _USER, {"event": "funding.invalid"}),
    (
        "A grant has ended",
        _GRANT,
        {
            "event": "grant.ended",
            "reason": "used_up",
            "uses": "3",
            "used": "3",
            "cap_nano": "500000000",
            "spent_nano": "12000000",
        },
    ),
)
_SIGNED: Final = {
    "webhook-id": "Unique to the event, the same in each attempt and replay",
    "webhook-timestamp": "When it was sent, in unix seconds",
    "webhook-signature": "By the Standard Webhooks specification, one for each valid secret",
}


def examples() -> dict[str, Json]:
    """Return the body of one event of each type."""
    made = (message_of(budget, "a" * 13, Event(_ENTRY, fields)) for _, budget, fields in _SAMPLES)
    return {message.event: orjson.loads(message.body) for message in made}


def webhooks() -> Json:
    """Return the `webhooks` object."""
    summaries = {fields["event"]: summary for summary, _, fields in _SAMPLES}
    return {name: {"post": _operation(summaries[name], example)} for name, example in examples().items()}


def _operation(summary: str, example: Json) -> Json:
    schema = {**_shape(example), "examples": [example]}
    schema["properties"]["type"] = {"const": example["type"]}
    schema["properties"]["timestamp"] = {"type": "string", "format": "date-time", "description": "When it happened"}
    return {
        "summary": summary,
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": what, "schema": {"type": "string"}}
            for name, what in _SIGNED.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "2XX": {"description": "Delivered"},
            "410": {"description": "The endpoint is disabled"},
            "default": {"description": "Retried with backoff"},
        },
    }


def _shape(value: Json) -> Json:
    """Return the schema of an example: its fields are always present; more may be added later."""
    return {"type": "object", "required": list(value), "properties": {name: _of(each) for name, each in value.items()}}


def _of(value: object) -> Json:
    if isinstance(value, dict):
        return _shape(value)
    if isinstance(value, bool):
        return {"type": "boolean"}
    # An amount is null without a cap, which is possible in test mode only.
    return {"type": "string"} if isinstance(value, str) else {"type": ["number", "null"]}
