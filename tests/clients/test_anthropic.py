"""Anthropic's own Python library, unchanged, before the gateway: what it reads and raises, how often it tries again."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable

import anthropic
import httpx2
import pytest
from anthropic.types import MessageParam, ToolParam

from gateway.ledger.admission import RETRY_AFTER_SECONDS
from tests.clients.attempts import (
    FAILURES,
    MOST_TOKENS,
    Failure,
    OpenAnswer,
    RecordedAttempts,
    cuts,
    held_by_another,
    meet,
    says,
    whole,
)
from tests.fakes import MODEL, FakeOpenRouter
from tests.gateway.stack import FUNDING_KEY, PATIENCE_SECONDS, USER, Stack, revoke

COST_NANO = 500_000
HELLO: list[MessageParam] = [{"role": "user", "content": "Say hello."}]
WEATHER: ToolParam = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
MESSAGE = {"id": "gen-1", "type": "message", "role": "assistant", "model": MODEL, "stop_reason": None}
USAGE = {"input_tokens": 3, "output_tokens": 2, "cost": 0.0005}

Library = Callable[..., anthropic.AsyncAnthropic]


def event(name: str, **more: object) -> bytes:
    """Return one event of a stream, which has its name twice."""
    return f"event: {name}\ndata: {json.dumps({'type': name, **more})}\n\n".encode()


def block(number: int, content: dict[str, object], *deltas: dict[str, object]) -> bytes:
    """A block of content, opened, filled and closed."""
    filled = (event("content_block_delta", index=number, delta=delta) for delta in deltas)
    started = event("content_block_start", index=number, content_block=content)
    return started + b"".join(filled) + event("content_block_stop", index=number)


def ended(reason: str) -> bytes:
    """The end of a stream, with its cost."""
    said = event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=USAGE)
    return said + event("message_stop")


def document(*content: dict[str, object]) -> bytes:
    """A whole answer."""
    return json.dumps({**MESSAGE, "content": content, "stop_reason": "end_turn", "usage": USAGE}).encode()


OPENED = event("message_start", message={**MESSAGE, "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}})
EMPTY: dict[str, object] = {"type": "text", "text": ""}
START = (
    OPENED
    + event("ping")
    + event("content_block_start", index=0, content_block=EMPTY)
    + event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hel"})
)
REST = (
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": "lo"})
    + event("content_block_stop", index=0)
    + ended("end_turn")
)


@pytest.fixture
def library(stack: Stack, attempts: RecordedAttempts) -> Library:
    """Makes clients that are Anthropic's own but for base URL, key and header."""

    def make(user: str = USER, secret: str | None = None, *, way: str = "api_key") -> anthropic.AsyncAnthropic:
        key = secret or stack.secret
        return anthropic.AsyncAnthropic(
            base_url=stack.url,
            api_key=key if way == "api_key" else None,
            auth_token=key if way == "auth_token" else None,
            default_headers={"x-wattfare-user": user},
            http_client=anthropic.DefaultAsyncHttpxClient(trust_env=False, event_hooks=attempts.hooks),
        )

    return make


async def heard(client: anthropic.AsyncAnthropic) -> AsyncGenerator[str]:
    """The pieces of text of a streamed answer."""
    async with client.messages.stream(model=MODEL, messages=HELLO, max_tokens=MOST_TOKENS) as stream:
        async for piece in stream.text_stream:
            yield piece


async def all_heard(client: anthropic.AsyncAnthropic) -> str:
    return "".join([piece async for piece in heard(client)])


@pytest.mark.parametrize("way", ["api_key", "auth_token"])
async def test_a_whole_answer_is_read(stack: Stack, openrouter: FakeOpenRouter, library: Library, way: str) -> None:
    """Whichever of its two settings the key was given to."""
    openrouter.play = whole(document({"type": "text", "text": "Hello"}))
    async with library(way=way) as client:
        answer = await client.messages.create(model=MODEL, messages=HELLO, max_tokens=64)
    [content] = answer.content
    assert content.type == "text"
    assert content.text == "Hello"
    assert answer.usage.output_tokens == 2
    [entry] = await stack.booked()
    assert (entry["status"], int(entry["cost_nano"])) == ("settled", COST_NANO)


async def test_the_key_is_taken_as_x_api_key(openrouter: FakeOpenRouter, library: Library) -> None:
    """Where this library's older versions put it; upstream gets the funding key alone."""
    openrouter.play = whole(document({"type": "text", "text": "Hello"}))
    async with library() as client:
        headers: dict[str, str | anthropic.Omit] = {"Authorization": anthropic.omit, "X-Api-Key": client.api_key or ""}
        await client.messages.create(model=MODEL, messages=HELLO, max_tokens=64, extra_headers=headers)
    assert openrouter.last.header("Authorization") == f"Bearer {FUNDING_KEY}"
    assert "x-api-key" not in openrouter.last.names


async def test_a_streamed_answer_is_put_together(
    stack: Stack, openrouter: FakeOpenRouter, library: Library, attempts: RecordedAttempts
) -> None:
    """By the library's own reader, requested once, and booked at its cost."""
    openrouter.play = says(START, REST)
    async with library() as client, client.messages.stream(model=MODEL, messages=HELLO, max_tokens=64) as stream:
        pieces = [piece async for piece in stream.text_stream]
        answer = await stream.get_final_message()
    assert pieces == ["Hel", "lo"]
    assert (answer.stop_reason, answer.usage.output_tokens, len(attempts.paths)) == ("end_turn", 2, 1)
    [entry] = await stack.booked()
    assert (entry["status"], int(entry["cost_nano"])) == ("settled", COST_NANO)


async def test_a_tool_is_called_and_its_result_is_answered(openrouter: FakeOpenRouter, library: Library) -> None:
    """Arguments arrive in pieces; the tool's result is sent upstream unchanged."""
    parts = ("", '{"ci', 'ty":"Bern"}')
    pieces: list[dict[str, object]] = [{"type": "input_json_delta", "partial_json": part} for part in parts]
    named: dict[str, object] = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {}}
    openrouter.play = says(OPENED, block(0, named, *pieces), ended("tool_use"))
    async with library() as client:
        async with client.messages.stream(model=MODEL, messages=HELLO, max_tokens=64, tools=[WEATHER]) as stream:
            asked = await stream.get_final_message()
        [wanted] = asked.content
        assert wanted.type == "tool_use"
        assert (wanted.id, wanted.name, wanted.input) == ("call_1", "weather", {"city": "Bern"})
        openrouter.play = whole(document({"type": "text", "text": "21 degrees"}))
        turns: list[MessageParam] = [
            *HELLO,
            {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "21"}]},
        ]
        await client.messages.create(model=MODEL, messages=turns, max_tokens=64, tools=[WEATHER])
    assert json.loads(openrouter.last.body)["messages"] == turns


async def test_tokens_are_counted_free(stack: Stack, openrouter: FakeOpenRouter, library: Library) -> None:
    """With tools and without a ceiling, as sent by the library; nothing is sent upstream."""
    async with library() as client:
        counted = await client.messages.count_tokens(model=MODEL, messages=HELLO, tools=[WEATHER])
    assert counted.input_tokens > 0
    assert openrouter.received == []
    assert await stack.nothing_is_lost()


async def test_an_abort_reaches_upstream_and_is_booked(
    stack: Stack, openrouter: FakeOpenRouter, library: Library, attempts: RecordedAttempts
) -> None:
    """Closing a stream closes upstream too, and the generation's cost is booked."""
    openrouter.generations["gen-1"] = {"id": "gen-1", "total_cost": 0.0002}
    openrouter.play = held = OpenAnswer(START)
    async with library() as client:
        pieces = heard(client)
        assert await anext(pieces) == "Hel"
        await pieces.aclose()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await held.left.wait()
    [entry] = await stack.booked()
    assert (entry["status"], int(entry["cost_nano"]), entry["ended_by"]) == ("settled", 200_000, "client")
    assert len(attempts.paths) == 1


RAISED = {
    "not connected": (anthropic.PaymentRequiredError, "billing_error"),
    "over the cap": (anthropic.PaymentRequiredError, "billing_error"),
    "wrong key": (anthropic.AuthenticationError, "authentication_error"),
    "429 with Retry-After": (anthropic.RateLimitError, "rate_limit_error"),
    "502": (anthropic.InternalServerError, "api_error"),
    "hung up on": (anthropic.InternalServerError, "api_error"),
}


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name)
async def test_a_failure_is_the_librarys_own_exception(
    stack: Stack, openrouter: FakeOpenRouter, library: Library, attempts: RecordedAttempts, failure: Failure
) -> None:
    """With its own type and our code on it, after as many attempts as such a failure is worth."""
    await meet(failure, stack, openrouter)
    async with library(failure.user, failure.secret) as client:
        with pytest.raises(anthropic.APIStatusError) as raised:
            await all_heard(client)
    error = raised.value
    assert (type(error), error.type) == RAISED[failure.name]
    assert (error.status_code, said_code(error)) == (failure.status, failure.code)
    assert error.response.headers.get("Retry-After") == failure.retry_after
    assert (len(attempts.paths), len(openrouter.received)) == (failure.attempts, failure.asked)
    assert failure.retry_after is None or attempts.waits_seconds[0] >= float(failure.retry_after) - 0.01


def said_code(error: anthropic.APIError) -> object:
    """Our code, which this library leaves in the body."""
    assert isinstance(error.body, dict)
    return error.body["error"]["code"]


async def test_what_another_request_holds_is_asked_for_again(
    stack: Stack, openrouter: FakeOpenRouter, library: Library, attempts: RecordedAttempts
) -> None:
    """No 402 is raised if waiting helps: the library waits as told and gets its answer."""
    async with held_by_another(stack, openrouter, attempts, says(START, REST)), library() as client:
        assert await all_heard(client) == "Hello"
    assert attempts.statuses == [402, 200]
    assert attempts.waits_seconds[0] >= RETRY_AFTER_SECONDS - 0.01


async def test_eight_at_once_are_all_answered(
    patient: Stack, openrouter: FakeOpenRouter, attempts: RecordedAttempts
) -> None:
    """On a cap that carries two of their bounds at a time: each is sent once, none is refused."""
    await patient.connect("0.08")
    openrouter.play = says(START, REST)
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        anthropic.AsyncAnthropic(
            base_url=patient.url,
            api_key=patient.secret,
            default_headers={"x-wattfare-user": USER},
            http_client=anthropic.DefaultAsyncHttpxClient(trust_env=False, event_hooks=attempts.hooks),
        ) as client,
    ):
        assert await asyncio.gather(*(all_heard(client) for _ in range(8))) == ["Hello"] * 8
    assert attempts.statuses == [200] * 8


async def test_an_error_in_mid_stream_is_raised(
    openrouter: FakeOpenRouter, library: Library, attempts: RecordedAttempts
) -> None:
    """With its type, after the preceding events, without a retry."""
    openrouter.play = says(START, event("error", error={"type": "overloaded_error", "message": "provider lost"}))
    async with library() as client:
        pieces = heard(client)
        assert await anext(pieces) == "Hel"
        with pytest.raises(anthropic.APIStatusError, match="provider lost") as raised:
            await anext(pieces)
    assert (raised.value.type, len(attempts.paths)) == ("overloaded_error", 1)


async def test_a_revocation_in_mid_stream_is_raised(
    stack: Stack, openrouter: FakeOpenRouter, library: Library, attempts: RecordedAttempts
) -> None:
    """The truncated text is never a success, and there is no retry."""
    openrouter.play = OpenAnswer(START)
    async with library() as client:
        pieces = heard(client)
        assert await anext(pieces) == "Hel"
        await revoke(stack)
        with pytest.raises(anthropic.APIStatusError) as raised:
            await anext(pieces)
    assert (raised.value.type, said_code(raised.value)) == ("billing_error", "not_connected")
    assert len(attempts.paths) == 1


async def test_a_stream_that_breaks_off_is_raised(
    openrouter: FakeOpenRouter, library: Library, attempts: RecordedAttempts
) -> None:
    """This library passes on its HTTP client's exception, without a retry."""
    openrouter.play = cuts(START)
    async with library() as client:
        pieces = heard(client)
        assert await anext(pieces) == "Hel"
        with pytest.raises(httpx2.RemoteProtocolError):
            await anext(pieces)
    assert len(attempts.paths) == 1
