"""An OpenRouter that sends the bytes a test defines, and records the requests."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

MODEL = "acme/large"
"""Listed at 0.000001 USD a prompt token and 0.000002 USD a completion token."""

EVENT_STREAM = {"Content-Type": "text/event-stream"}
COST_NANO = 1_500_000
"""What the answer of `whole_answer` states: 0.0015 USD."""

STREAMED = (
    b": OPENROUTER PROCESSING\n\n"
    b'data: {"id":"gen-1-fake","object":"chat.completion.chunk","created":1,"model":"acme/large",'
    b'"choices":[{"index":0,"delta":{"role":"assistant","content":"Hello"},"finish_reason":null}]}\n\n'
    b'data: {"id":"gen-1-fake","object":"chat.completion.chunk","created":1,"model":"acme/large",'
    b'"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"cost":0.0015}}\n\n'
    b"data: [DONE]\n\n"
)
PLAIN = (
    b'\n\n{"id":"gen-1-fake","object":"chat.completion","created":1,"model":"acme/large","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"cost":1.5e-3}}'
)


@dataclass(frozen=True, slots=True)
class Received:
    """One request as received; header names keep their case."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The only value of a header, None without one."""
        found = [value for known, value in self.headers if known.lower() == name.lower()]
        assert len(found) <= 1
        return found[0] if found else None

    @property
    def names(self) -> set[str]:
        """The header names in lower case."""
        return {name.lower() for name, _ in self.headers}


@dataclass(slots=True)
class Exchange:
    """One request and the connection on which a test answers it."""

    request: Received
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sent_bytes: int = 0
    ended: bool = False

    async def head(self, status: int = 200, headers: Mapping[str, str] = EVENT_STREAM, *, raw: bytes = b"") -> None:
        """Send the status line and headers; the body is chunked unless a length is given."""
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
        if "Content-Length" not in headers:
            lines.append("Transfer-Encoding: chunked")
        self.writer.write("\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n" + raw + b"\r\n")
        await self.writer.drain()

    async def send(self, chunk: bytes) -> None:
        """Send one transport chunk; return when the connection accepts more."""
        self.writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        await self.writer.drain()
        self.sent_bytes += len(chunk)

    async def end(self) -> None:
        """End the body in order."""
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()
        self.ended = True

    async def refuse(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Answer with a whole JSON body."""
        given = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        await self.head(status, given)
        self.writer.write(body)
        await self.writer.drain()
        self.ended = True

    async def until_closed(self) -> None:
        """Wait until the other side has hung up."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Play = Callable[[Exchange], Awaitable[None]]


async def whole_answer(turn: Exchange) -> None:
    """Answer as OpenRouter does when all is well."""
    streamed = json.loads(turn.request.body).get("stream") is True
    content_type = "text/event-stream" if streamed else "application/json"
    await turn.head(200, {"Content-Type": content_type, "X-Generation-Id": "gen-1-fake"})
    await turn.send(STREAMED if streamed else PLAIN)
    await turn.end()


def streams(chunks: list[bytes], headers: Mapping[str, str] = EVENT_STREAM) -> Play:
    """A play that sends these chunks and ends in order."""

    async def play(turn: Exchange) -> None:
        await turn.head(200, headers)
        for chunk in chunks:
            await turn.send(chunk)
        await turn.end()

    return play


def refuses(status: int, error: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Play:
    """A play that refuses with this error object."""

    async def play(turn: Exchange) -> None:
        await turn.refuse(status, json.dumps({"error": error, "user_id": "user_2abcDEF9"}).encode(), headers)

    return play


def _listed(model: str, prompt: str, completion: str) -> dict[str, object]:
    return {
        "id": model,
        "canonical_slug": model,
        "context_length": 128_000,
        "top_provider": {"context_length": 128_000, "max_completion_tokens": 16_000},
        "pricing": {"prompt": prompt, "completion": completion},
    }


@dataclass
class FakeOpenRouter:
    """`play` answers every POST; `/models` lists MODEL; `generations` holds what `/generation` states, by id."""

    play: Play = whole_answer
    received: list[Received] = field(default_factory=list)
    generations: dict[str, dict[str, object]] = field(default_factory=dict)
    port: int = 0
    lookups: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    coding: tuple[str, Callable[[bytes], bytes]] | None = None
    """How what is asked for by GET is encoded, though nobody said that it may be."""

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> Received:
        """The newest metered request."""
        return self.received[-1]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["FakeOpenRouter"]:
        """Listen on a free loopback port until the block ends."""
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in tuple(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection may be reused."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("utf-8", "surrogateescape")
        first, *lines = head[:-4].split("\r\n")
        method, target, _ = first.split(" ")
        headers = tuple((name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines))
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        turn = Exchange(Received(method, target, headers, await reader.readexactly(length)), reader, writer)
        if method == "GET":
            await self._look_up(turn)
            return True
        self.received.append(turn.request)
        await self.play(turn)
        return turn.ended

    async def _look_up(self, turn: Exchange) -> None:
        self.asked.append(turn.request.target)
        parts = urlsplit(turn.request.target)
        if parts.path == "/api/v1/models":
            listed = [_listed(MODEL, "0.000001", "0.000002"), _listed("acme/router", "-1", "-1")]
            await self._say(turn, 200, {"data": listed})
            return
        generation_id = parse_qs(parts.query).get("id", [""])[0]
        self.lookups.append(generation_id)
        stated = self.generations.get(generation_id)
        status, document = (404, {"error": {"code": 404, "message": "not found"}})
        if stated is not None:
            status, document = 200, {"data": stated}
        await self._say(turn, status, document)

    async def _say(self, turn: Exchange, status: int, document: object) -> None:
        coding, encode = self.coding or ("identity", bytes)
        await turn.refuse(status, encode(json.dumps(document).encode()), {"Content-Encoding": coding})
