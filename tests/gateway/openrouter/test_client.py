"""The path to OpenRouter and back: no buffering, bounded memory, and one error for each failure."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import pytest

from gateway.errors import UpstreamError
from gateway.openrouter.client import Client, Document, Timeouts
from tests.fakes import EVENT_STREAM, STREAMED, Exchange, FakeOpenRouter, refuses, streams
from tests.gateway.openrouter.peers import a_client, a_peer, a_request
from tests.gateway.stack import PATIENCE_SECONDS, Stack, open_stack, question, settings_for

_EVENT = b'data: {"id":"gen-1-fake","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'


@contextlib.asynccontextmanager
async def _slow_reader(stack: Stack) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client with a small receive buffer that has requested a stream and reads only on command."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (stack.host, stack.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=16 * 1024)
    try:
        body = json.dumps(question(stream=True)).encode()
        lines = [f"{name}: {value}" for name, value in stack.as_user().items()]
        head = ["POST /v1/chat/completions HTTP/1.1", "Host: x", "Content-Type: application/json", *lines]
        writer.write("\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body)
        await writer.drain()
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_each_chunk_reaches_the_caller_before_the_next_is_sent(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """The server sends a chunk only after the caller has the one before: any buffering would be a deadlock."""
    arrived = asyncio.Semaphore(0)
    chunks = [b": OPENROUTER PROCESSING\n\n", b"data: {", *(_EVENT % b"x" for _ in range(5)), STREAMED]

    async def one_by_one(turn: Exchange) -> None:
        await turn.head()
        for chunk in chunks:
            await turn.send(chunk)
            await arrived.acquire()
        await turn.end()

    openrouter.play = one_by_one
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        stack.session.post(
            f"{stack.url}/v1/chat/completions", json=question(stream=True), headers=stack.as_user()
        ) as answer,
    ):
        for chunk in chunks:
            assert await answer.content.readexactly(len(chunk)) == chunk
            arrived.release()
        assert await answer.read() == b""


async def test_headers_reach_the_caller_before_the_first_byte_of_the_body(
    stack: Stack, openrouter: FakeOpenRouter
) -> None:
    """A client gets the status while the model has not produced output yet."""
    seen = asyncio.Event()

    async def late(turn: Exchange) -> None:
        await turn.head()
        await seen.wait()
        await turn.send(STREAMED)
        await turn.end()

    openrouter.play = late
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        stack.session.post(
            f"{stack.url}/v1/chat/completions", json=question(stream=True), headers=stack.as_user()
        ) as answer,
    ):
        seen.set()
        assert await answer.read() == STREAMED


async def test_a_slow_client_stops_the_upstream_instead_of_filling_memory(
    stack: Stack, openrouter: FakeOpenRouter
) -> None:
    """Of 200 MB, upstream can push no more than buffers of a few MB hold while the client does not read."""
    chunk = _EVENT % (b"x" * 65_000)
    stalled: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    turns: list[Exchange] = []

    async def flood(turn: Exchange) -> None:
        turns.append(turn)
        await turn.head()
        while turn.sent_bytes < 200 * 2**20:
            # A write that is not taken within half a second is not taken at all: the client reads nothing meanwhile.
            try:
                async with asyncio.timeout(0.5):
                    await turn.send(chunk)
            except TimeoutError:
                break
        stalled.set_result(turn.sent_bytes)
        await turn.until_closed()

    openrouter.play = flood
    async with _slow_reader(stack) as (reader, _):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await stalled < 16 * 2**20
    # The client is gone: the delivered part is settled, and no hold stays open.
    await stack.quiet()
    assert turns[0].sent_bytes < 16 * 2**20


async def test_a_caller_who_hangs_up_stops_the_upstream(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """The connection to OpenRouter is closed at once, which stops the billing at most providers."""
    gone = asyncio.Event()

    async def endless(turn: Exchange) -> None:
        await turn.head(headers={**EVENT_STREAM, "X-Generation-Id": "gen-1-fake"})
        await turn.send(_EVENT % b"x")
        await turn.until_closed()
        gone.set()

    openrouter.play = endless
    openrouter.generations["gen-1-fake"] = {"id": "gen-1-fake", "total_cost": 0.0007, "native_tokens_prompt": 4}
    async with _slow_reader(stack) as (reader, _):
        await reader.readuntil(b"gen-1-fake")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await gone.wait()
    [entry] = await stack.booked()
    assert (entry["status"], entry["cost_nano"], entry["ended_by"]) == ("settled", "700000", "client")
    assert (await stack.standing()).held_nano == 0


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_an_upstream_that_breaks_off_is_no_clean_end(stack: Stack, openrouter: FakeOpenRouter, how: str) -> None:
    """What had arrived reaches the caller, then the connection ends inside the body."""
    arrived = asyncio.Event()

    async def broken(turn: Exchange) -> None:
        await turn.head(headers={**EVENT_STREAM, "X-Generation-Id": "gen-1-fake"})
        await turn.send(_EVENT % b"half")
        if how == "abort":
            await arrived.wait()
            turn.writer.transport.abort()

    openrouter.play = broken
    openrouter.generations["gen-1-fake"] = {"id": "gen-1-fake", "total_cost": 0.0003}
    async with _slow_reader(stack) as (reader, _), asyncio.timeout(PATIENCE_SECONDS):
        got = await reader.readuntil(_EVENT % b"half")
        arrived.set()
        got += await reader.read()
    assert got.startswith(b"HTTP/1.1 200")
    assert b"\r\n0\r\n" not in got
    [entry] = await stack.booked()
    assert (entry["status"], entry["cost_nano"], entry["ended_by"]) == ("settled", "300000", "upstream")


async def test_an_upstream_that_hangs_up_before_it_answers_is_502(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Whether work was done is not known: an estimate is booked, and no hold stays open."""

    async def nothing(turn: Exchange) -> None:
        """Return: the connection is closed."""

    openrouter.play = nothing
    assert (await stack.chat()).refusal == (502, "upstream")
    [entry] = await stack.booked()
    assert entry["status"] == "estimated"
    assert (await stack.standing()).held_nano == 0


async def test_nobody_at_upstreams_address_is_502_and_costs_nothing(redis_url: str) -> None:
    """A request that never left is void."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with open_stack(settings_for(redis_url, url)) as stack:
            await stack.connect()
            assert (await stack.chat()).refusal == (502, "upstream")
            [entry] = await stack.booked()
            assert (entry["status"], entry["cost_nano"]) == ("void", "0")
            assert (await stack.standing()).held_nano == 0


@pytest.mark.parametrize("when", ["before the headers", "inside the body"])
async def test_a_silent_upstream_ends_in_time(redis_url: str, openrouter: FakeOpenRouter, when: str) -> None:
    """504 before the headers; inside the body the connection ends without a clean end."""
    quick = {"WATTFARE_UPSTREAM_FIRST_BYTE_SECONDS": "0.3", "WATTFARE_UPSTREAM_SILENCE_SECONDS": "0.3"}

    async def silent(turn: Exchange) -> None:
        if when == "inside the body":
            await turn.head()
            await turn.send(_EVENT % b"half")
        await turn.until_closed()

    openrouter.play = silent
    openrouter.generations["gen-1-fake"] = {"id": "gen-1-fake", "total_cost": 0.0003}
    async with open_stack(settings_for(redis_url, openrouter.url, **quick)) as stack:
        await stack.connect()
        if when == "before the headers":
            assert (await stack.chat(question(stream=True))).refusal == (504, "upstream")
        else:
            async with _slow_reader(stack) as (reader, _), asyncio.timeout(PATIENCE_SECONDS):
                assert not (await reader.read()).endswith(b"\r\n0\r\n\r\n")
        [entry] = await stack.booked()
        assert (entry["status"], entry["ended_by"]) == (
            ("estimated", "upstream") if when == "before the headers" else ("settled", "upstream")
        )
        assert (await stack.standing()).held_nano == 0


async def test_an_upstream_that_stays_after_done_is_not_waited_for(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """The terminal event ends the answer for the caller within moments, cleanly."""

    async def hanging(turn: Exchange) -> None:
        await turn.head()
        await turn.send(STREAMED)
        await turn.until_closed()

    openrouter.play = hanging
    answer = await stack.chat(question(stream=True))
    assert (answer.status, answer.body) == (200, STREAMED)
    [entry] = await stack.booked()
    assert (entry["status"], entry["ended_by"]) == ("settled", "complete")


async def test_upstream_is_never_followed_elsewhere(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """A redirect is an error, since following it would send the payer's key to another host."""
    openrouter.play = refuses(302, {"message": "moved"}, {"Location": f"{openrouter.url}/api/v1/elsewhere"})
    assert (await stack.chat()).refusal == (502, "upstream")
    assert len(openrouter.received) == 1


async def test_an_answer_is_sent_on_uncompressed_or_as_it_came(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Bytes that upstream compressed although identity was requested are relayed with their header."""
    openrouter.play = streams([b"\x1f\x8bnot really"], {**EVENT_STREAM, "Content-Encoding": "gzip"})
    answer = await stack.chat(question(stream=True))
    assert (answer.body, answer.headers["Content-Encoding"]) == (b"\x1f\x8bnot really", "gzip")


async def test_connections_are_kept_open(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """The second request needs no new handshake; a broken answer's connection is not used again."""
    peers: list[object] = []

    async def remember(turn: Exchange) -> None:
        peers.append(turn.writer.get_extra_info("peername"))
        await streams([STREAMED])(turn)

    openrouter.play = remember
    for _ in range(3):
        assert (await stack.chat(question(stream=True))).status == 200
        await stack.quiet()
    assert len(set(peers)) == 1


async def test_a_document_that_cannot_be_had_is_an_upstream_error() -> None:
    """Look-ups translate every failure of the connection."""
    upstream = Client("http://127.0.0.1:1", Timeouts(1, 1, 1))
    try:
        with pytest.raises(UpstreamError):
            await upstream.fetch("models")
        with pytest.raises(UpstreamError):
            await upstream.generation("gen/../x", "sk-or-v1-x")
    finally:
        await upstream.close()


async def test_a_generation_is_asked_for_with_the_payers_key(openrouter: FakeOpenRouter) -> None:
    """The id is quoted, whatever it holds."""
    openrouter.generations["gen 1&x=y"] = {"total_cost": 1}
    upstream = Client(openrouter.url, Timeouts(1, 1, 1))
    try:
        assert (await upstream.generation("gen 1&x=y", "sk-or-v1-ada")).status == 200
        assert (await upstream.generation("gen-unknown", "sk-or-v1-ada")).status == 404
    finally:
        await upstream.close()


async def test_a_look_up_that_meets_a_closed_connection_is_asked_again() -> None:
    """A read-only request may be sent twice, as a kept connection may be closed by the peer at any time."""
    asked = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await a_request(reader)
        asked += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: Application/JSON; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}")
        await a_request(reader)
        asked += 1

    async with a_peer(once) as port, a_client(port) as client:
        for _ in range(2):
            assert await client.fetch("models") == Document(200, b"{}", "application/json")
    assert asked == 3


async def test_a_document_is_bounded() -> None:
    """An answer of 60 MB is not read whole."""
    written = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await a_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000000\r\n\r\n")
        while written < 60_000_000:
            writer.write(b"x" * 100_000)
            written += 100_000
            await writer.drain()

    async with a_peer(endless) as port, a_client(port) as client:
        with pytest.raises(UpstreamError):
            await client.fetch("models")
    assert written < 40_000_000


async def test_a_small_document_is_posted_once() -> None:
    """On a connection of its own: a code is worth one use."""
    received = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(13))

    async with a_peer(script) as port, a_client(port) as client:
        with pytest.raises(UpstreamError) as broken:
            await client.post_json("auth/keys", {"code": "x"})
        assert broken.value.status == 502
    assert received == [
        f"POST /api/v1/auth/keys HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept-Encoding: identity\r\n"
        'Content-Type: application/json\r\nContent-Length: 13\r\n\r\n{"code": "x"}'.encode()
    ]


async def test_the_head_of_a_request_is_the_callers_headers_and_our_own() -> None:
    """Byte for byte, below the base URL's own path; a line break in a header, and what no URL holds, is refused."""
    client = Client("https://proxy.example:8443/router", Timeouts(1, 1, 1))
    head = client.head("chat/completions", ["X-A: caf\xe9 \udcff\r\n", "x-a: 2\r\n"], "sk-or-v1-ada", 7)
    assert head == (
        b"POST /router/api/v1/chat/completions HTTP/1.1\r\nHost: proxy.example:8443\r\nAccept-Encoding: identity\r\n"
        b"X-A: caf\xc3\xa9 \xff\r\nx-a: 2\r\nContent-Length: 7\r\nAuthorization: Bearer sk-or-v1-ada\r\n\r\n"
    )
    for name, value, key in (("X", "1\r\nY: 2", "k"), ("X\n", "1", "k"), ("X", "1\r", "k"), ("X", "1", "k\r\n\r\n")):
        with pytest.raises(ValueError, match="line break"):
            client.head("chat/completions", [f"{name}: {value}\r\n"], key, 0)
    for path in ("models?a=1 HTTP/1.1\r\nX: ", "a\nb", "a b", "\x00", "caf\xe9", "\udcff"):
        with pytest.raises(ValueError, match="no part of a URL"):
            client.head(path, [], "k", 0)
