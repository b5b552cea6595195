"""Every error before an answer, in every dialect, over real sockets: its shape, its headers, what it is for."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.openrouter.dialects import Dialect
from tests.fakes import FakeOpenRouter, refuses, streams
from tests.gateway.stack import Answer, Stack
from tests.gateway.wire_cases import SPOKEN, Spoken, event

EACH = pytest.mark.parametrize("spoken", SPOKEN, ids=lambda spoken: spoken.dialect.value)


async def ask(
    stack: Stack, spoken: Spoken, headers: Mapping[str, str] | None = None, *, body: bytes | None = None
) -> Answer:
    """Ask in a dialect as the connected user."""
    sent = json.dumps(spoken.ask(stream=False)).encode() if body is None else body
    return await stack.ask("POST", spoken.path, body=sent, headers=stack.as_user() if headers is None else headers)


def said(answer: Answer, spoken: Spoken) -> dict[str, Any]:
    """The error object of an answer, once it was found whole and in the dialect's shape."""
    assert answer.refusal[0] == answer.status
    error: dict[str, Any] = answer.document["error"]
    if spoken.dialect is Dialect.MESSAGES:
        assert (list(answer.document), answer.document["type"]) == (["type", "error"], "error")
    else:
        assert list(answer.document) == ["error"]
    return error


@EACH
async def test_every_error_comes_in_the_dialects_own_shape(
    stack: Stack, openrouter: FakeOpenRouter, spoken: Spoken
) -> None:
    """The key, the payer, the cap, the body, the path, the method and upstream's refusal are all told in it."""
    await stack.connect("0.0000001", user="poor")
    openrouter.play = refuses(429, {"code": 429, "message": "slow down"})
    document = spoken.ask(stream=False)
    answers = [
        (await ask(stack, spoken, {}), 401, "auth", "authentication_error"),
        (await ask(stack, spoken, stack.as_user("nobody")), 402, "not_connected", "billing_error"),
        (await ask(stack, spoken, stack.as_user("poor")), 402, "budget_exceeded", "billing_error"),
        (await ask(stack, spoken, body=b"{"), 400, "invalid_request", "invalid_request_error"),
        (await ask(stack, spoken, body=b"x" * 64_000_000), 413, "invalid_request", "request_too_large"),
        (await ask(stack, spoken), 429, "rate_limited", "rate_limit_error"),
        (await stack.ask("GET", spoken.path), 405, "invalid_request", "invalid_request_error"),
        (await stack.ask("POST", f"/api{spoken.path}/x", document=document), 404, "invalid_request", "not_found_error"),
    ]
    for answer, status, code, kind in answers:
        error = said(answer, spoken)
        assert (answer.status, error["code"]) == (status, code)
        assert spoken.dialect is not Dialect.MESSAGES or error["type"] == kind
    assert len(openrouter.received) == 1


@EACH
async def test_a_refusal_of_upstreams_keeps_what_it_says(
    stack: Stack, openrouter: FakeOpenRouter, spoken: Spoken
) -> None:
    """Status, message and metadata, less the names of keys and accounts."""
    raw = '{"error":"user_2abcDEF9 asks for temperature 9"}'
    metadata = {"raw": raw, "provider_name": "Acme", "error_type": "invalid_request"}
    openrouter.play = refuses(422, {"code": 422, "message": "Provider returned error", "metadata": metadata})
    error = said(answer := await ask(stack, spoken), spoken)
    assert (answer.status, error["code"], error["message"]) == (422, "invalid_request", "Provider returned error")
    assert error["metadata"] == {**metadata, "raw": raw.replace("user_2abcDEF9", "[removed]")}


@EACH
@pytest.mark.parametrize("is_inside", [False, True], ids=["before", "inside a stream"])
async def test_a_request_too_dear_for_the_credit_leaves_the_connection_alone(
    stack: Stack, openrouter: FakeOpenRouter, spoken: Spoken, *, is_inside: bool
) -> None:
    """It is told to name a smaller max_tokens, and the next request goes upstream."""
    error = {"code": 402, "message": "This request requires more credits, or fewer max_tokens: can only afford 12."}
    openrouter.play = streams([event({"error": error})]) if is_inside else refuses(402, error)
    answer = await ask(stack, spoken)
    if not is_inside:
        refused = said(answer, spoken)
        assert (answer.status, refused["code"], refused["limit"]) == (402, "budget_exceeded", "credit")
        assert "smaller max_tokens" in refused["message"]
    [entry] = await stack.booked()
    assert entry["status"] == "void"
    openrouter.play = streams([spoken.document], {"Content-Type": "application/json"})
    assert (await ask(stack, spoken)).status == 200
