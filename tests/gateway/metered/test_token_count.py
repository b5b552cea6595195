"""Tokens are counted here, free: with a secret key, without payer, hold or upstream."""

import json

import pytest

from tests.fakes import FakeOpenRouter
from tests.gateway.stack import Stack

PATHS = pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
# As Anthropic's clients send it, which name no max_tokens here.
BODY = {"model": "anthropic/claude-sonnet-4", "system": "Be short.", "messages": [{"role": "user", "content": "Hi"}]}


async def counted(stack: Stack, document: object, prefix: str = "/v1", secret: str | None = None) -> int:
    """The tokens of a body."""
    headers = {"x-api-key": secret or stack.secret}
    answer = await stack.ask("POST", f"{prefix}/messages/count_tokens?beta=true", document=document, headers=headers)
    assert (answer.status, list(answer.document)) == (200, ["input_tokens"])
    tokens = answer.document["input_tokens"]
    assert isinstance(tokens, int)
    return tokens


@PATHS
async def test_a_longer_prompt_counts_more(stack: Stack, openrouter: FakeOpenRouter, prefix: str) -> None:
    """At what is expected of a request to the same model, tools and images among it; the same for a test key."""
    short = await counted(stack, BODY, prefix)
    assert 1 <= short < 400
    long = {**BODY, "messages": [{"role": "user", "content": "word " * 4000}]}
    assert 4000 <= await counted(stack, long, prefix) - short <= 2 * 4000
    assert await counted(stack, {**BODY, "tools": [{"name": "look", "input_schema": {"a": "b" * 400}}]}, prefix) > short
    source = {"type": "base64", "media_type": "image/png", "data": "A" * 100_000}
    picture = {**BODY, "messages": [{"role": "user", "content": [{"type": "image", "source": source}]}]}
    assert await counted(stack, picture, prefix) >= 1600
    assert await counted(stack, BODY, prefix, stack.test_secret) == short
    assert openrouter.received == []
    assert await stack.nothing_is_lost()


@pytest.mark.parametrize(
    ("method", "body", "status", "kind"),
    [
        ("POST", b"{", 400, "invalid_request_error"),
        ("POST", b'{"model":"a/b"}', 422, "invalid_request_error"),
        ("POST", b"x" * 64_000_000, 413, "request_too_large"),
        ("GET", b"", 405, "invalid_request_error"),
    ],
    ids=["no JSON", "no messages", "too large", "another method"],
)
async def test_what_cannot_be_counted_is_told_in_anthropics_shape(
    stack: Stack, method: str, body: bytes, status: int, kind: str
) -> None:
    """As on /messages itself."""
    answer = await stack.ask(method, "/v1/messages/count_tokens", body=body, headers={"x-api-key": stack.secret})
    assert answer.refusal == (status, "invalid_request")
    assert (answer.document["type"], answer.document["error"]["type"]) == ("error", kind)


async def test_counting_asks_who_calls(stack: Stack) -> None:
    """The route requires a key, as counting uses CPU time."""
    for headers in ({}, {"x-api-key": "sk_live_x"}, {"Authorization": f"Bearer {stack.app['publishableKey']}"}):
        answer = await stack.ask("POST", "/v1/messages/count_tokens", body=json.dumps(BODY).encode(), headers=headers)
        assert answer.refusal == (401, "auth")
        assert answer.document["error"]["type"] == "authentication_error"
