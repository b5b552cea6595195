"""The real OpenAI client against test mode: every dialect it speaks, tools, structured output and faults."""

import json

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from openai.types.responses import FunctionToolParam
from pydantic import BaseModel

from tests.fakes import FakeOpenRouter
from tests.gateway.stack import Stack

_MODEL = "sandbox/echo"
_CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_TOOL: ChatCompletionToolParam = {"type": "function", "function": {"name": "get_weather", "parameters": dict(_CITY)}}
_QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What does get_weather say?"}]


class _Event(BaseModel):
    """What an answer is to be made of."""

    name: str
    days: list[int]
    place: "_Place | None"


class _Place(BaseModel):
    city: str
    zone: float


def _client(stack: Stack) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{stack.url}/v1",
        api_key=stack.test_secret,
        default_headers={"x-wattfare-user": "ada"},
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    )


async def test_chat_calls_a_tool_and_then_says_what_it_said(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Whole and streamed; the round after the result is text."""
    await stack.connect_test()
    async with _client(stack) as client:
        whole = await client.chat.completions.create(model=_MODEL, messages=_QUESTION, tools=[_TOOL])
        [call] = whole.choices[0].message.tool_calls or []
        assert call.type == "function"
        assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "text"})
        async with client.chat.completions.stream(model=_MODEL, messages=_QUESTION, tools=[_TOOL]) as stream:
            final = await stream.get_final_completion()
        [streamed] = final.choices[0].message.tool_calls or []
        assert json.loads(streamed.function.arguments) == {"city": "text"}
        result: list[ChatCompletionMessageParam] = [
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": call.id, "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
        ]
        answer = await client.chat.completions.create(model=_MODEL, messages=_QUESTION + result, tools=[_TOOL])
        assert answer.choices[0].message.content == "sunny"
    assert openrouter.received == []


async def test_structured_output_is_parsed(stack: Stack) -> None:
    """Chat and responses give an instance of a Pydantic model, with references and options in its schema."""
    await stack.connect_test()
    expected = _Event(name="text", days=[1], place=_Place(city="text", zone=0.5))
    async with _client(stack) as client:
        chat = await client.chat.completions.parse(model=_MODEL, messages=_QUESTION, response_format=_Event)
        assert chat.choices[0].message.parsed == expected
        responses = await client.responses.parse(model=_MODEL, input="An event.", text_format=_Event)
        assert responses.output_parsed == expected


async def test_responses_are_streamed_and_whole(stack: Stack) -> None:
    """Text deltas, the completed response, and a function call."""
    await stack.connect_test()
    tool: FunctionToolParam = {"type": "function", "name": "get_weather", "parameters": dict(_CITY), "strict": True}
    async with _client(stack) as client:
        async with client.responses.stream(model=_MODEL, input="Say this back.") as stream:
            deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            final = await stream.get_final_response()
        assert "".join(deltas) == final.output_text == "Say this back."
        assert (final.status, final.usage and final.usage.output_tokens) == ("completed", 4)
        called = await client.responses.create(model=_MODEL, input="hi", tools=[tool], tool_choice="required")
        [item] = called.output
        assert item.type == "function_call"
        assert json.loads(item.arguments) == {"city": "text"}


async def test_embeddings_and_completions_answer(stack: Stack) -> None:
    """Vectors as numbers and as the client's own packed form are equal; completions come whole and in chunks."""
    await stack.connect_test()
    async with _client(stack) as client:
        packed = await client.embeddings.create(model=_MODEL, input=["a", "b"], dimensions=16)
        plain = await client.embeddings.create(model=_MODEL, input=["a", "b"], dimensions=16, encoding_format="float")
        assert [each.embedding for each in packed.data] == [pytest.approx(each.embedding) for each in plain.data]
        assert [len(each.embedding) for each in plain.data] == [16, 16]
        whole = await client.completions.create(model=_MODEL, prompt="Say this back.")
        stream = await client.completions.create(model=_MODEL, prompt="Say this back.", stream=True)
        said = [chunk.choices[0].text async for chunk in stream]
        assert "".join(said) == whole.choices[0].text == "Say this back."


async def test_faults_are_the_clients_own_exceptions(stack: Stack) -> None:
    """A refusal by its status and an error inside a stream, in each dialect that has one."""
    await stack.connect_test()
    async with _client(stack) as client:
        with pytest.raises(openai.RateLimitError):
            await client.responses.create(model="sandbox/error-429", input="hi")
        with pytest.raises(openai.NotFoundError):
            await client.embeddings.create(model="sandbox/error-404", input="hi")
        with pytest.raises(openai.APIError):
            async for _ in await client.completions.create(model="sandbox/stream-error", prompt="hi", stream=True):
                pass
        events = [e async for e in await client.responses.create(model="sandbox/stream-error", input="hi", stream=True)]
        assert [event.type for event in events] == ["error"]


@pytest.mark.parametrize("stream", [True, False])
async def test_messages_answer_in_test_mode(stack: Stack, *, stream: bool) -> None:
    """Anthropic's dialect, settled at nothing like any other."""
    await stack.connect_test()
    body = {"model": _MODEL, "max_tokens": 64, "messages": _QUESTION, "stream": stream}
    answer = await stack.ask("POST", "/v1/messages", document=body, headers=stack.as_user(secret=stack.test_secret))
    assert answer.status == 200
    assert b"message_stop" in answer.body if stream else answer.document["type"] == "message"
    [entry] = await stack.booked(mode="test")
    assert (entry["status"], entry["cost_nano"]) == ("settled", "0")
