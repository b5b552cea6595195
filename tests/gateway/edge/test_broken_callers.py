"""Callers that stop midway, on both servers: each connection is closed in time, and no hold stays open."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from consent_web import guard
from consent_web import server as consent_server
from gateway import protocol
from gateway.call import CallerConnection
from gateway.metered.body import ChatRequest
from gateway.openrouter.dialects import Dialect
from gateway.settings import Settings
from tests.fakes import EVENT_STREAM, Exchange, FakeOpenRouter
from tests.gateway.openrouter.peers import until_closed
from tests.gateway.stack import PATIENCE_SECONDS, Stack, open_stack, question, settings_for

_EVENT = b'data: {"id":"gen-1-fake","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'


@contextlib.asynccontextmanager
async def a_caller(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection to a server of ours."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def head_of(stack: Stack, *more: str) -> bytes:
    """The head of a metered request."""
    own = [f"{name}: {value}" for name, value in stack.as_user().items()]
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: x", "Content-Type: application/json", *own, *more, "", ""]
    return "\r\n".join(lines).encode()


async def trickle(writer: asyncio.StreamWriter) -> None:
    """Send a head that never ends, a byte at a time."""
    with contextlib.suppress(ConnectionError):
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("when", ["before the answer", "inside the answer"])
async def test_a_caller_who_half_closes_has_hung_up(stack: Stack, openrouter: FakeOpenRouter, when: str) -> None:
    """A half-close counts as a disconnect, as in nginx: upstream and caller are closed, the cost is looked up."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def endless(turn: Exchange) -> None:
        asked.set()
        await turn.head(headers={**EVENT_STREAM, "X-Generation-Id": "gen-1-fake"})
        await turn.send(_EVENT)
        await turn.until_closed()
        gone.set()

    openrouter.play = endless
    openrouter.generations["gen-1-fake"] = {"id": "gen-1-fake", "total_cost": 0.0007}
    body = json.dumps(question(stream=True)).encode()
    async with a_caller(stack.port) as (reader, writer):
        writer.write(head_of(stack, f"Content-Length: {len(body)}") + body)
        if when == "inside the answer":
            await reader.readuntil(_EVENT)
        else:
            await asked.wait()
        writer.write_eof()
        assert not (await reader.read()).endswith(b"0\r\n\r\n")
        await gone.wait()
    [entry] = await stack.booked()
    assert (entry["status"], entry["cost_nano"], entry["ended_by"]) == ("settled", "700000", "client")
    assert (await stack.standing()).held_nano == 0


@pytest.fixture
async def hasty(redis_url: str, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    """A gateway that waits for no caller longer than 0.3 s."""
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 0.1)
    monkeypatch.setattr(protocol, "KEEPALIVE_SECONDS", 0.3)
    quick = settings_for(redis_url, openrouter.url, WATTFARE_CALLER_SILENCE_SECONDS="0.3")
    async with open_stack(quick) as stack:
        await stack.connect()
        yield stack


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
async def test_a_body_that_stands_still_is_408(hasty: Stack, openrouter: FakeOpenRouter, framing: str) -> None:
    """No hold is placed and nothing is sent upstream; the connection is closed."""
    async with a_caller(hasty.port) as (reader, writer):
        writer.write(head_of(hasty, framing) + (b'9\r\n{"model":\r\n' if "chunked" in framing else b'{"model":'))
        answer = await reader.read()
    head, _, document = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(document)["error"]["code"] == "invalid_request"
    assert openrouter.received == []
    assert await hasty.nothing_is_lost()


async def test_a_body_that_is_slow_but_comes_is_waited_for(hasty: Stack) -> None:
    """The timeout is between two reads; the total time of a body is not limited."""
    body = json.dumps(question()).encode()
    async with a_caller(hasty.port) as (reader, writer):
        writer.write(head_of(hasty, f"Content-Length: {len(body)}"))
        for at in range(0, len(body), 20):
            await asyncio.sleep(0.1)
            writer.write(body[at : at + 20])
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("coding", ["identity, chunked", "gzip, chunked", "identity", "chunked, chunked"])
async def test_another_transfer_coding_is_refused(stack: Stack, openrouter: FakeOpenRouter, coding: str) -> None:
    """Any coding but exactly `chunked` is refused, as another parser may frame such a request differently."""
    body = json.dumps(question()).encode()
    head = head_of(stack, f"Transfer-Encoding: {coding}", "Connection: close")
    status, _, document = await stack.raw(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    assert (status, json.loads(document)["error"]["code"]) == (400, "invalid_request")
    assert openrouter.received == []
    assert await stack.nothing_is_lost()


async def test_a_head_that_trickles_is_not_waited_for(hasty: Stack) -> None:
    """The head has a total deadline, which steadily arriving bytes do not extend."""
    async with a_caller(hasty.port) as (reader, writer):
        sending = asyncio.get_running_loop().create_task(trickle(writer))
        began = time.monotonic()
        await until_closed(reader)
        assert time.monotonic() - began < PATIENCE_SECONDS / 2
        sending.cancel()


@pytest.fixture
async def consent_port(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A consent site that waits for no browser longer than 0.3 s; yields its port."""
    monkeypatch.setattr(protocol, "KEEPALIVE_SECONDS", 0.3)
    monkeypatch.setattr(guard, "_BODY_SECONDS", 0.3)
    environ = {"REDIS_URL": redis_url, "WATTFARE_DATA_DIR": str(tmp_path), "WATTFARE_REDIS_DEADLINE_MS": "2000"}
    async with consent_server.open_site(Settings.load(environ, default_port=8081)) as site:
        runner = consent_server.make_runner(consent_server.create_app(site), drain_seconds=0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


async def test_the_consent_site_does_not_wait_for_a_head_that_trickles(consent_port: int) -> None:
    """As the gateway."""
    async with a_caller(consent_port) as (reader, writer):
        sending = asyncio.get_running_loop().create_task(trickle(writer))
        began = time.monotonic()
        await until_closed(reader)
        assert time.monotonic() - began < PATIENCE_SECONDS / 2
        sending.cancel()


@pytest.mark.parametrize(
    ("framing", "status"),
    [("Content-Length: 1000", 408), ("Transfer-Encoding: chunked", 408), ("Transfer-Encoding: identity, chunked", 400)],
)
async def test_the_consent_site_does_not_wait_for_a_body_either(consent_port: int, framing: str, status: int) -> None:
    """The consent site has the same body timeout and refuses the same transfer codings."""
    lines = [
        "POST /consent/attempts HTTP/1.1",
        "Host: x",
        "Sec-Fetch-Site: same-origin",
        f"Cookie: {guard.BROWSER_COOKIE}={'b' * 43}",
        "Content-Type: application/json",
        framing,
    ]
    async with a_caller(consent_port) as (reader, writer):
        writer.write("\r\n".join([*lines, "", ""]).encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 %d " % status)


_SMUGGLED = (
    "a=1%20HTTP/1.1%0D%0AHost:%20x%0D%0A%0D%0APOST%20/api/v1/chat/completions%20HTTP/1.1%0D%0A"
    "Authorization:%20Bearer%20mine%0D%0AContent-Length:%20400%0D%0A%0D%0A"
)


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        (_SMUGGLED, _SMUGGLED),
        ("a=%00&b=%0a", "a=%00&b=%0a"),
        ("category=code&x=a+b%20c", "category=code&x=a+b%20c"),
        ('q="<>{}|^`', "q=%22%3C%3E%7B%7D%7C%5E%60"),
    ],
)
async def test_a_query_reaches_upstream_as_it_stood_and_asks_one_thing(
    stack: Stack, openrouter: FakeOpenRouter, query: str, asked: str
) -> None:
    """A line break in it is no end of our request line: else the next payer's key would be read as its body."""
    before = len(openrouter.asked)
    async with a_caller(stack.port) as (reader, writer):
        writer.write(f"GET /v1/models?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    assert openrouter.asked[before:] == [f"/api/v1/models?{asked}"]
    assert (await stack.chat()).status == 200
    assert [one.target for one in openrouter.received] == ["/api/v1/chat/completions"]


async def test_who_hangs_up_while_a_large_body_is_read_is_not_carried(
    stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large body is parsed in a thread; a caller that has disconnected by then causes no request upstream."""
    begun, gone = threading.Event(), threading.Event()
    parse, connection_lost, lost = ChatRequest.parse, CallerConnection.connection_lost, asyncio.Event()

    def late(body: bytes, dialect: Dialect) -> ChatRequest:
        begun.set()
        gone.wait(PATIENCE_SECONDS)
        return parse(body, dialect)

    def noted(self: CallerConnection, exc: BaseException | None) -> None:
        connection_lost(self, exc)
        lost.set()

    monkeypatch.setattr(ChatRequest, "parse", staticmethod(late))
    monkeypatch.setattr(CallerConnection, "connection_lost", noted)
    body = json.dumps(question(text="x" * 100_000)).encode()
    async with a_caller(stack.port) as (_, writer):
        writer.write(head_of(stack, f"Content-Length: {len(body)}") + body)
        await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
    with capture_logs() as lines:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await lost.wait()
            gone.set()
            while not lines:
                await asyncio.sleep(0.01)
    assert [line["status"] for line in lines] == [499]
    assert openrouter.received == []
    assert await stack.entries() == []
