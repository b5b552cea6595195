"""A gateway as clients and operators meet it: the real OpenAI client, health, and an end that loses nothing."""

import asyncio
import json

import aiohttp
import httpx2
import openai
import pytest

from tests.fakes import COST_NANO, EVENT_STREAM, MODEL, STREAMED, Exchange, FakeOpenRouter, refuses
from tests.gateway.process import environment, gateway_process
from tests.gateway.stack import PATIENCE_SECONDS, Stack, question

_MESSAGES = [openai.types.chat.ChatCompletionUserMessageParam(role="user", content="Say hello.")]


def _client(stack: Stack, user: str = "ada", *, secret: str | None = None) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{stack.url}/v1",
        api_key=secret or stack.secret,
        default_headers={"x-wattfare-user": user},
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    )


async def test_the_openai_client_streams_and_reads_whole(stack: Stack) -> None:
    """Base URL and header changed, nothing else."""
    async with _client(stack) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=_MESSAGES, stream=True)
        said = [chunk.choices[0].delta.content async for chunk in stream]
        assert "".join(part or "" for part in said) == "Hello"
        whole = await client.chat.completions.create(model=MODEL, messages=_MESSAGES)
        assert whole.choices[0].message.content == "Hello"
        listed = [model.id async for model in client.models.list()]
    assert listed == [MODEL, "acme/router"]
    entries = await stack.booked(count=2)
    assert [int(entry["cost_nano"]) for entry in entries] == [COST_NANO, COST_NANO]


async def test_the_synchronous_openai_client_works_too(stack: Stack) -> None:
    """The README's snippet, in a thread beside the gateway."""

    def ask() -> str:
        with openai.OpenAI(
            base_url=f"{stack.url}/api/v1",
            api_key=stack.secret,
            default_headers={"x-wattfare-user": "ada"},
            http_client=openai.DefaultHttpxClient(trust_env=False),
        ) as client:
            stream = client.chat.completions.create(model=MODEL, messages=_MESSAGES, stream=True)
            return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert await asyncio.to_thread(ask) == "Hello"


async def test_errors_are_the_openai_clients_own(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Each status is its exception, with our code and type on it."""
    async with _client(stack, secret="sk_live_x_y") as stranger:
        with pytest.raises(openai.AuthenticationError) as auth:
            await stranger.chat.completions.create(model=MODEL, messages=_MESSAGES)
    assert (auth.value.code, auth.value.type) == ("auth", "authentication_error")
    async with _client(stack, "nobody") as unconnected:
        with pytest.raises(openai.APIStatusError) as refused:
            await unconnected.chat.completions.create(model=MODEL, messages=_MESSAGES)
    assert (refused.value.status_code, refused.value.code) == (402, "not_connected")
    async with _client(stack) as client:
        with pytest.raises(openai.UnprocessableEntityError):
            await client.chat.completions.create(model=MODEL, messages=_MESSAGES, max_tokens=-1)
        with pytest.raises(openai.NotFoundError):
            await client.files.list()
        openrouter.play = refuses(429, {"code": 429, "message": "slow down"}, {"Retry-After": "9"})
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(model=MODEL, messages=_MESSAGES)
        assert limited.value.response.headers["Retry-After"] == "9"
        openrouter.play = refuses(503, {"code": 503, "message": "no provider"})
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model=MODEL, messages=_MESSAGES)


async def test_a_stream_that_upstream_cuts_is_an_error_for_the_client(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Half an answer never looks whole."""

    async def cut(turn: Exchange) -> None:
        await turn.head()
        await turn.send(STREAMED[:200])

    openrouter.play = cut
    async with _client(stack) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=_MESSAGES, stream=True)
        with pytest.raises((httpx2.RemoteProtocolError, openai.APIError)):
            async for _ in stream:
                pass


async def test_sigterm_lets_a_stream_finish_settles_it_and_exits_0(
    redis_url: str, stack: Stack, openrouter: FakeOpenRouter
) -> None:
    """Meanwhile no new connection is accepted."""
    go_on = asyncio.Event()

    async def long(turn: Exchange) -> None:
        await turn.head(headers={**EVENT_STREAM, "X-Generation-Id": "gen-1-fake"})
        await turn.send(STREAMED[:27])
        await go_on.wait()
        await turn.send(STREAMED[27:])
        await turn.end()

    openrouter.play = long
    async with (
        gateway_process(environment(redis_url, openrouter.url)) as gateway,
        aiohttp.ClientSession() as session,
        asyncio.timeout(2 * PATIENCE_SECONDS),
    ):
        async with session.post(
            f"{gateway.url}/v1/chat/completions", json=question(stream=True), headers=stack.as_user()
        ) as answer:
            assert await answer.content.readexactly(27) == STREAMED[:27]
            gateway.process.terminate()
            draining = await gateway.until("draining")
            assert draining["open_requests"] == 1
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(f"{gateway.url}/healthz")
            go_on.set()
            assert await answer.read() == STREAMED[27:]
        code, errors = await gateway.ended()
    assert (code, errors) == (0, "")
    assert json.loads(gateway.lines[-1])["event"] == "stopped"
    [entry] = await stack.booked()
    assert (entry["status"], int(entry["cost_nano"]), entry["ended_by"]) == ("settled", COST_NANO, "complete")


async def test_a_stream_longer_than_the_drain_is_cut_and_settled(
    redis_url: str, stack: Stack, openrouter: FakeOpenRouter
) -> None:
    """The process exits 0 and leaves the id in the hold, so that the next sweeper can look the cost up."""

    async def endless(turn: Exchange) -> None:
        await turn.head(headers={**EVENT_STREAM, "X-Generation-Id": "gen-1-fake"})
        await turn.send(STREAMED[:27])
        await turn.until_closed()

    openrouter.play = endless
    openrouter.generations["gen-1-fake"] = {"id": "gen-1-fake", "total_cost": 0.0006}
    variables = environment(redis_url, openrouter.url, WATTFARE_DRAIN_SECONDS="0.2")
    async with (
        gateway_process(variables) as gateway,
        aiohttp.ClientSession() as session,
        session.post(
            f"{gateway.url}/v1/chat/completions", json=question(stream=True), headers=stack.as_user()
        ) as answer,
    ):
        await answer.content.readexactly(27)
        assert (await gateway.end())[0] == 0
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    # The ending process may have claimed the hold; the test makes it due instead of waiting for the claim's end.
    for request_id in await stack.redis.zrange(stack.budget().due, 0, -1):
        assert isinstance(request_id, bytes)
        await stack.redis.zadd(stack.budget().due, {request_id: 0})
    await stack.gateway.sweeper.sweep(stack.budget())
    [entry] = await stack.booked()
    assert (entry["cost_nano"], entry["ended_by"]) == ("600000", "client")
    assert (await stack.standing()).held_nano == 0
