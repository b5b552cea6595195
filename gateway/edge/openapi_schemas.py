"""The schemas of the HTTP API's bodies in `/openapi.json`, each with an example."""

from typing import Any

from gateway import errors

Json = dict[str, Any]

_CODES = (
    errors.AuthError,
    errors.NotConnected,
    errors.BudgetExceeded,
    errors.FundingInvalid,
    errors.GrantInvalid,
    errors.RateLimited,
    errors.InvalidRequest,
    errors.UpstreamError,
    errors.ConsentRequired,
    errors.Unavailable,
    errors.WattfareError,
)
_TEXT: Json = {"type": "string"}
_USD: Json = {"type": "number", "minimum": 0}
_CAP: Json = {"type": "number", "exclusiveMinimum": 0}
_USD_OR_NULL: Json = {"type": ["number", "null"]}
_TEXT_OR_NULL: Json = {"type": ["string", "null"]}
_COUNT_OR_NULL: Json = {"type": ["integer", "null"]}
_MOMENT: Json = {"type": "integer", "description": "unix seconds"}
_CONNECTED = {"connected": True, "limits": {"monthlyUsd": 5}, "usage": {"monthlyUsd": 0.42}, "remainingUsd": 4.58}


def ref(name: str) -> Json:
    """Return a reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def schemas() -> Json:
    """Return every schema by its name."""
    return {**_requests(), **_answers(), "Error": _error()}


def _requests() -> Json:
    user_id = {"type": "string", "description": "The app's own user id: 1 to 256 bytes of UTF-8, no control character"}
    label = {"type": "string", "minLength": 1, "maxLength": 80, "description": "The account as the payer knows it"}
    return {
        "SessionRequest": _object(
            {"appUserId": user_id, "requestLimit": _object({"monthlyUsd": _CAP}), "userLabel": label},
            {"appUserId": "user_123", "requestLimit": {"monthlyUsd": 20}, "userLabel": "ada@example.com"},
            required=["appUserId"],
        ),
        "CapRequest": _object({"monthlyUsd": _CAP}, {"monthlyUsd": 5}),
        "RedeemRequest": _object(
            {"code": _TEXT, "verifier": _TEXT}, {"code": "c0de", "verifier": "v3r1f13r"}, required=["code", "verifier"]
        ),
        "ModelRequest": _object(
            {"model": _TEXT, "stream": {"type": "boolean"}, "max_tokens": {"type": "integer", "minimum": 1}},
            {
                "model": "openai/gpt-4o-mini",
                "messages": [{"role": "user", "content": "Say hello to the world."}],
                "max_tokens": 100,
            },
            required=["model"],
        ),
    }


def _answers() -> Json:
    return {
        "Session": _object(
            {"token": _TEXT, "expiresAt": _MOMENT},
            {"token": "eyJhbGciOi…", "expiresAt": 1_795_000_000},
            required=["token", "expiresAt"],
        ),
        "ConnectionStatus": _object(
            {
                "connected": {"type": "boolean"},
                "limits": {"oneOf": [_object({"monthlyUsd": _USD_OR_NULL}), {"type": "null"}]},
                "usage": _object({"monthlyUsd": _USD}, required=["monthlyUsd"]),
                "remainingUsd": _USD_OR_NULL,
            },
            _CONNECTED,
            required=["connected", "limits", "usage", "remainingUsd"],
        ),
        "AttemptOutcome": _object(
            {
                "state": {"enum": ["pending", "approved", "denied", "expired", "unknown"]},
                "status": ref("ConnectionStatus"),
                "expiresAt": _MOMENT,
            },
            {"state": "approved", "status": _CONNECTED},
            required=["state"],
        ),
        "TokenCount": _object({"input_tokens": {"type": "integer"}}, {"input_tokens": 12}, required=["input_tokens"]),
        "Usage": _object(
            {
                "requestId": _TEXT,
                "generationId": _TEXT_OR_NULL,
                "model": _TEXT_OR_NULL,
                "status": {"enum": ["open", "settled", "void", "estimated"]},
                "costUsd": _USD_OR_NULL,
                "holdUsd": _USD,
                "overrunUsd": _USD,
                "promptTokens": _COUNT_OR_NULL,
                "completionTokens": _COUNT_OR_NULL,
                "admittedAt": {"type": "number", "description": "unix seconds"},
                "settledAt": {"type": ["number", "null"], "description": "unix seconds"},
                "endedBy": _TEXT_OR_NULL,
            },
            {"requestId": "req_…", "model": "openai/gpt-4o-mini", "status": "settled", "costUsd": 0.0000063},
            required=["requestId", "status"],
        ),
        "GrantStatus": _grant(),
        "Health": _object({"status": _TEXT}, {"status": "ok"}, required=["status"]),
    }


def _grant() -> Json:
    known: Json = {
        "requestsRemaining": {"type": "integer"},
        "requests": {"type": "integer"},
        "maxUsd": _USD_OR_NULL,
        "spentUsd": _USD,
        "expiresAt": _MOMENT,
        "active": {"type": "boolean"},
    }
    left = {"requestsRemaining": 2, "requests": 3, "maxUsd": 0.5, "spentUsd": 0.01}
    return _object(known, {**left, "expiresAt": 1_795_000_000, "active": True}, required=list(known))


def _error() -> Json:
    known = {
        "code": {"enum": [error.code for error in _CODES]},
        "message": {"type": "string", "description": "What to do next"},
        "type": _TEXT,
        "requestId": _TEXT,
        "retryAfter": {"type": "integer", "description": "seconds"},
        "limit": {
            "type": "string",
            "description": "What refused it: `cap`, `in_flight`, `credit`; `app`, `user`, `open`",
        },
        "neededUsd": _USD_OR_NULL,
        "leftUsd": _USD,
        "spentUsd": _USD,
        "heldUsd": _USD,
        "resetsAt": {"type": ["integer", "null"], "description": "Unix seconds: when spend next leaves the month"},
        "manageUrl": {"type": "string", "description": "Where the payer can raise the cap"},
    }
    example = {
        "code": "not_connected",
        "message": "This user has not connected a budget to this app. Ask them to connect.",
        "type": "billing_error",
        "requestId": "req_…",
    }
    return _object(
        {"error": _object(known, required=["code", "message", "type", "requestId"])},
        {"error": example},
        required=["error"],
    )


def _object(properties: Json, example: Json | None = None, *, required: list[str] | None = None) -> Json:
    schema: Json = {"type": "object", "properties": properties}
    if required is not None:
        schema["required"] = required
    return schema if example is None else {**schema, "examples": [example]}
