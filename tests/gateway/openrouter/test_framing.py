"""Answers are framed strictly by RFC 9112, and no byte behind the end is used."""

import asyncio

import pytest

from tests.gateway.openrouter.peers import (
    CHUNKED,
    OK,
    WHOLE,
    a_client,
    a_peer,
    a_request,
    answers,
    ask,
    is_kept,
    on_both_loops,
    until_closed,
)

WELL_FORMED = {
    "a length": (WHOLE, 200, b"hi", True),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "length 0": (OK + b"Content-Length: 0\r\n\r\n", 200, b"", True),
    "chunks": (CHUNKED + b"1\r\nh\r\n1;ext=1\r\ni\r\n0\r\n\r\n", 200, b"hi", True),
    "trailers": (CHUNKED + b"2\r\nhi\r\n0\r\nX-Cost: 7\r\nX-Two: 8\r\n\r\n", 200, b"hi", True),
    "informational heads": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        + WHOLE,
        200,
        b"hi",
        True,
    ),
    "Connection: close": (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    "HTTP/1.0 with a length": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    "HTTP/1.0 kept alive": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
        200,
        b"hi",
        False,
    ),
    "a redirect": (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nhi", 302, b"hi", True),
    "no reason phrase": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", True),
}


@pytest.mark.parametrize("is_split", [False, True], ids=["whole", "split"])
@pytest.mark.parametrize("case", WELL_FORMED)
@on_both_loops
async def test_an_answer_is_what_its_bytes_say(case: str, is_split: bool) -> None:
    """Whole in one packet or each byte in its own; kept alive only where both sides agree on HTTP/1.1."""
    raw, status, body, keeps = WELL_FORMED[case]
    pieces = [raw[at : at + 1] for at in range(len(raw))] if is_split else [raw]
    async with a_peer(answers(*pieces)) as port, a_client(port) as client:
        asked = await ask(client)
        connection = await asked.to_end()
        assert (connection.status, asked.body, connection.failure) == (status, body, None)
        assert connection.header("link") is connection.header("x-cost") is None
        assert is_kept(connection) is keeps


@on_both_loops
async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    """Only there is an end of the connection an end of the answer."""
    async with a_peer(answers(b"HTTP/1.0 200 OK\r\n\r\nh", b"i", is_closing=True)) as port, a_client(port) as client:
        asked = await ask(client)
        connection = await asked.to_end()
        assert (asked.body, connection.is_ended, connection.failure) == (b"hi", True, None)
        assert not is_kept(connection)


MALFORMED = {
    "length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "chunks and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    "a length twice": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "a list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nhi",
    "a signed length": OK + b"Content-Length: +2\r\n\r\nhi",
    "identity, chunked": OK + b"Transfer-Encoding: identity, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "chunked, gzip": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\nhi",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "LF only": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    "CR only": b"HTTP/1.1 200 OK\rContent-Length: 2\r\rhi",
    "LF behind a chunk's size": CHUNKED + b"2\nhi\r\n0\r\n\r\n",
    "a status line for a chunk": CHUNKED + b"2\r\nhi\r\nHTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    "a chunk longer than it says": CHUNKED + b"1\r\nhi\r\n0\r\n\r\n",
    "a negative chunk": CHUNKED + b"-2\r\nhi\r\n0\r\n\r\n",
    "an endless chunk": CHUNKED + b"fffffffffffffffff\r\nhi\r\n",
    "a length in the trailers": CHUNKED + b"2\r\nhi\r\n0\r\nContent-Length: 9\r\n\r\n",
    "a folded header": OK + b"X-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\nhi",
    "a space before the colon": OK + b"Content-Length : 2\r\n\r\nhi",
    "NUL in a header": OK + b"X: a\0b\r\nContent-Length: 2\r\n\r\nhi",
    "another protocol": b"SSH-2.0-OpenSSH_9.9\r\n",
    "a switch of protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc",
    "no status": b"HTTP/1.1 099 What\r\nContent-Length: 2\r\n\r\nhi",
    "a large head": OK + b"X: " + b"x" * 600_000,
    "many headers": OK + b"X: 1\r\n" * 257 + b"Content-Length: 2\r\n\r\nhi",
    "endless informational heads": b"HTTP/1.1 102 Processing\r\n\r\n" * 3000,
    "endless trailers": CHUNKED + b"2\r\nhi\r\n0\r\nX: " + b"x" * 600_000,
}


@pytest.mark.parametrize("case", MALFORMED)
@on_both_loops
async def test_what_is_no_http_ends_the_connection(case: str) -> None:
    """Strictly by RFC 9112: it is a failure, its connection is closed, and only what is surely body was handed out."""
    gone = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        writer.write(MALFORMED[case])
        await until_closed(reader)
        gone.set()

    async with a_peer(script) as port, a_client(port) as client:
        asked = await ask(client)
        connection = await asked.to_end()
        assert connection.failure is not None
        assert connection.failure.status == 502
        assert b"hi".startswith(asked.body)
        assert not connection.is_ended
        assert not is_kept(connection)
        await gone.wait()


@pytest.mark.parametrize(
    "surplus", [WHOLE, b"garbage", b"HTTP/1.1 408 Request Timeout\r\n"], ids=["an answer", "no HTTP", "half a head"]
)
@pytest.mark.parametrize("raw", [WHOLE, CHUNKED + b"2\r\nhi\r\n0\r\n\r\n"], ids=["a length", "chunks"])
@on_both_loops
async def test_bytes_behind_the_end_belong_to_nobody(raw: bytes, surplus: bytes) -> None:
    """The answer before them is complete by its own framing; its connection is not reused."""
    async with a_peer(answers(raw + surplus)) as port, a_client(port) as client:
        asked = await ask(client)
        connection = await asked.to_end()
        assert (connection.status, asked.body, connection.failure) == (200, b"hi", None)
        assert not is_kept(connection)


@on_both_loops
async def test_headers_keep_every_byte_and_every_value() -> None:
    """Also those that are no UTF-8; a name is found in any case."""
    raw = OK + b"X-Name: caf\xc3\xa9 \xff\r\nx-two: 1\r\nX-TWO: 2\r\nContent-Length: 0\r\n\r\n"
    async with a_peer(answers(raw)) as port, a_client(port) as client:
        connection = await (await ask(client)).to_end()
        assert connection.headers[:3] == [("X-Name", "café \udcff"), ("x-two", "1"), ("X-TWO", "2")]
        assert connection.header("x-name") == "café \udcff"
        assert connection.header("none") is None
