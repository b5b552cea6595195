"""Servers scripted byte by byte, and a marker to run tests on asyncio's loop and on production's."""

import asyncio
import contextlib
import datetime as dt
import inspect
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.openrouter.client import Client, Timeouts
from gateway.openrouter.connection import UpstreamConnection

PATIENCE_SECONDS = 10
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = OK + b"Content-Length: 2\r\n\r\nhi"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def on_both_loops(test: Callable[..., Any]) -> Callable[..., None]:
    """Run an async test on asyncio's own loop and on uvloop, each time on a loop of its own."""

    def both(run: Callable[[Any], None], **given: object) -> None:
        async def in_time() -> None:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await test(**given)

        run(in_time())

    own = inspect.Parameter("run", inspect.Parameter.KEYWORD_ONLY)
    both.__name__, both.__doc__, both.__module__ = test.__name__, test.__doc__, test.__module__
    both.__signature__ = inspect.Signature([*inspect.signature(test).parameters.values(), own])  # type: ignore[attr-defined]
    marked: Callable[..., None] = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])(
        both
    )
    return marked


@contextlib.asynccontextmanager
async def a_peer(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Run `script` for every connection; yields the port. What a script raises fails the test."""
    running: set[asyncio.Task[None]] = set()
    faults: list[BaseException] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except AssertionError as fault:
            faults.append(fault)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    assert faults == []


async def a_request(reader: asyncio.StreamReader) -> bytes:
    """Read one request to its end; return its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, length = head.partition(b"content-length: ")
    return await reader.readexactly(int(length.split(b"\r\n")[0] or b"0"))


async def until_closed(reader: asyncio.StreamReader) -> None:
    """Wait until the other side has closed."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(65536):
            pass


@contextlib.asynccontextmanager
async def a_client(port: int, *, connect: float = 5, scheme: str = "http", proxy: int = 0) -> AsyncIterator[Client]:
    """A client of what listens on `port`; through a proxy on another one, if any."""
    proxy_url = f"http://us%20er:pass@127.0.0.1:{proxy}" if proxy else None
    client = Client(f"{scheme}://127.0.0.1:{port}", Timeouts(connect, 5, 5), proxy_url=proxy_url)
    try:
        yield client
    finally:
        await client.close()


class ReceivedRequest:
    """One request on a connection, and everything received for it."""

    def __init__(self, connection: UpstreamConnection, client: Client, body: bytes = b"{}") -> None:
        self.connection = connection
        self.body = b""
        self._progress = asyncio.Event()
        head = client.head("chat/completions", ["X-Own: 1\r\n"], "sk-or-v1-ada", len(body))
        connection.start(self._progress.set)
        connection.send(head, body)

    async def until(self, is_so: Callable[[UpstreamConnection], object]) -> UpstreamConnection:
        """Wait until it is so, or the connection failed; nothing is taken."""
        while not is_so(self.connection) and self.connection.failure is None:
            self._progress.clear()
            await self._progress.wait()
        return self.connection

    async def to_end(self) -> UpstreamConnection:
        """Take the whole answer."""
        while True:
            self._progress.clear()
            self.body += self.connection.take()
            if self.connection.is_ended or self.connection.failure is not None:
                return self.connection
            await self._progress.wait()


async def ask(client: Client, body: bytes = b"{}") -> ReceivedRequest:
    """Ask on a kept connection, else on a new one."""
    return ReceivedRequest(client.take_idle() or await client.connect(), client, body)


def a_certificate(folder: Path) -> ssl.SSLContext:
    """Make a certificate for 127.0.0.1 that vouches for itself, in `folder/ca.pem`; return a server's context."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "peer")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def answers(*pieces: bytes, is_closing: bool = False) -> Script:
    """A script that answers every request with these pieces, each in a packet of its own."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await a_request(reader)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                # A turn of the loop in between, so that two pieces seldom meet in one read.
                await asyncio.sleep(0)
            if is_closing:
                return

    return script


def is_kept(connection: UpstreamConnection) -> bool:
    """Release the connection; return whether the next request may use it."""
    connection.release()
    return connection._pool.take() is connection


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port that neither accepts nor refuses connections: its backlog is full."""
    with contextlib.ExitStack() as held:
        listening = held.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        for _ in range(2):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port
