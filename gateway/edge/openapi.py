"""The OpenAPI 3.1 description of the HTTP API, as served at `/openapi.json`. Every path stands under `/api/v1` too."""

from typing import Any

from gateway import errors
from gateway.openrouter.dialects import Dialect

_Json = dict[str, Any]

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
_ANY_BODY: _Json = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
# Either will do.
_SCHEMES = {"secretKey": ("secretKey", "secretKeyHeader")}
_USD_OR_NULL: _Json = {"type": ["number", "null"]}
_TEXT_OR_NULL: _Json = {"type": ["string", "null"]}
_COUNT_OR_NULL: _Json = {"type": ["integer", "null"]}


def document() -> _Json:
    """Return the whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Wattfare gateway",
            "version": "1",
            "description": "An OpenAI-compatible API to OpenRouter, paid by the app's user within a cap.",
        },
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "secretKey": {"type": "http", "scheme": "bearer", "description": "sk_live_… or sk_test_…"},
                "secretKeyHeader": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "sessionToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
            "schemas": _schemas(),
            "responses": {"Error": _json_answer("What went wrong, and what to do", "Error")},
            "parameters": {
                "User": _parameter("x-wattfare-user", "header", "Who pays; percent-encoded UTF-8 when not ASCII"),
                "AppUserId": _parameter("appUserId", "query", "The app's own user id"),
            },
        },
    }


def _paths() -> _Json:
    connection = _json_answer("The connection as it stands", "ConnectionStatus")
    outcome = _json_answer("What became of the popup", "AttemptOutcome")
    secret, token = "secretKey", "sessionToken"
    user_id = [{"$ref": "#/components/parameters/AppUserId"}]
    return {
        "/v1/sessions": {"post": _operation("Mint a session token", secret, "Session", body="SessionRequest")},
        "/v1/status": {"get": _operation("Read a connection", secret, connection, parameters=user_id)},
        "/v1/connections": {
            "get": _operation("Read the token's connection", token, connection),
            "post": _operation("Lower the cap; in test mode approve", token, connection, body="CapRequest"),
            "delete": _operation("End the connection (with a secret key: of appUserId)", token, None),
        },
        **{f"/v1/{dialect.value}": {"post": _metered()} for dialect in Dialect},
        "/v1/messages/count_tokens": {
            "post": {**_operation("What a prompt counts, free", secret, "TokenCount"), "requestBody": _ANY_BODY}
        },
        "/v1/usage/{requestId}": {
            "get": _operation("What one request cost", secret, "Usage", parameters=[_in_path("requestId")])
        },
        "/v1/attempts/{nonce}": {
            "get": _operation("The outcome of one popup", token, outcome, parameters=[_in_path("nonce")]),
            "post": _operation(
                "Redeem a redirect", token, outcome, parameters=[_in_path("nonce")], body="RedeemRequest"
            ),
        },
        "/v1/models": {"get": _operation("OpenRouter's models", None, {"description": "OpenRouter's list"})},
        "/v1/models/{author}/{slug}/endpoints": {
            "get": _operation(
                "One model's providers",
                None,
                {"description": "OpenRouter's list"},
                parameters=[_in_path("author"), _in_path("slug")],
            )
        },
        "/healthz": {"get": _operation("The process lives", None, {"description": "Always 200"})},
        "/readyz": {"get": _operation("Redis answers, keys are loaded", None, {"description": "Ready"})},
        "/openapi.json": {"get": _operation("This document", None, {"description": "OpenAPI 3.1"})},
    }


def _metered() -> _Json:
    user = [{"$ref": "#/components/parameters/User"}]
    answer = {"description": "OpenRouter's bytes, as they came"}
    return {
        **_operation("Run a model at the user's cost", "secretKey", answer, parameters=user),
        "requestBody": _ANY_BODY,
    }


def _operation(
    summary: str,
    scheme: str | None,
    answer: str | _Json | None,
    *,
    body: str | None = None,
    parameters: list[_Json] | None = None,
) -> _Json:
    if isinstance(answer, str):
        answer = _json_answer(answer, answer)
    success = {"204": {"description": "Done"}} if answer is None else {"200": answer}
    operation: _Json = {
        "summary": summary,
        "security": [{each: []} for each in _SCHEMES.get(scheme, (scheme,))] if scheme else [],
        "responses": {**success, "default": {"$ref": "#/components/responses/Error"}},
    }
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = {"content": {"application/json": {"schema": _ref(body)}}}
    return operation


def _session_request(usd: _Json) -> _Json:
    label = {"type": "string", "minLength": 1, "maxLength": 80}
    fields = {"appUserId": {"type": "string"}, "requestLimit": _object({"monthlyUsd": usd}), "userLabel": label}
    return _object(fields, required=["appUserId"])


def _schemas() -> _Json:
    usd = {"type": "number", "exclusiveMinimum": 0}
    return {
        "SessionRequest": _session_request(usd),
        "Session": _object({"token": {"type": "string"}, "expiresAt": {"type": "integer", "description": "unix s"}}),
        "CapRequest": _object({"monthlyUsd": usd}),
        "RedeemRequest": _object(
            {"code": {"type": "string"}, "verifier": {"type": "string"}}, required=["code", "verifier"]
        ),
        "ConnectionStatus": _object(
            {
                "connected": {"type": "boolean"},
                "limits": {"oneOf": [_object({"monthlyUsd": _USD_OR_NULL}), {"type": "null"}]},
                "usage": _object({"monthlyUsd": {"type": "number"}}),
                "remainingUsd": _USD_OR_NULL,
            }
        ),
        "AttemptOutcome": _object(
            {
                "state": {"enum": ["pending", "approved", "denied", "expired", "unknown"]},
                "status": _ref("ConnectionStatus"),
            },
            required=["state"],
        ),
        "TokenCount": _object({"input_tokens": {"type": "integer"}}, required=["input_tokens"]),
        "Usage": _object(
            {
                "requestId": {"type": "string"},
                "generationId": _TEXT_OR_NULL,
                "model": _TEXT_OR_NULL,
                "status": {"enum": ["open", "settled", "void", "estimated"]},
                "costUsd": _USD_OR_NULL,
                "holdUsd": {"type": "number"},
                "overrunUsd": {"type": "number"},
                "promptTokens": _COUNT_OR_NULL,
                "completionTokens": _COUNT_OR_NULL,
                "admittedAt": {"type": "number", "description": "unix s"},
                "settledAt": _USD_OR_NULL,
                "endedBy": _TEXT_OR_NULL,
            }
        ),
        "Error": _object(
            {
                "error": _object(
                    {
                        "code": {"enum": [error.code for error in _CODES]},
                        "message": {"type": "string"},
                        "type": {"type": "string"},
                        "requestId": {"type": "string"},
                        "retryAfter": {"type": "integer", "description": "seconds"},
                    },
                    required=["code", "message", "type", "requestId"],
                )
            }
        ),
    }


def _object(properties: _Json, *, required: list[str] | None = None) -> _Json:
    schema: _Json = {"type": "object", "properties": properties}
    return schema if required is None else {**schema, "required": required}


def _ref(name: str) -> _Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _json_answer(description: str, schema: str) -> _Json:
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}


def _in_path(name: str) -> _Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _parameter(name: str, place: str, description: str) -> _Json:
    return {"name": name, "in": place, "description": description, "schema": {"type": "string"}}
