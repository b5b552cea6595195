"""New connections: made within the deadline or failed, with no socket left open."""

import asyncio
import base64
import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from gateway.errors import UpstreamError
from gateway.openrouter.client import Client, Timeouts
from tests.gateway.openrouter.peers import (
    Script,
    a_certificate,
    a_client,
    a_peer,
    a_request,
    ask,
    black_hole,
    on_both_loops,
    until_closed,
)

_HI = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


async def _says_hi(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await a_request(reader)
        writer.write(_HI)


@on_both_loops
async def test_nobody_there_is_502() -> None:
    """A refused connection fails at once."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with a_client(unused.getsockname()[1]) as client:
            with pytest.raises(UpstreamError) as refused:
                await client.connect()
            assert refused.value.status == 502


@on_both_loops
async def test_a_name_that_cannot_be_looked_up_is_502() -> None:
    """A resolver's error is one of ours."""
    client = Client("http://no..name", Timeouts(5, 5, 5))
    with pytest.raises(UpstreamError) as refused:
        await client.connect()
    assert refused.value.status == 502


@on_both_loops
async def test_a_black_hole_is_504_in_time() -> None:
    """The deadline applies to a host that accepts no connection."""
    with black_hole() as port:
        async with a_client(port, connect=0.3) as client:
            with pytest.raises(UpstreamError) as late:
                await client.connect()
            assert late.value.status == 504


@on_both_loops
async def test_an_address_that_is_dead_keeps_the_next_one_waiting_for_a_moment_only() -> None:
    """As with a name that has an IPv6 address on a network without IPv6."""
    with black_hole() as hole:
        async with a_peer(_says_hi) as port, a_client(port) as client:
            dialer = client._dialer
            family, kind, number, name, _ = (await dialer._addresses())[0]
            dialer._known = [(family, kind, number, name, ("127.0.0.1", each)) for each in (hole, port)]
            asked = await ask(client)
            assert (await asked.to_end()).status == 200


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["late", "cancelled"])
@on_both_loops
async def test_a_handshake_that_comes_to_no_end_leaves_nothing_open(is_cancelled: bool) -> None:
    """The peer accepts the connection and never answers the TLS handshake."""
    met, gone = asyncio.Event(), asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.set()
        await until_closed(reader)
        gone.set()

    async with a_peer(deaf) as port, a_client(port, connect=5 if is_cancelled else 0.2, scheme="https") as client:
        dialing = asyncio.get_running_loop().create_task(client.connect())
        await met.wait()
        if is_cancelled:
            dialing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dialing
        else:
            with pytest.raises(UpstreamError) as late:
                await dialing
            assert late.value.status == 504
        await gone.wait()


@on_both_loops
async def test_a_certificate_that_nobody_vouches_for_is_502(tmp_path: Path) -> None:
    """No request is sent to a peer with an untrusted certificate."""
    received = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(1))

    async with a_peer(script, a_certificate(tmp_path)) as port, a_client(port, scheme="https") as client:
        with pytest.raises(UpstreamError) as refused:
            await client.connect()
    assert refused.value.status == 502
    assert b"".join(received) == b""


@on_both_loops
async def test_a_certificate_for_another_name_is_502(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name in the base URL counts."""
    context = a_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with a_peer(_says_hi, context) as port:
        client = Client(f"https://localhost:{port}", Timeouts(5, 5, 5))
        with pytest.raises(UpstreamError) as refused:
            await client.connect()
    assert refused.value.status == 502


def tunnelling(port: int, heads: list[bytes]) -> Script:
    """A proxy that connects every client to `port` and records the CONNECT requests."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n")

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    sink.write(data)
                sink.close()

        try:
            await asyncio.gather(carry(reader, there_writer), carry(there_reader, writer))
        finally:
            there_writer.transport.abort()

    return script


@on_both_loops
async def test_a_proxy_tunnels_to_openrouter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One CONNECT with user and password for each connection; TLS is end to end with OpenRouter."""
    context = a_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    heads: list[bytes] = []
    async with (
        a_peer(_says_hi, context) as port,
        a_peer(tunnelling(port, heads)) as proxy,
        a_client(port, scheme="https", proxy=proxy) as client,
    ):
        for _ in range(2):
            asked = await ask(client)
            connection = await asked.to_end()
            assert (connection.status, asked.body) == (200, b"hi")
            connection.release()
    [head] = heads
    login = base64.b64encode(b"us er:pass")
    assert head == (
        f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()
        + b"Proxy-Authorization: Basic "
        + login
        + b"\r\n\r\n"
    )


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nand more",
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000,
        b"",
    ],
    ids=["refused", "chatter", "no HTTP", "an endless head", "an end"],
)
@on_both_loops
async def test_a_proxy_that_does_not_connect_is_502(said: bytes) -> None:
    """The proxy gets no byte of a request, and its connection is closed."""
    gone = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        if not said:
            writer.write_eof()
        await until_closed(reader)
        gone.set()

    async with a_peer(script) as proxy, a_client(1, scheme="https", proxy=proxy) as client:
        with pytest.raises(UpstreamError) as refused:
            await client.connect()
        assert refused.value.status == 502
        await gone.wait()


async def test_the_authorities_are_read_when_they_are_needed() -> None:
    """Over http:// never."""
    client = Client("http://127.0.0.1:1", Timeouts(1, 1, 1))
    assert client._dialer._tls is None
    assert isinstance(client._dialer._context(), ssl.SSLContext)
    assert client._dialer._context() is client._dialer._context()
