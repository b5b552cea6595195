"""Every error before an answer, in every dialect, over real sockets: its shape, its headers, what it is for."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.openrouter.dialects import Dialect
from tests.fakes import FakeOpenRouter, refuses
from tests.gateway.stack import Answer, Stack
from tests.gateway.wire_cases import SPOKEN, Spoken

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
