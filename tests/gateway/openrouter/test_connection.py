"""One connection to OpenRouter: answers are framed exactly, and no byte is taken for another answer's."""

import asyncio
import hashlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.openrouter import connection as connection_module
from tests.gateway.openrouter.peers import (
    CHUNKED,
    OK,
    WHOLE,
    ReceivedRequest,
    a_certificate,
    a_client,
    a_peer,
    a_request,
    answers,
    ask,
    is_kept,
    on_both_loops,
    until_closed,
)


@pytest.mark.parametrize("end", ["with FIN", "without FIN", "FIN alone"])
@on_both_loops
async def test_a_byte_or_an_end_on_an_idle_connection_closes_it(end: str) -> None:
    """Bytes on an idle connection belong to no request and are dropped."""
    idle, gone = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answers(WHOLE, is_closing=True)(reader, writer)
        await idle.wait()
        if end != "FIN alone":
            writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        if end != "without FIN":
            writer.write_eof()
        await until_closed(reader)
        gone.set()

    async with a_peer(script) as port, a_client(port) as client:
        connection = await (await ask(client)).to_end()
        connection.release()
        idle.set()
        await gone.wait()
        assert client.take_idle() is None


@on_both_loops
async def test_a_byte_that_only_the_kernel_has_seen_closes_a_kept_connection() -> None:
    """The byte arrived in the loop turn in which the next request is sent: a check of the socket finds it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with a_client(listening.getsockname()[1]) as client:
            asked = await ask(client)
            peer, _ = listening.accept()
            with peer:
                assert peer.recv(65536).startswith(b"POST ")
                peer.sendall(WHOLE)
                connection = await asked.to_end()
                connection.release()
                # No await from here on: the loop reads nothing in between.
                peer.sendall(WHOLE)
                assert client.take_idle() is None


@on_both_loops
async def test_a_connection_is_used_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest first; after its time it is closed, by one timer for all."""
    monkeypatch.setattr(connection_module, "KEEPALIVE_SECONDS", 0.2)
    gone = asyncio.Semaphore(0)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answers(WHOLE)(reader, writer)
        finally:
            gone.release()

    async with a_peer(script) as port, a_client(port) as client:
        first, second = await client.connect(), await client.connect()
        for connection in (first, second):
            await ReceivedRequest(connection, client).to_end()
            connection.release()
            connection.release()
        assert client.take_idle() is second
        await ReceivedRequest(second, client).to_end()
        second.release()
        for _ in range(2):
            await gone.acquire()
        assert client.take_idle() is None


@pytest.mark.parametrize("how", ["FIN", "RST"])
@on_both_loops
async def test_an_end_before_any_byte_is_a_failure(how: str) -> None:
    """The request was with OpenRouter then, and may have been billed: only the caller of all this can ask again."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        if how == "RST":
            writer.transport.abort()

    async with a_peer(script) as port, a_client(port) as client:
        connection = await (await ask(client)).to_end()
        assert connection.failure is not None
        assert (connection.failure.status, connection.status, connection.is_sent) == (502, None, True)


@pytest.mark.parametrize("how", ["FIN", "RST", "in a chunk"])
@on_both_loops
async def test_what_came_before_a_break_is_handed_out(how: str) -> None:
    """Received bytes are handed out first, then the failure is raised."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        writer.write(CHUNKED + (b"9\r\nhi" if how == "in a chunk" else b"2\r\nhi\r\n"))
        await writer.drain()
        await arrived.wait()
        if how == "RST":
            writer.transport.abort()

    arrived = asyncio.Event()
    async with a_peer(script) as port, a_client(port) as client:
        asked = await ask(client)
        await asked.until(lambda connection: connection._pieces)
        arrived.set()
        connection = await asked.until(lambda connection: connection.is_ended)
        assert (connection.take(), connection.is_ended) == (b"hi", False)
        assert connection.failure is not None


@on_both_loops
async def test_a_connection_that_was_closed_before_the_request_sends_nothing() -> None:
    """The error distinguishes a request that was not sent from one that may have been billed."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await until_closed(reader)
        gone.set()

    gone = asyncio.Event()
    async with a_peer(script) as port, a_client(port) as client:
        connection = await client.connect()
        await gone.wait()
        assert not connection.resume()
        asked = ReceivedRequest(connection, client)
        assert connection.failure is not None
        assert (connection.is_sent, connection.status, asked.body) == (False, None, b"")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@on_both_loops
async def test_a_large_body_waits_for_the_peer_to_take_it(
    tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves whole and in order; it counts as sent only when the last byte is with the kernel."""
    context = a_certificate(tmp_path) if tls else None
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    body = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(500_000))
    goes_on = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await goes_on.wait()
        digest = hashlib.sha256(await a_request(reader)).hexdigest().encode()
        writer.write(OK + b"Content-Length: 64\r\n\r\n" + digest)
        await until_closed(reader)

    async with a_peer(script, context) as port, a_client(port, scheme="https" if tls else "http") as client:
        asked = await ask(client, body)
        await asyncio.sleep(0.1)
        assert not asked.connection.is_sent
        goes_on.set()
        await asked.until(lambda connection: connection.is_sent)
        connection = await asked.to_end()
        assert asked.body == hashlib.sha256(body).hexdigest().encode()
        assert is_kept(connection)


@on_both_loops
async def test_an_early_answer_to_a_large_body_is_heard() -> None:
    """A 413 that arrives while the body is being sent is the answer; the connection is not reused."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        await heard.wait()
        await until_closed(reader)

    heard = asyncio.Event()
    async with a_peer(script) as port, a_client(port) as client:
        asked = await ask(client, b"x" * 30_000_000)
        connection = await asked.to_end()
        assert (connection.status, asked.body, connection.is_sent) == (413, b"no", False)
        assert not is_kept(connection)
        heard.set()


@on_both_loops
async def test_what_nobody_takes_stops_the_peer() -> None:
    """Of 200 MB only a few MB are buffered while the reader pauses; then all of it arrives."""
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await a_request(reader)
        writer.write(OK + b"Content-Length: 200000000\r\n\r\n")
        while sent < 200_000_000:
            writer.write(b"x" * 100_000)
            sent += 100_000
            await writer.drain()
        await until_closed(reader)

    async with a_peer(script) as port, a_client(port) as client:
        asked = await ask(client)
        await asked.until(lambda connection: connection._is_reading_paused)
        await asyncio.sleep(0.2)
        assert asked.connection._waiting_bytes < 1_000_000
        assert sent < 30_000_000
        got = 0
        while not asked.connection.is_ended:
            got += len(asked.connection.take())
            await asyncio.sleep(0)
        assert got + len(asked.connection.take()) == 200_000_000


@pytest.mark.parametrize("end", ["close", "release"])
@on_both_loops
async def test_an_answer_that_is_left_unread_closes_its_connection(end: str) -> None:
    """The close tells OpenRouter that the caller is gone, which stops the billing."""
    gone = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        writer.write(CHUNKED + b"2\r\nhi\r\n")
        await until_closed(reader)
        gone.set()

    async with a_peer(script) as port, a_client(port) as client:
        asked = await ask(client)
        await asked.until(lambda connection: connection.status)
        stop: Callable[[], None] = getattr(asked.connection, end)
        stop()
        await gone.wait()
        assert client.take_idle() is None


@on_both_loops
async def test_a_client_that_closes_leaves_nobody_waiting() -> None:
    """A request that waits for its answer fails at once."""
    async with a_peer(answers()) as port, a_client(port) as client:
        asked = await ask(client)
        await client.close()
        assert (await asked.to_end()).failure is not None


@on_both_loops
async def test_the_last_byte_heard_has_its_time() -> None:
    """The caller's own ticker measures silence by it."""
    goes_on = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        await goes_on.wait()
        writer.write(WHOLE)
        await until_closed(reader)

    async with a_peer(script) as port, a_client(port) as client:
        asked = await ask(client)
        begun = asked.connection.last_heard
        await asyncio.sleep(0.05)
        assert asked.connection.last_heard == begun
        goes_on.set()
        assert (await asked.to_end()).last_heard > begun


@on_both_loops
async def test_tls_is_verified_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS: SSL_CERT_FILE names the trusted roots, ALPN selects HTTP/1.1, the connection is kept."""
    context = a_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    spoken = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        spoken.append(tls.selected_alpn_protocol())
        await answers(WHOLE)(reader, writer)

    async with a_peer(script, context) as port, a_client(port, scheme="https") as client:
        for _ in range(3):
            asked = await ask(client)
            connection = await asked.to_end()
            assert (asked.body, connection.failure) == (b"hi", None)
            connection.release()
        assert spoken == ["http/1.1"]
