"""Pieces in the middle of a stream are relayed where they are received; the handler acts on everything else."""

import asyncio
import contextlib

import pytest

from gateway.metered.inflight import OpenRequest
from tests.fakes import EVENT_STREAM, STREAMED, Exchange, FakeOpenRouter, streams
from tests.gateway.stack import PATIENCE_SECONDS, Stack, question

_WITH_ID = {**EVENT_STREAM, "X-Generation-Id": "gen-1-fake"}
_EVENT = b'data: {"id":"gen-1-fake","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
_PIECES = 30


async def _open(stack: Stack, *, window_bytes: int = 65536) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for a stream, and return the connection behind the head of its answer."""
    reader, writer = await asyncio.open_connection(stack.host, stack.port, limit=window_bytes)
    head = "".join(f"{name}: {value}\r\n" for name, value in stack.as_user().items())
    body = b'{"model":"acme/large","stream":true,"messages":[]}'
    length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{head}{length}".encode() + body)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    return reader, writer


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    """Return the next chunk of the body, b"" at its end."""
    size = int(await reader.readline(), 16)
    return (await reader.readexactly(size + 2))[:-2]


async def test_the_middle_of_a_stream_wakes_no_handler(
    stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty pieces, each sent when the one before has arrived, cost no more waits than the head and the end."""
    arrived: asyncio.Queue[None] = asyncio.Queue()
    waits = 0
    news = OpenRequest.news

    def counted(request: OpenRequest, limit: float) -> "asyncio.Future[None]":
        nonlocal waits
        waits += 1
        return news(request, limit)

    async def play(turn: Exchange) -> None:
        await turn.head(headers=_WITH_ID)
        for number in range(_PIECES):
            await turn.send(_EVENT % b"%d" % number)
            await arrived.get()
        await turn.send(STREAMED)
        await turn.end()

    monkeypatch.setattr(OpenRequest, "news", counted)
    openrouter.play = play
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await _open(stack)
        for number in range(_PIECES):
            assert await _chunk(reader) == _EVENT % b"%d" % number
            arrived.put_nowait(None)
        rest = b""
        while piece := await _chunk(reader):
            rest += piece
    writer.close()
    assert rest == STREAMED
    assert waits <= 5
    [entry] = await stack.booked()
    assert (entry["status"], entry["cost_nano"]) == ("settled", "1500000")


@pytest.mark.parametrize("behind", [b"", b": bye\n\n", b": bye\n\n" * 3000])
async def test_what_follows_the_end_of_a_stream_is_relayed_too(
    stack: Stack, openrouter: FakeOpenRouter, behind: bytes
) -> None:
    """The settlement is posted between the two; no byte is lost and none comes twice."""
    parts = [_EVENT % b"x", *STREAMED.split(b"\n\n")]
    pieces = [part if part.endswith(b"\n\n") else part + b"\n\n" for part in parts if part]
    openrouter.play = streams([*pieces, *([behind] if behind else [])], _WITH_ID)
    for _ in range(10):
        answer = await stack.chat(question(stream=True))
        assert answer.body == b"".join(pieces) + behind


async def test_a_caller_that_pauses_gets_the_rest_when_it_reads_again(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Meanwhile upstream is not read either, so that memory holds no more than buffers of a few MB."""
    event = _EVENT % (b"x" * 65_000)
    stalled: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def flood(turn: Exchange) -> None:
        await turn.head(headers=_WITH_ID)
        while True:
            sending = asyncio.ensure_future(turn.send(event))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await asyncio.shield(sending)
                    continue
            stalled.set_result(turn.sent_bytes)
            await sending
            break
        await turn.send(STREAMED)
        await turn.end()

    openrouter.play = flood
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await _open(stack, window_bytes=1024)
        assert await stalled < 16 * 2**20
        came = bytearray()
        while piece := await _chunk(reader):
            came += piece
    writer.close()
    count, rest = divmod(len(came) - len(STREAMED), len(event))
    assert rest == 0
    assert bytes(came) == event * count + STREAMED
    assert (await stack.booked())[0]["cost_nano"] == "1500000"
