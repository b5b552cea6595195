"""The OpenAPI 3.1 description of the HTTP API, as served at `/openapi.json`. Every path is also served below `/api/v1`.

Rule: it lists every status that a path can answer, except 500, which is a bug.
"""

from collections.abc import Iterable

from gateway.edge.openapi_schemas import Json, ref, schemas
from gateway.edge.openapi_webhooks import webhooks
from gateway.openrouter.dialects import Dialect

_SECRET, _TOKEN = "secretKey", "sessionToken"
# Either scheme is accepted.
_SCHEMES = {"secretKey": ("secretKey", "secretKeyHeader")}
_STATUSES = {
    400: "The request is malformed",
    401: "The key or token is missing, wrong, expired or revoked",
    402: "No payer: not connected, over the cap, or the funding key or grant is refused",
    403: "Only the payer may do this",
    404: "Not found",
    408: "The body stopped arriving",
    409: "It was already done with other values",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "A field is missing or wrong; the message names it",
    429: "Too many requests: wait for Retry-After",
    431: "The headers for OpenRouter are too large",
    502: "OpenRouter or the provider failed",
    503: "The store is unavailable: nothing was spent, try again",
    504: "OpenRouter or the provider took too long",
}
_READ = (400, 401, 422, 503)
_LIMITED = (*_READ, 429)
_WRITTEN = (*_READ, 408, 413, 415)
_METERED = (*_WRITTEN, 402, 404, 429, 431, 502, 504)
_LIST: Json = {"description": "A JSON document", "content": {"application/json": {"schema": {"type": "object"}}}}
_LISTED = (400, 404, 429, 502, 503, 504)
_ANSWER_HEADERS = {
    "x-wattfare-request-id": "The id for /v1/usage/{requestId}",
    "x-wattfare-remaining-usd": "What was left of the cap at admission",
    "x-wattfare-grant-remaining": "The requests that a grant has left",
    "x-wattfare-max-tokens": "The ceiling that this answer was shortened to",
}


def document(public_url: str) -> Json:
    """Return the whole description of the API at `public_url`."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Wattfare gateway",
            "version": "1",
            "description": "An OpenAI-compatible API to OpenRouter, paid by the app's user within a cap.",
        },
        "servers": [{"url": public_url}, {"url": f"{public_url}/api", "description": "The same, below /api/v1"}],
        "paths": _paths(),
        "webhooks": webhooks(),
        "components": {
            "securitySchemes": {
                "secretKey": {"type": "http", "scheme": "bearer", "description": "sk_live_… or sk_test_…"},
                "secretKeyHeader": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "publishableKey": {"type": "http", "scheme": "bearer", "description": "pk_…, of a grant's popup"},
                "sessionToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
            "schemas": schemas(),
            "responses": {"Error": _json_answer("What went wrong, and what to do", "Error")},
            "parameters": {
                "User": _optional(
                    "x-wattfare-user", "header", "Who pays, this or a grant; as percent-encoded UTF-8 when not ASCII"
                ),
                "Grant": _optional("x-wattfare-grant", "header", "The grant that pays, this or a user"),
                "Shorten": _optional(
                    "x-wattfare-shorten", "header", "`never`: refuse what does not fit, shorten nothing"
                ),
                "AppUserId": _parameter("appUserId", "query", "The app's own user id"),
            },
        },
    }


def _paths() -> Json:
    return {
        **_payers(),
        **{f"/v1/{dialect.value}": {"post": _metered(dialect)} for dialect in Dialect},
        "/v1/messages/count_tokens": {
            "post": _operation(
                "What a prompt counts, free", _SECRET, "TokenCount", (*_WRITTEN, 429), body="ModelRequest"
            )
        },
        "/v1/usage/{requestId}": {
            "get": _operation(
                "What one request cost", _SECRET, "Usage", (*_LIMITED, 404), parameters=[_in_path("requestId")]
            )
        },
        "/v1/models": {"get": _operation("OpenRouter's models", None, _LIST, _LISTED)},
        "/v1/models/{author}/{slug}/endpoints": {
            "get": _operation(
                "One model's providers", None, _LIST, _LISTED, parameters=[_in_path("author"), _in_path("slug")]
            )
        },
        "/healthz": {"get": _operation("The process lives", None, "Health", ())},
        "/readyz": {"get": _operation("Redis answers, keys are loaded", None, "Health", (503,))},
        "/openapi.json": {"get": _operation("This document", None, _LIST, ())},
    }


def _payers() -> Json:
    """Return the paths that concern payers: sessions, connections, attempts, grants."""
    connection = _json_answer("The connection as it stands", "ConnectionStatus")
    outcome = _json_answer("What became of the popup", "AttemptOutcome")
    user_id = {"$ref": "#/components/parameters/AppUserId"}
    # A session token implies its user; a secret key needs the query field.
    maybe_user_id = _optional("appUserId", "query", "With a secret key: whose")
    grant, nonce = _parameter("x-wattfare-grant", "header", "The grant token"), _in_path("nonce")
    return {
        "/v1/sessions": {
            "post": _operation("Mint a session token", _SECRET, "Session", (*_WRITTEN, 429), body="SessionRequest")
        },
        "/v1/status": {"get": _operation("Read a connection", _SECRET, connection, _LIMITED, parameters=[user_id])},
        "/v1/connections": {
            "get": _operation("Read the token's connection", _TOKEN, connection, _READ),
            "post": _operation(
                "Lower the cap; in test mode approve", _TOKEN, connection, (*_WRITTEN, 402, 403), body="CapRequest"
            ),
            "delete": {
                **_operation("End a connection", _TOKEN, None, _READ, parameters=[maybe_user_id]),
                "security": [{"sessionToken": []}, {"secretKey": []}, {"secretKeyHeader": []}],
            },
        },
        "/v1/attempts/{nonce}": {
            "get": {
                **_operation("The outcome of one popup", _TOKEN, outcome, (*_READ, 404), parameters=[nonce]),
                "security": [{"sessionToken": []}, {"publishableKey": []}],
            },
            "post": _operation(
                "Redeem a redirect",
                _TOKEN,
                outcome,
                (*_WRITTEN, 403, 404, 409),
                parameters=[nonce],
                body="RedeemRequest",
            ),
        },
        "/v1/grants": {
            "get": _operation("What is left of a grant", _SECRET, "GrantStatus", (*_LIMITED, 402), parameters=[grant])
        },
    }


def _metered(dialect: Dialect) -> Json:
    answer = {
        "description": "OpenRouter's bytes, as they came",
        "headers": {
            name: {"description": description, "schema": {"type": "string"}}
            for name, description in _ANSWER_HEADERS.items()
        },
        "content": {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {}},
    }
    summary = f"Run a model at the user's cost ({dialect.value})"
    payer = [{"$ref": f"#/components/parameters/{name}"} for name in ("User", "Grant", "Shorten")]
    operation = _operation(summary, "secretKey", answer, _METERED, parameters=payer, body="ModelRequest")
    # OpenRouter's refusal of a request keeps its status.
    operation["responses"]["4XX"] = {"$ref": "#/components/responses/Error"}
    return operation


def _operation(
    summary: str,
    scheme: str | None,
    answer: str | Json | None,
    refusals: Iterable[int],
    *,
    body: str | None = None,
    parameters: list[Json] | None = None,
) -> Json:
    if isinstance(answer, str):
        answer = _json_answer(summary, answer)
    success = {"204": {"description": "Done"}} if answer is None else {"200": answer}
    refused = {str(status): _json_answer(_STATUSES[status], "Error") for status in sorted(refusals)}
    operation: Json = {
        "summary": summary,
        "security": [{each: []} for each in _SCHEMES.get(scheme, (scheme,))] if scheme else [],
        "responses": {**success, **refused},
    }
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": ref(body)}}}
    return operation


def _json_answer(description: str, schema: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": ref(schema)}}}


def _in_path(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _parameter(name: str, place: str, description: str) -> Json:
    return {"name": name, "in": place, "required": True, "description": description, "schema": {"type": "string"}}


def _optional(name: str, place: str, description: str) -> Json:
    return {**_parameter(name, place, description), "required": False}
