"""After the caller is gone, upstream is read until its cost or id is known, and then closed."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import ClientError

from gateway.openrouter.connection import UpstreamConnection
from tests.fakes import EVENT_STREAM, Exchange, FakeOpenRouter
from tests.faults.openrouter import ask_raw
from tests.gateway.stack import (
    PATIENCE_SECONDS,
    Stack,
    close_app,
    open_stack,
    pause,
    question,
    revoke,
    settings_for,
)

pytestmark = pytest.mark.each_store


@pytest.mark.parametrize("end", [revoke, pause, close_app])
async def test_who_is_revoked_before_the_headers_pays_what_it_cost(
    stack: Stack, openrouter: FakeOpenRouter, end: Callable[[Stack], Awaitable[None]]
) -> None:
    """The caller gets the error at once; upstream is read until its headers state the id for the look-up."""
    started, may_answer, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def play(turn: Exchange) -> None:
        started.set()
        await may_answer.wait()
        await turn.head(200, {**EVENT_STREAM, "X-Generation-Id": "gen-1-fake"})
        await turn.until_closed()
        gone.set()

    openrouter.play = play
    openrouter.generations["gen-1-fake"] = {"id": "gen-1-fake", "total_cost": 0.0004}
    async with asyncio.timeout(PATIENCE_SECONDS):
        answering = asyncio.create_task(stack.chat(question(stream=True)))
        await started.wait()
        await end(stack)
        assert (await answering).refusal == (402, "not_connected")
        may_answer.set()
        await gone.wait()
    [entry] = await stack.booked()
    assert (entry["status"], entry["cost_nano"], entry["ended_by"]) == ("settled", "400000", "revoked")


async def test_a_process_that_stops_lets_an_answer_tell_its_id(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """A request without response headers is waited for a moment longer, and its actual cost is booked."""
    started, may_answer = asyncio.Event(), asyncio.Event()

    async def play(turn: Exchange) -> None:
        started.set()
        await may_answer.wait()
        await turn.head(200, {**EVENT_STREAM, "X-Generation-Id": "gen-1-fake"})
        await turn.until_closed()

    openrouter.play = play
    openrouter.generations["gen-1-fake"] = {"id": "gen-1-fake", "total_cost": 0.0004}
    async with asyncio.timeout(PATIENCE_SECONDS):
        answering = asyncio.create_task(stack.chat(question(stream=True)))
        await started.wait()
        ending = asyncio.create_task(stack.gateway.inflight.end())
        may_answer.set()
        await ending
        await asyncio.gather(answering, return_exceptions=True)
    [entry] = await stack.booked()
    assert (entry["status"], entry["cost_nano"], entry["ended_by"]) == ("settled", "400000", "client")


async def test_a_caller_who_takes_nothing_is_let_go(redis_url: str, openrouter: FakeOpenRouter) -> None:
    """A caller that stops reading does not hold budget for ever: upstream is closed, the actual cost is booked."""
    gone = asyncio.Event()

    async def play(turn: Exchange) -> None:
        await turn.head(200, {**EVENT_STREAM, "X-Generation-Id": "gen-1-fake"})
        flood = b"data: " + b"x" * 65_000 + b"\n\n"
        try:
            while True:
                await turn.send(flood)
        finally:
            gone.set()

    openrouter.play = play
    openrouter.generations["gen-1-fake"] = {"id": "gen-1-fake", "total_cost": 0.0004}
    async with open_stack(settings_for(redis_url, openrouter.url, WATTFARE_CALLER_SILENCE_SECONDS="0.3")) as stack:
        await stack.connect()
        answer = await ask_raw(stack.port, stack.as_user(), question(stream=True))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await answer.read_head()
            await gone.wait()
        [entry] = await stack.booked()
        await answer.hang_up()
    assert (entry["status"], entry["cost_nano"], entry["ended_by"]) == ("settled", "400000", "client")


@pytest.mark.parametrize("stream", [True, False])
async def test_who_leaves_in_the_midst_of_an_answer_without_an_id_pays_what_it_cost(
    stack: Stack, openrouter: FakeOpenRouter, stream: bool
) -> None:
    """A failed write does not end an upstream answer whose id or cost is still to come (embeddings: at the end)."""
    is_alone = asyncio.Event()

    async def play(turn: Exchange) -> None:
        await turn.head(200, EVENT_STREAM if stream else {"Content-Type": "application/json"})
        await turn.send(b": wait\n\n" if stream else b'{"object":"list","data":[')
        await is_alone.wait()
        for _ in range(20):
            await turn.send(b": wait\n\n" if stream else b"0.5,")
        usage = b'"usage":{"prompt_tokens":7,"cost":0.0004},"id":"gen-1-fake"}'
        await turn.send(b"data: {" + usage + b"\n\n" if stream else b"0.5]," + usage)
        await turn.end()

    openrouter.play = play
    answer = await ask_raw(stack.port, stack.as_user(), question(stream=stream))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await answer.read_head()
        await answer.read(1)
        await answer.hang_up()
        while not [request for request in stack.gateway.inflight if request.gone]:
            await asyncio.sleep(0)
        is_alone.set()
    [entry] = await stack.booked()
    assert (entry["status"], entry["cost_nano"], entry["ended_by"]) == ("settled", "400000", "client")
    assert openrouter.lookups == []


@dataclass
class _SlowReader(FakeOpenRouter):
    """A server that reads a request's head at once, and its body only when released."""

    began: asyncio.Event = field(default_factory=asyncio.Event)
    may_read: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    got_bytes: int = 0

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 404 None\r\nContent-Length: 0\r\n\r\n")
            return True
        self.began.set()
        await self.may_read.wait()
        while piece := await reader.read(65536):
            self.got_bytes += len(piece)
        self.ended.set()
        return False


@pytest.mark.parametrize("stream", [True, False])
async def test_a_body_that_is_still_on_its_way_when_it_is_cut_never_comes_whole(redis_url: str, stream: bool) -> None:
    """OpenRouter starts when it has the whole body: a revocation before that ends the request without cost."""
    body = question(stream=stream, text="x" * 9_000_000, max_tokens=16)
    openrouter = _SlowReader()
    async with openrouter.running(), open_stack(settings_for(redis_url, openrouter.url)) as stack:
        await stack.connect()
        async with asyncio.timeout(PATIENCE_SECONDS):
            answering = asyncio.create_task(stack.chat(body))
            await openrouter.began.wait()
            await revoke(stack)
            assert (await answering).refusal == (402, "not_connected")
            openrouter.may_read.set()
            await openrouter.ended.wait()
        assert openrouter.got_bytes < 9_000_000
        assert [entry["status"] for entry in await stack.entries()] == ["void"]
        assert (await stack.standing()).held_nano == 0


@pytest.mark.parametrize("why", ["client", "revoked"])
async def test_who_leaves_in_the_turn_a_whole_refusal_came_pays_what_it_states(
    stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Its body is read for a cost before anything ends the request."""
    receive = UpstreamConnection.data_received

    def receive_and_lose(self: UpstreamConnection, data: bytes) -> None:
        receive(self, data)
        for request in stack.gateway.inflight:
            if self.is_ended:
                request.cut() if why == "revoked" else request.hang_up()

    monkeypatch.setattr(UpstreamConnection, "data_received", receive_and_lose)
    body = b'{"error":{"code":502,"message":"cut"},"usage":{"cost":0.0015}}'

    async def refuse(turn: Exchange) -> None:
        turn.writer.write(b"HTTP/1.1 502 Bad\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    openrouter.play = refuse
    with contextlib.suppress(ClientError):
        await stack.chat()
    assert [(entry["status"], entry["cost_nano"]) for entry in await stack.entries()] == [("settled", "1500000")]


async def test_who_leaves_in_the_turn_an_early_answer_began_pays_what_it_cost(
    stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its head may come before the last byte of the request was sent."""
    receive = UpstreamConnection.data_received

    def receive_and_lose(self: UpstreamConnection, data: bytes) -> None:
        receive(self, data)
        for request in stack.gateway.inflight:
            request.hang_up()

    # Its last byte is never recorded as sent.
    monkeypatch.setattr(UpstreamConnection, "_send_rest", lambda _: None)
    monkeypatch.setattr(UpstreamConnection, "data_received", receive_and_lose)
    openrouter.generations["gen-1-fake"] = {"id": "gen-1-fake", "total_cost": 0.0004}

    async def play(turn: Exchange) -> None:
        await turn.head(200, {**EVENT_STREAM, "X-Generation-Id": "gen-1-fake"})
        await turn.until_closed()

    openrouter.play = play
    with contextlib.suppress(ClientError):
        await stack.chat(question(stream=True))
    assert [(entry["status"], entry["cost_nano"]) for entry in await stack.booked()] == [("settled", "400000")]


@pytest.mark.parametrize("why", ["client", "revoked"])
async def test_who_leaves_in_the_middle_of_a_refusal_pays_what_it_states(
    stack: Stack, openrouter: FakeOpenRouter, why: str
) -> None:
    """Its rest is waited for; a caller that was revoked has its answer before."""
    is_alone = asyncio.Event()
    body = b'{"error":{"code":502,"message":"cut"},"usage":{"cost":0.0015}}'

    async def refuse(turn: Exchange) -> None:
        await turn.head(502, {"Content-Length": str(len(body))})
        turn.writer.write(body[:20])
        await is_alone.wait()
        turn.writer.write(body[20:])

    openrouter.play = refuse
    answer = await ask_raw(stack.port, stack.as_user(), question())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not [request for request in stack.gateway.inflight if request.opened_at is not None]:
            await asyncio.sleep(0)
        if why == "revoked":
            await revoke(stack)
            await answer.read_head()
            assert answer.status == 402
        await answer.hang_up()
        while not [request for request in stack.gateway.inflight if request.gone]:
            await asyncio.sleep(0)
        is_alone.set()
    [entry] = await stack.entries()
    assert (entry["status"], entry["cost_nano"], entry["ended_by"]) == ("settled", "1500000", why)
