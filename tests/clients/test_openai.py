"""OpenAI's own Python library, unchanged, before the gateway: what it reads and raises, how often it tries again."""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncGenerator, Callable
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from openai.types.responses import FunctionToolParam, ResponseInputItemParam
from pydantic import BaseModel

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
from tests.clients.openai_wire import (
    COST_NANO,
    DONE,
    RESPONSES,
    STARTS,
    STREAMS,
    USAGE,
    call,
    chunk,
    event,
    item,
    message,
    response,
    text,
)
from tests.fakes import MODEL, FakeOpenRouter
from tests.gateway.stack import PATIENCE_SECONDS, USER, Stack, revoke

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say hello."}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
EACH = pytest.mark.parametrize("dialect", ["chat", "responses"])

Library = Callable[..., openai.AsyncOpenAI]


class Weather(BaseModel):
    """A shape that an answer must have."""

    city: str
    degrees: int


WARM = Weather(city="Bern", degrees=21)


@pytest.fixture
def library(stack: Stack, attempts: RecordedAttempts) -> Library:
    """Makes clients that are OpenAI's own but for base URL, key and header."""

    def make(user: str = USER, secret: str | None = None) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{stack.url}/v1",
            api_key=secret or stack.secret,
            default_headers={"x-wattfare-user": user},
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False, event_hooks=attempts.hooks),
        )

    return make


async def heard(client: openai.AsyncOpenAI, dialect: str) -> AsyncGenerator[str]:
    """The pieces of text of a streamed answer in this dialect."""
    if dialect == "chat":
        chat = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, max_tokens=MOST_TOKENS)
        async with chat:
            async for part in chat:
                if part.choices[0].delta.content:
                    yield part.choices[0].delta.content
        return
    answer = await client.responses.create(model=MODEL, input="Hello?", stream=True, max_output_tokens=MOST_TOKENS)
    async with answer:
        async for came in answer:
            if came.type == "response.output_text.delta":
                yield came.delta


async def all_heard(client: openai.AsyncOpenAI, dialect: str) -> str:
    return "".join([piece async for piece in heard(client, dialect)])


@EACH
async def test_a_streamed_answer_is_read(
    stack: Stack, openrouter: FakeOpenRouter, library: Library, attempts: RecordedAttempts, dialect: str
) -> None:
    """To its end, requested once, and booked at its cost."""
    openrouter.play = says(*STREAMS[dialect])
    async with library() as client:
        assert await all_heard(client, dialect) == "Hello"
    assert len(attempts.paths) == 1
    [entry] = await stack.booked()
    assert (entry["status"], int(entry["cost_nano"])) == ("settled", COST_NANO)


@EACH
async def test_a_whole_answer_is_read(stack: Stack, openrouter: FakeOpenRouter, library: Library, dialect: str) -> None:
    """With its usage, as OpenRouter stated it."""
    said = message(content="Hello") if dialect == "chat" else json.dumps(response(item(text("Hello")))).encode()
    openrouter.play = whole(said)
    async with library() as client:
        if dialect == "chat":
            chat = await client.chat.completions.create(model=MODEL, messages=HELLO)
            assert chat.choices[0].message.content == "Hello"
            assert chat.usage is not None
            assert chat.usage.total_tokens == 5
        else:
            answer = await client.responses.create(model=MODEL, input="Hello?")
            assert answer.output_text == "Hello"
            assert answer.usage is not None
            assert answer.usage.total_tokens == 5
    [entry] = await stack.booked()
    assert int(entry["cost_nano"]) == COST_NANO


async def test_a_responses_stream_is_put_together(openrouter: FakeOpenRouter, library: Library) -> None:
    """The library's own reader gets every event that it needs."""
    openrouter.play = says(*RESPONSES)
    async with library() as client, client.responses.stream(model=MODEL, input="Hello?") as stream:
        kinds = [came.type async for came in stream]
        assert (await stream.get_final_response()).output_text == "Hello"
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")


async def test_embeddings_are_read(stack: Stack, openrouter: FakeOpenRouter, library: Library) -> None:
    """The library requests base64 and decodes it."""
    vector = [0.5, -0.25, 1.0]
    encoded = base64.b64encode(struct.pack("<3f", *vector)).decode()
    data = [{"object": "embedding", "index": 0, "embedding": encoded}]
    openrouter.play = whole(json.dumps({"object": "list", "data": data, "model": MODEL, "usage": USAGE}).encode())
    async with library() as client:
        found = await client.embeddings.create(model=MODEL, input=["hello"])
    assert found.data[0].embedding == vector
    assert json.loads(openrouter.last.body)["encoding_format"] == "base64"
    [entry] = await stack.booked()
    assert int(entry["cost_nano"]) == COST_NANO


@pytest.mark.parametrize("way", ["parse", "stream", "responses"])
async def test_a_structured_answer_is_an_instance(openrouter: FakeOpenRouter, library: Library, way: str) -> None:
    """The schema is sent upstream and the answer is returned as the given class."""
    said = WARM.model_dump_json()
    async with library() as client:
        if way == "parse":
            openrouter.play = whole(message(content=said))
            parsed = await client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Weather)
            found = parsed.choices[0].message.parsed
        elif way == "stream":
            openrouter.play = says(chunk({"content": said[:9]}), chunk({"content": said[9:]}), chunk({}, "stop"), DONE)
            async with client.chat.completions.stream(model=MODEL, messages=HELLO, response_format=Weather) as stream:
                found = (await stream.get_final_completion()).choices[0].message.parsed
        else:
            openrouter.play = whole(json.dumps(response(item(text(said)))).encode())
            found = (await client.responses.parse(model=MODEL, input="?", text_format=Weather)).output_parsed
    assert found == WARM
    assert b'"degrees"' in openrouter.last.body


async def test_a_tool_is_called_and_its_result_is_answered(openrouter: FakeOpenRouter, library: Library) -> None:
    """Arguments arrive in pieces; the tool's message is sent upstream unchanged."""
    pieces = ['{"ci', 'ty":"Be', 'rn"}']
    named = {"index": 0, **call("weather", "")}
    calls = [named, *({"index": 0, "function": {"arguments": piece}} for piece in pieces)]
    openrouter.play = says(*(chunk({"tool_calls": [part]}) for part in calls), chunk({}, "tool_calls"), DONE)
    async with library() as client:
        async with client.chat.completions.stream(model=MODEL, messages=HELLO, tools=[WEATHER]) as stream:
            asked = (await stream.get_final_completion()).choices[0].message
        assert asked.tool_calls is not None
        [wanted] = asked.tool_calls
        assert (wanted.id, wanted.function.name, wanted.function.arguments) == ("call_1", "weather", "".join(pieces))
        openrouter.play = whole(message(content="21 degrees"))
        turns: list[ChatCompletionMessageParam] = [
            *HELLO,
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "".join(pieces)}}
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "21"},
        ]
        answer = await client.chat.completions.create(model=MODEL, messages=turns, tools=[WEATHER])
    assert answer.choices[0].message.content == "21 degrees"
    assert json.loads(openrouter.last.body)["messages"] == turns


async def test_a_tool_is_called_in_a_response(openrouter: FakeOpenRouter, library: Library) -> None:
    """As an item with its arguments; its result is sent upstream unchanged."""
    arguments = '{"city":"Bern"}'
    wanted = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": arguments}
    openrouter.play = whole(json.dumps(response({**wanted, "status": "completed"})).encode())
    tool: FunctionToolParam = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
    async with library() as client:
        [asked] = (await client.responses.create(model=MODEL, input="Hello?", tools=[tool])).output
        assert asked.type == "function_call"
        assert (asked.call_id, asked.name, asked.arguments) == ("call_1", "weather", arguments)
        result: ResponseInputItemParam = {"type": "function_call_output", "call_id": "call_1", "output": "21"}
        openrouter.play = whole(json.dumps(response(item(text("21 degrees")))).encode())
        answer = await client.responses.create(model=MODEL, input=[result], tools=[tool])
    assert answer.output_text == "21 degrees"
    assert json.loads(openrouter.last.body)["input"] == [result]


@EACH
async def test_an_abort_reaches_upstream_and_is_booked(
    stack: Stack, openrouter: FakeOpenRouter, library: Library, attempts: RecordedAttempts, dialect: str
) -> None:
    """Closing a stream closes upstream too, and the generation's cost is booked."""
    openrouter.generations["gen-1"] = {"id": "gen-1", "total_cost": 0.0002}
    openrouter.play = held = OpenAnswer(STARTS[dialect])
    async with library() as client:
        pieces = heard(client, dialect)
        assert await anext(pieces) == "Hel"
        await pieces.aclose()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await held.left.wait()
    [entry] = await stack.booked()
    assert (entry["status"], int(entry["cost_nano"]), entry["ended_by"]) == ("settled", 200_000, "client")
    assert len(attempts.paths) == 1


RAISED = {
    "not connected": openai.APIStatusError,
    "over the cap": openai.APIStatusError,
    "wrong key": openai.AuthenticationError,
    "429 with Retry-After": openai.RateLimitError,
    "502": openai.InternalServerError,
    "hung up on": openai.InternalServerError,
}


@EACH
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name)
async def test_a_failure_is_the_librarys_own_exception(
    stack: Stack,
    openrouter: FakeOpenRouter,
    library: Library,
    attempts: RecordedAttempts,
    failure: Failure,
    dialect: str,
) -> None:
    """With our code on it, after as many attempts as such a failure is worth."""
    await meet(failure, stack, openrouter)
    async with library(failure.user, failure.secret) as client:
        with pytest.raises(openai.APIStatusError) as raised:
            await all_heard(client, dialect)
    assert type(raised.value) is RAISED[failure.name]
    assert (raised.value.status_code, raised.value.code) == (failure.status, failure.code)
    assert raised.value.response.headers.get("Retry-After") == failure.retry_after
    assert raised.value.request_id == raised.value.response.headers["x-wattfare-request-id"]
    assert (len(attempts.paths), len(openrouter.received)) == (failure.attempts, failure.asked)
    assert failure.retry_after is None or attempts.waits_seconds[0] >= float(failure.retry_after) - 0.01


@EACH
async def test_what_another_request_holds_is_asked_for_again(
    stack: Stack, openrouter: FakeOpenRouter, library: Library, attempts: RecordedAttempts, dialect: str
) -> None:
    """No 402 is raised if waiting helps: the library waits as told and gets its answer."""
    async with held_by_another(stack, openrouter, attempts, says(*STREAMS[dialect])), library() as client:
        assert await all_heard(client, dialect) == "Hello"
    assert attempts.statuses == [402, 200]
    assert attempts.waits_seconds[0] >= RETRY_AFTER_SECONDS - 0.01


@EACH
async def test_eight_at_once_are_all_answered(
    patient: Stack, openrouter: FakeOpenRouter, attempts: RecordedAttempts, dialect: str
) -> None:
    """On a cap that carries two of their bounds at a time: each is sent once, none is refused."""
    await patient.connect("0.08")
    openrouter.play = says(*STREAMS[dialect])
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        openai.AsyncOpenAI(
            base_url=f"{patient.url}/v1",
            api_key=patient.secret,
            default_headers={"x-wattfare-user": USER},
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False, event_hooks=attempts.hooks),
        ) as client,
    ):
        assert await asyncio.gather(*(all_heard(client, dialect) for _ in range(8))) == ["Hello"] * 8
    assert attempts.statuses == [200] * 8


@EACH
async def test_an_error_in_mid_stream_is_raised(
    openrouter: FakeOpenRouter, library: Library, attempts: RecordedAttempts, dialect: str
) -> None:
    """The preceding chunks arrive, and there is no retry."""
    said = event({"error": {"code": 502, "message": "provider lost"}})
    openrouter.play = says(STARTS[dialect], said)
    async with library() as client:
        pieces = heard(client, dialect)
        assert await anext(pieces) == "Hel"
        with pytest.raises(openai.APIError, match="provider lost"):
            await anext(pieces)
    assert len(attempts.paths) == 1


@pytest.mark.parametrize("kind", ["error", "response.failed"])
async def test_an_error_event_of_responses_is_the_librarys_object(
    openrouter: FakeOpenRouter, library: Library, attempts: RecordedAttempts, kind: str
) -> None:
    """Where upstream uses the dialect's own events the library hands them on, and raises nothing by itself."""
    why = {"code": "server_error", "message": "provider lost"}
    said = why if kind == "error" else {"response": response(status="failed", error=why)}
    openrouter.play = says(STARTS["responses"], event({"type": kind, "sequence_number": 4, **said}))
    async with library() as client, await client.responses.create(model=MODEL, input="?", stream=True) as stream:
        *_, last = [came async for came in stream]
    told: Any = last.to_dict()
    found = told if kind == "error" else told["response"]["error"]
    assert (last.type, found["code"], found["message"]) == (kind, "server_error", "provider lost")
    assert len(attempts.paths) == 1


@EACH
async def test_a_revocation_in_mid_stream_is_raised(
    stack: Stack, openrouter: FakeOpenRouter, library: Library, attempts: RecordedAttempts, dialect: str
) -> None:
    """By its code, without a retry."""
    openrouter.play = OpenAnswer(STARTS[dialect])
    async with library() as client:
        pieces = heard(client, dialect)
        assert await anext(pieces) == "Hel"
        await revoke(stack)
        with pytest.raises(openai.APIError) as raised:
            await anext(pieces)
    assert (raised.value.code, len(attempts.paths)) == ("not_connected", 1)


@EACH
async def test_a_stream_that_breaks_off_is_raised(
    openrouter: FakeOpenRouter, library: Library, attempts: RecordedAttempts, dialect: str
) -> None:
    """A truncated answer never looks complete, and there is no retry."""
    openrouter.play = cuts(STARTS[dialect])
    async with library() as client:
        pieces = heard(client, dialect)
        assert await anext(pieces) == "Hel"
        with pytest.raises(openai.APIConnectionError):
            await anext(pieces)
    assert len(attempts.paths) == 1
