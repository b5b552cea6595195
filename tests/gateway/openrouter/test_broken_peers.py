"""A bench of broken peers: whatever OpenRouter's side of a connection does, each payer gets and pays their own answer.

Run on every upgrade of a dependency: what is believed of the bytes hangs on the parser and on the event loop.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest

from tests.fakes import Exchange, FakeOpenRouter, Play
from tests.gateway.openrouter.peers import black_hole
from tests.gateway.stack import PATIENCE_SECONDS, Stack, open_stack, question, settings_for

COSTS_NANO = {"ada": 1_000_000, "bob": 2_000_000, "eve": 9_000_000}
JSON = b"Content-Type: application/json\r\n"


def body_of(who: str) -> bytes:
    """A whole answer that states its id and cost; every payer's has the same length."""
    return json.dumps(
        {
            "id": f"gen-{who}",
            "model": "acme/large",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": who}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4, "cost": COSTS_NANO[who] / 10**9},
        }
    ).encode()


def whole(who: str) -> bytes:
    """The same with its head."""
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (JSON, len(body_of(who)), body_of(who))


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(who: str) -> bytes:
    """One event of a stream."""
    return b'data: {"id":"gen-%s","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n' % who.encode()


@dataclass
class PeerScenario:
    """A gateway between two payers and an OpenRouter: `first` answers ada's first request, later ones are whole."""

    stack: Stack
    openrouter: FakeOpenRouter
    first: Play | None = None
    peers: list[object] = field(default_factory=list)

    async def play(self, turn: Exchange) -> None:
        """Answer one request."""
        self.peers.append(turn.writer.get_extra_info("peername"))
        first, self.first = self.first, None
        if first is not None:
            await first(turn)
            return
        who = (turn.request.header("Authorization") or "").rpartition("-")[2]
        turn.writer.write(whole(who))
        turn.ended = True

    async def ask(self, who: str = "ada", **more: object) -> tuple[int, object]:
        """Ask as a payer; return the status, and the answer's id or the error's code."""
        answer = await self.stack.chat(question(**more), headers=self.stack.as_user(who))  # type: ignore[arg-type]
        document = answer.document
        return answer.status, document["id"] if answer.status == 200 else document["error"]["code"]

    async def booked(self, who: str = "ada", count: int = 1) -> list[tuple[str, int, str]]:
        """Status, cost and generation id of a payer's entries; nothing is held any more."""
        entries = await self.stack.booked(who, count=count)
        assert (await self.stack.standing(who)).held_nano == 0
        return [(entry["status"], int(entry["cost_nano"]), entry.get("generation_id", "")) for entry in entries]

    async def the_next_payer_gets_their_own(self) -> None:
        """Bob's answer and bob's cost, whatever was left of ada's."""
        assert await self.ask("bob") == (200, "gen-bob")
        assert await self.booked("bob") == [("settled", COSTS_NANO["bob"], "gen-bob")]


@pytest.fixture
async def bench(redis_url: str, openrouter: FakeOpenRouter) -> AsyncIterator[PeerScenario]:
    """A bench with ada and bob connected."""
    async with open_stack(settings_for(redis_url, openrouter.url)) as stack:
        for who in ("ada", "bob"):
            await stack.connect(user=who, key=f"sk-or-v1-{who}")
        bench = PeerScenario(stack, openrouter)
        openrouter.play = bench.play
        yield bench


def sends(*pieces: bytes, is_kept: bool = False) -> Play:
    """A play that sends these bytes as they are, then waits for the other side to close, or for its next request."""

    async def play(turn: Exchange) -> None:
        for piece in pieces:
            turn.writer.write(piece)
            await turn.writer.drain()
        turn.ended = is_kept
        if not is_kept:
            await turn.until_closed()

    return play


WELL_FORMED = {
    "102 and 103 before": b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    + whole("ada"),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (JSON, len(body_of("ada")), body_of("ada")),
    "trailers": b"HTTP/1.1 200 OK\r\n%sTransfer-Encoding: chunked\r\n\r\n%s0\r\nX-Generation-Id: gen-eve\r\n\r\n"
    % (JSON, chunk(body_of("ada"))),
    "a second answer behind it": whole("ada") + whole("eve"),
    "half an answer behind it": whole("ada") + whole("eve")[:-9],
    "a body behind it": whole("ada") + body_of("eve"),
    "a 408 behind it": whole("ada") + b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n",
    "a chunk behind the last": b"HTTP/1.1 200 OK\r\n%sTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n%s"
    % (JSON, chunk(body_of("ada")), chunk(body_of("eve"))),
}


@pytest.mark.parametrize("case", WELL_FORMED)
async def test_an_answer_that_is_whole_is_booked_as_it_says(bench: PeerScenario, case: str) -> None:
    """Also in one packet with further bytes; an id or a cost behind the answer's end is ignored."""
    bench.first = sends(WELL_FORMED[case], is_kept=case in {"102 and 103 before", "trailers"})
    assert await bench.ask() == (200, "gen-ada")
    assert await bench.booked() == [("settled", COSTS_NANO["ada"], "gen-ada")]
    await bench.the_next_payer_gets_their_own()


async def test_a_body_that_ends_with_its_connection_is_whole(bench: PeerScenario) -> None:
    """As HTTP/1.0 has it."""

    async def play(turn: Exchange) -> None:
        turn.writer.write(b"HTTP/1.0 200 OK\r\n" + JSON + b"\r\n" + body_of("ada"))

    bench.first = play
    assert await bench.ask() == (200, "gen-ada")
    assert await bench.booked() == [("settled", COSTS_NANO["ada"], "gen-ada")]
    await bench.the_next_payer_gets_their_own()


MALFORMED = {
    "a length and chunks": b"HTTP/1.1 200 OK\r\n%sContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n"
    % (JSON, chunk(body_of("ada"))),
    "two lengths": b"HTTP/1.1 200 OK\r\n%sContent-Length: 5\r\nContent-Length: %d\r\n\r\n%s"
    % (JSON, len(body_of("ada")), body_of("ada")),
    "identity, chunked": b"HTTP/1.1 200 OK\r\n%sTransfer-Encoding: identity, chunked\r\n\r\n%s0\r\n\r\n"
    % (JSON, chunk(body_of("ada"))),
    "LF only": whole("ada").replace(b"\r\n", b"\n"),
    "another protocol": b"SSH-2.0-OpenSSH_9.9\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n" + whole("ada"),
    "an endless head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 600_000,
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_an_answer_that_is_no_http_is_502(bench: PeerScenario, case: str) -> None:
    """The work may have been done: without an id to ask by, the estimate is booked."""
    bench.first = sends(MALFORMED[case])
    assert await bench.ask() == (502, "upstream")
    [(status, cost_nano, generation_id)] = await bench.booked()
    assert (status, generation_id) == ("estimated", "")
    assert cost_nano > 0
    await bench.the_next_payer_gets_their_own()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_an_error_line_inside_a_chunked_body_ends_it_at_once(bench: PeerScenario, stream: bool) -> None:
    """The caller's answer is cut at once, without a timeout; the actual cost is looked up."""
    kind = b"Content-Type: text/event-stream\r\n" if stream else JSON
    part = event("ada") if stream else body_of("ada")[:60]
    bench.first = sends(
        b"HTTP/1.1 200 OK\r\n%sX-Generation-Id: gen-ada\r\nTransfer-Encoding: chunked\r\n\r\n%s" % (kind, chunk(part)),
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    )
    bench.openrouter.generations["gen-ada"] = {"id": "gen-ada", "total_cost": 0.0007}
    began = time.monotonic()
    with pytest.raises(aiohttp.ClientPayloadError):
        await bench.ask(stream=stream)
    assert time.monotonic() - began < PATIENCE_SECONDS
    assert await bench.booked() == [("settled", 700_000, "gen-ada")]
    await bench.the_next_payer_gets_their_own()


UNASKED = {
    "a second answer": whole("eve"),
    "400": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "408": b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    "a line break": b"\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize(
    ("case", "has_fin"), [(case, has_fin) for case in UNASKED for has_fin in (True, False) if has_fin or UNASKED[case]]
)
async def test_what_comes_on_an_idle_connection_is_nobodys(bench: PeerScenario, case: str, has_fin: bool) -> None:
    """The connection is closed; the next payer's request uses another one and gets its own answer."""
    idle, gone = asyncio.Event(), asyncio.Event()

    async def play(turn: Exchange) -> None:
        turn.writer.write(whole("ada"))
        await idle.wait()
        turn.writer.write(UNASKED[case])
        if has_fin:
            turn.writer.write_eof()
        await turn.until_closed()
        gone.set()

    bench.first = play
    assert await bench.ask() == (200, "gen-ada")
    await bench.stack.quiet()
    idle.set()
    async with asyncio.timeout(2):
        await gone.wait()
    await bench.the_next_payer_gets_their_own()
    assert await bench.booked() == [("settled", COSTS_NANO["ada"], "gen-ada")]
    assert len(set(bench.peers)) == 2


async def test_an_answer_and_another_one_right_behind_it_in_a_packet_of_its_own(bench: PeerScenario) -> None:
    """Whether it meets the end of the first, the release or the idle connection: it never meets the next payer."""
    for number in range(20):
        bench.first = sends(whole("ada"), whole("eve"))
        assert await bench.ask() == (200, "gen-ada")
        assert await bench.ask("bob") == (200, "gen-bob")
        assert len(await bench.booked("bob", count=number + 1)) == number + 1
    for who in ("ada", "bob"):
        assert set(await bench.booked(who, count=20)) == {("settled", COSTS_NANO[who], f"gen-{who}")}


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_kept_connection_that_ends_before_any_byte_is_502_and_never_sent_again(
    bench: PeerScenario, how: str
) -> None:
    """OpenRouter may have received and billed the request, so it is not sent again."""
    assert await bench.ask("bob") == (200, "gen-bob")
    await bench.stack.quiet()

    async def play(turn: Exchange) -> None:
        if how == "RST":
            turn.writer.transport.abort()

    bench.first = play
    assert await bench.ask() == (502, "upstream")
    [(status, cost_nano, _)] = await bench.booked()
    assert status == "estimated"
    assert cost_nano > 0
    assert len(bench.openrouter.received) == 2
    assert len(set(bench.peers)) == 1
    assert await bench.ask("bob") == (200, "gen-bob")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_refusal(bench: PeerScenario, status: int) -> None:
    """Following a redirect would send the payer's key to another host."""
    elsewhere = f"{bench.openrouter.url}/api/v1/elsewhere".encode()
    raw = b"HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, elsewhere)
    bench.first = sends(raw, is_kept=True)
    assert await bench.ask() == (502, "upstream")
    assert [entry[:2] for entry in await bench.booked()] == [("void", 0)]
    assert len(bench.openrouter.received) == 1
    await bench.the_next_payer_gets_their_own()


@pytest.mark.parametrize("then", ["stays", "closes"])
async def test_an_early_413_is_the_answer(redis_url: str, then: str) -> None:
    """It arrives while megabytes are still being sent; no work was done, so the hold is voided."""
    refused = json.dumps({"error": {"code": 413, "message": "Too large"}}).encode()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET "):
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"data":[]}')
            head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\n%sContent-Length: %d\r\n\r\n%s" % (JSON, len(refused), refused))
        await writer.drain()
        if then == "stays":
            await is_over.wait()
        writer.transport.abort()

    is_over = asyncio.Event()
    server = await asyncio.start_server(peer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with open_stack(settings_for(redis_url, url)) as stack:
        await stack.connect("900")
        answer = await stack.chat(question(text="x" * 9_000_000))
        assert answer.refusal == (413, "invalid_request")
        assert [entry["status"] for entry in await stack.booked()] == ["void"]
        is_over.set()
    server.close()
    await server.wait_closed()


async def test_a_black_holed_connect_is_504_in_time_and_costs_nothing(redis_url: str) -> None:
    """Nothing left, so nothing can be billed; a connect that is refused is in `test_client.py`."""
    with black_hole() as port:
        settings = settings_for(redis_url, f"http://127.0.0.1:{port}", WATTFARE_UPSTREAM_CONNECT_SECONDS="0.3")
        async with open_stack(settings) as stack:
            await stack.connect()
            assert (await stack.chat()).refusal == (504, "upstream")
            assert [(entry["status"], entry["cost_nano"]) for entry in await stack.booked()] == [("void", "0")]
            assert (await stack.standing()).held_nano == 0
