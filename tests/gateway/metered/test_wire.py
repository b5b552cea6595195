"""Every unusual upstream answer, in every dialect, over real sockets: what is relayed and what is booked."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import ClientError

from tests.fakes import Exchange, FakeOpenRouter, refuses, streams
from tests.gateway.stack import PATIENCE_SECONDS, Stack, open_stack, question, revoke, settings_for
from tests.gateway.wire_cases import (
    CASES,
    CHAT,
    CODINGS,
    COMMENT,
    COST_NANO,
    MESSAGES,
    RESPONSES,
    SAMPLES,
    Case,
    DialectSample,
    event,
)

EACH = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.dialect.value)


@pytest.fixture
async def stack(redis_url: str, openrouter: FakeOpenRouter) -> AsyncIterator[Stack]:
    """A gateway that looks a cost up for one second only, and allows one second of comments alone."""
    patience = {"WATTFARE_RECONCILE_SECONDS": "1", "WATTFARE_UPSTREAM_KEEPALIVE_SECONDS": "1"}
    async with open_stack(settings_for(redis_url, openrouter.url, **patience)) as running:
        await running.connect()
        yield running


async def ask(stack: Stack, sample: DialectSample, *, stream: bool = True) -> bytes:
    """Return the bytes of the answer that were received."""
    body = json.dumps(sample.ask(stream=stream)).encode()
    head = {**stack.as_user(), "Content-Type": "application/json"}
    came = bytearray()
    async with stack.session.post(stack.url + sample.path, data=body, headers=head) as answer:
        assert answer.status == 200
        with contextlib.suppress(Exception):
            async for piece, _ in answer.content.iter_chunks():
                came += piece
    return bytes(came)


def plays(case: Case, sample: DialectSample) -> Callable[[Exchange], Awaitable[None]]:
    """Answer as the case defines."""

    async def play(turn: Exchange) -> None:
        labels = {"Content-Type": case.label, "X-Generation-Id": case.header_id}
        await turn.head(200, {**{name: value for name, value in labels.items() if value}, **case.headers})
        for piece in case.pieces(sample):
            await turn.send(piece)
        if not case.cut:
            await turn.end()

    return play


@EACH
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_an_answer_is_relayed_as_it_came_and_owed_as_it_says(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample, case: Case
) -> None:
    """Every byte arrives, and the ledger holds one entry: what was stated, or void, never a guess."""
    openrouter.play = plays(case, sample)
    if case.generation is not None:
        openrouter.generations["gen-1"] = {"id": "gen-1", "total_cost": case.generation}
    assert await ask(stack, sample, stream=case.stream) == b"".join(case.pieces(sample))
    [entry] = await stack.booked()
    assert (entry["status"], int(entry["cost_nano"])) == (case.status, case.nano)
    assert (await stack.standing()).held_nano == 0


@EACH
@pytest.mark.parametrize("coding", list(CODINGS))
async def test_an_encoded_answer_keeps_its_label(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample, coding: str
) -> None:
    """Encoded bytes are relayed with their Content-Encoding."""
    openrouter.play = streams([CODINGS[coding](sample.document)], {"Content-Encoding": coding})
    answer = await stack.ask("POST", sample.path, document=sample.ask(stream=False), headers=stack.as_user())
    assert answer.headers["Content-Encoding"] == coding
    assert answer.body == CODINGS[coding](sample.document)


@EACH
@pytest.mark.parametrize("stays", ["silent", "comments", "pings"])
async def test_an_answer_ends_a_second_after_its_end(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample, stays: str
) -> None:
    """Whatever upstream still sends, or though it only hangs open."""

    async def play(turn: Exchange) -> None:
        await turn.head()
        await turn.send(sample.stream)
        with contextlib.suppress(ConnectionError):
            while stays != "silent":
                await turn.send(COMMENT if stays == "comments" else b'data: {"type":"ping"}\n\n')
                await asyncio.sleep(0.05)
            await turn.until_closed()

    openrouter.play = play
    async with asyncio.timeout(3):
        assert (await ask(stack, sample)).startswith(sample.stream)
    [entry] = await stack.booked()
    assert (entry["status"], int(entry["cost_nano"])) == ("settled", COST_NANO)
    assert entry["ended_by"] == "complete"


@EACH
async def test_a_document_ends_with_its_last_brace(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample
) -> None:
    """Though upstream hangs open behind it."""

    async def play(turn: Exchange) -> None:
        await turn.head(200, {"Content-Type": "application/json"})
        await turn.send(sample.document)
        await turn.until_closed()

    openrouter.play = play
    async with asyncio.timeout(3):
        assert await ask(stack, sample, stream=False) == sample.document
    [entry] = await stack.booked()
    assert (entry["status"], int(entry["cost_nano"])) == ("settled", COST_NANO)


@EACH
@pytest.mark.parametrize("sign", [COMMENT, b"\n", b'event: ping\ndata: {"type":"ping"}\n\n'])
async def test_comments_alone_keep_no_answer_alive_for_ever(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample, sign: bytes
) -> None:
    """The answer is cut off, and the delivered part may be owed."""
    openrouter.generations["gen-1"] = {"id": "gen-1", "total_cost": 0.0002}

    async def play(turn: Exchange) -> None:
        await turn.head()
        await turn.send(sample.start + sample.work)
        with contextlib.suppress(ConnectionError):
            while True:
                await turn.send(sign)
                await asyncio.sleep(0.05)

    openrouter.play = play
    async with asyncio.timeout(PATIENCE_SECONDS):
        await ask(stack, sample)
    [entry] = await stack.booked()
    assert (entry["status"], entry["cost_nano"], entry["ended_by"]) == ("settled", "200000", "upstream")


@EACH
async def test_a_status_line_within_a_stream_breaks_it_off(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample
) -> None:
    """It is no chunk; nothing is waited for."""

    async def play(turn: Exchange) -> None:
        await turn.head()
        await turn.send(sample.start + sample.work)
        turn.writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        await turn.until_closed()

    openrouter.play = play
    async with asyncio.timeout(3):
        assert await ask(stack, sample) == sample.start + sample.work
    [entry] = await stack.booked()
    assert entry["status"] == "estimated"


async def test_a_second_answer_on_an_idle_connection_is_nobodys(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """The next payer gets its own answer at its own cost."""
    second = CHAT.stream.replace(b'"hi"', b'"for B"').replace(b"0.0005", b"0.0002")
    await stack.connect(user="next")

    async def play(turn: Exchange) -> None:
        await streams([CHAT.stream])(turn)
        await streams([CHAT.stream])(turn)

    openrouter.play = play
    assert await ask(stack, CHAT) == CHAT.stream
    openrouter.play = streams([second])
    answer = await stack.chat(CHAT.ask(stream=True), headers=stack.as_user("next"))
    assert answer.body == second
    [entry] = await stack.booked("next")
    assert int(entry["cost_nano"]) == 200_000


@EACH
async def test_a_cost_before_a_cut_is_the_least_that_is_booked(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample
) -> None:
    """Without an id the stated cost is booked, or more if work followed it."""
    first = sample.usage if sample is not RESPONSES else event({"id": "gen-1", "usage": {"cost": 0.0005}})

    async def play(turn: Exchange) -> None:
        await turn.head()
        await turn.send(sent)

    openrouter.play = play
    answers = {"plain": sample.start + sample.work + first, "outdone": sample.start + first + sample.work * 900}
    for user in ("plain", "outdone"):
        sent = answers[user]
        await stack.connect(user=user)
        with contextlib.suppress(ClientError):
            await stack.ask("POST", sample.path, document=sample.ask(stream=True), headers=stack.as_user(user))
        [entry] = await stack.booked(user)
        assert entry["status"] == "estimated"
        assert int(entry["cost_nano"]) >= COST_NANO
        assert user == "outdone" or int(entry["cost_nano"]) == COST_NANO


@EACH
async def test_a_refusal_that_hangs_open_is_told_when_it_is_whole(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample
) -> None:
    """Its last brace is its end."""

    async def play(turn: Exchange) -> None:
        await turn.head(429, {"Content-Type": "application/json"})
        await turn.send(b'{"error":{"code":429,"message":"slow down"}}')
        await turn.until_closed()

    openrouter.play = play
    async with asyncio.timeout(3):
        answer = await stack.ask("POST", sample.path, document=sample.ask(stream=True), headers=stack.as_user())
    assert answer.refusal == (429, "rate_limited")


@EACH
async def test_a_refused_key_within_an_answer_is_remembered(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample
) -> None:
    """In the dialect's own shape; the next call is refused at once."""
    openrouter.play = streams([sample.refused_key])
    assert await ask(stack, sample) == sample.refused_key
    await stack.booked()
    answer = await stack.ask("POST", sample.path, document=sample.ask(stream=True), headers=stack.as_user())
    assert answer.refusal == (402, "funding_invalid")
    assert len(openrouter.received) == 1


async def _revoked_at(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample, sent: bytes, coding: str = ""
) -> tuple[bytes, bool]:
    """What a caller gets of a stream in which its connection is revoked after `sent`, and whether that looks whole."""
    openrouter.generations["gen-1"] = {"id": "gen-1", "total_cost": 0.0001}

    async def play(turn: Exchange) -> None:
        labels = {"Content-Type": "text/event-stream", "X-Generation-Id": "gen-1"}
        await turn.head(200, {**labels, **({"Content-Encoding": coding} if coding else {})})
        await turn.send(sent)
        await turn.until_closed()

    openrouter.play = play
    came = bytearray()
    body = json.dumps(sample.ask(stream=True)).encode()
    head = {**stack.as_user(), "Content-Type": "application/json"}
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with stack.session.post(stack.url + sample.path, data=body, headers=head) as answer:
            while len(came) < len(sent):
                came += await answer.content.readany()
            await revoke(stack)
            try:
                came += await answer.content.read()
            except Exception:
                return bytes(came), False
    return bytes(came), True


@EACH
@pytest.mark.parametrize("half", [b"", b'data: {"id":"gen-1","choi'])
async def test_a_revocation_is_said_in_the_streams_own_dialect(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample, half: bytes
) -> None:
    """After the end of the event that was running, one more that this dialect's clients raise."""
    sent = sample.start + sample.work + half
    came, is_whole = await _revoked_at(stack, openrouter, sample, sent)
    said = came[len(sent) :].lstrip(b"\n")
    assert is_whole
    assert came.startswith(sent + b"\n\n" if half else sent)
    document = json.loads(said.partition(b"data: ")[2])
    assert document["error"]["code"] == "not_connected"
    assert said.startswith(b"event: error\n") == (sample is MESSAGES)
    if sample is RESPONSES:
        assert (document["type"], document["code"], document["sequence_number"]) == ("error", "not_connected", 3)


@EACH
async def test_to_an_encoded_stream_nothing_is_added(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample
) -> None:
    """A revocation cuts it without an error event, as plain text behind gzip bytes could not be decoded."""
    sent = CODINGS["gzip"](sample.start + sample.work)
    assert await _revoked_at(stack, openrouter, sample, sent, "gzip") == (sent, False)


@pytest.mark.parametrize("coding", list(CODINGS))
async def test_an_encoded_refusal_is_understood(stack: Stack, openrouter: FakeOpenRouter, coding: str) -> None:
    """Its message is relayed, and a refused key is recorded."""
    encode = CODINGS[coding]

    async def play(turn: Exchange) -> None:
        said = encode(b'{"error":{"code":401,"message":"User not found."}}')
        await turn.refuse(401, said, {"Content-Encoding": coding})

    openrouter.play = play
    answer = await stack.chat()
    assert answer.refusal == (402, "funding_invalid")
    assert "User not found" in answer.document["error"]["message"]
    await stack.booked()
    assert (await stack.chat()).refusal == (402, "funding_invalid")
    assert len(openrouter.received) == 1


@pytest.mark.parametrize("coding", list(CODINGS))
async def test_an_encoded_price_list_and_generation_are_read(
    redis_url: str, openrouter: FakeOpenRouter, coding: str
) -> None:
    """The hold is the call's own bound, not the whole cap, and an unstated cost is looked up."""
    openrouter.coding = (coding, CODINGS[coding])
    openrouter.generations["gen-1"] = {"id": "gen-1", "total_cost": 0.0003}
    openrouter.play = streams([CHAT.start, CHAT.work, CHAT.end])
    async with open_stack(settings_for(redis_url, openrouter.url)) as stack:
        await stack.connect()
        assert await ask(stack, CHAT)
        [entry] = await stack.booked()
        assert (entry["status"], int(entry["cost_nano"])) == ("settled", 300_000)
        assert int(entry["hold_nano"]) < 10_000_000
        assert "data" in (await stack.ask("GET", "/v1/models")).document


async def test_a_refusals_words_name_no_key_and_no_account(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Nor do its headers, or those of any answer; the body of a 2xx is upstream's own."""
    said = "bad for org-0123456789abcdef, user_2abcDEF9, sk-proj-****abcd and eyJhbGci.eyJzdWIi.c2ln"
    openrouter.play = refuses(400, {"code": 400, "message": said})
    answer = await stack.chat()
    assert answer.document["error"]["message"].count("[removed]") == 4
    named = {"x-account": "user_2abcDEF9", "openai-organization": "acme", "x-key": "sk-or-v1-0123456789", "x-ok": "1"}
    body = CHAT.stream + event_with_account()
    openrouter.play = streams([body], {"Content-Type": "text/event-stream", **named})
    answer = await stack.chat(CHAT.ask(stream=True))
    assert answer.body == body
    assert set(named) & {name.lower() for name in answer.headers} == {"x-ok"}


def event_with_account() -> bytes:
    """A byte of a 2xx body that speaks of an account."""
    return b'data: {"user_id":"user_2abcDEF9"}\n\n'


async def test_an_answer_that_is_shorter_than_it_says_ends_its_connection(
    stack: Stack, openrouter: FakeOpenRouter
) -> None:
    """It hangs open after its end: else the next answer on that connection would be read as the bytes it lacks."""
    document = b'{"id":"gen-1","choices":[{"message":{"content":"Hi"}}],"usage":{"cost":0.0001}}'
    over = asyncio.Event()

    async def short(turn: Exchange) -> None:
        await turn.head(200, {"Content-Type": "application/json", "Content-Length": str(len(document) + 400)})
        turn.writer.write(document)
        await over.wait()

    openrouter.play = short
    reader, writer = await asyncio.open_connection(stack.host, stack.port)
    body = json.dumps(question()).encode()
    own = "".join(f"{name}: {value}\r\n" for name, value in stack.as_user().items())
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{own}Content-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await reader.read()
    over.set()
    writer.close()
    assert answer.endswith(document)
    assert answer.count(b"HTTP/1.1 ") == 1
