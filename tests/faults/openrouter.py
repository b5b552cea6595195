"""A fake OpenRouter whose requests follow plans: how far each gets, how it ends, its cost, and when that is known."""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from tests.fakes import EVENT_STREAM, Exchange, FakeOpenRouter


@dataclass(slots=True)
class Plan:
    """The plan of one request: `body` is sent up to `stop_at` bytes, then it ends, is cut, or waits for a hang-up.

    `cost_nano`: returned by `/generation` after `late` requests for it.
    """

    body: bytes
    generation_id: str
    cost_nano: int
    stop_at: int | None = None
    then: str = "end"
    late: int = 1
    header: bool = False
    asked: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    went_at: float = 0


@dataclass
class PlannedOpenRouter(FakeOpenRouter):
    """Plays the plan that a request's `metadata.plan` names; without one it answers whole. Notes each arrival."""

    plans: dict[str, Plan] = field(default_factory=dict)
    arrivals: list[tuple[str, float]] = field(default_factory=list)
    """Bearer and monotonic seconds of each metered request."""

    def __post_init__(self) -> None:
        self.play = self._play

    def add(self, plan: Plan) -> Mapping[str, object]:
        """Keep a plan; return the `metadata` that names it in a request."""
        self.plans[plan.generation_id] = plan
        return {"plan": plan.generation_id}

    async def _play(self, turn: Exchange) -> None:
        self.arrivals.append((turn.request.header("Authorization") or "", time.monotonic()))
        document = json.loads(turn.request.body)
        plan = self.plans[document["metadata"]["plan"]]
        try:
            await self._follow(turn, plan)
        finally:
            plan.went_at = time.monotonic()
            plan.gone.set()

    async def _follow(self, turn: Exchange, plan: Plan) -> None:
        headers = dict(EVENT_STREAM)
        if plan.header:
            headers["X-Generation-Id"] = plan.generation_id
        await turn.head(200, headers)
        part = plan.body if plan.stop_at is None else plan.body[: plan.stop_at]
        if part:
            await turn.send(part)
        plan.came.set()
        if plan.then == "wait":
            await turn.until_closed()
        elif plan.then == "end":
            await turn.end()
        # Else cut: the connection is closed inside the body.

    async def _look_up(self, turn: Exchange) -> None:
        generation_id = parse_qs(urlsplit(turn.request.target).query).get("id", [""])[0]
        plan = self.plans.get(generation_id)
        if plan is None:
            await super()._look_up(turn)
            return
        plan.asked += 1
        if plan.asked <= plan.late or not plan.gone.is_set():
            await turn.refuse(404, b'{"error":{"code":404,"message":"Generation not found"}}')
            return
        cost = f"{plan.cost_nano}e-9"
        await turn.refuse(
            200,
            f'{{"data":{{"id":"{generation_id}","model":"acme/large","total_cost":{cost},"is_byok":false,'
            f'"native_tokens_prompt":3,"native_tokens_completion":1}}}}'.encode(),
        )


@dataclass(slots=True)
class RawAnswer:
    """A streamed answer read from a client's own socket, so that the client can leave after any byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    is_whole: bool = False

    async def read_head(self) -> None:
        """Read the status line and the headers."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head[:-4].split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    async def read(self, wanted: int | None = None) -> bytes:
        """Read until `wanted` bytes of the body are here, or until its end. Raises IncompleteReadError when cut."""
        while wanted is None or len(self.body) < wanted:
            size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
            self.body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
            if size == 0:
                self.is_whole = True
                break
        return bytes(self.body)

    async def hang_up(self) -> None:
        """Close the connection."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def ask_raw(port: int, headers: Mapping[str, str], body: Mapping[str, object]) -> RawAnswer:
    """Send one metered call on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(body).encode()
    head = {"Host": "gateway", "Content-Type": "application/json", "Content-Length": str(len(data)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n".encode() + data)
    return RawAnswer(reader, writer)
