"""Malformed HTTP at both servers: our envelope and headers, no input echoed or logged, the connection closed."""

import asyncio
import gc
import json
import logging
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import StreamReader, web
from structlog.testing import capture_logs

from consent_web import server as consent_server
from gateway.call import CallerConnection
from gateway.protocol import CallerServer
from gateway.settings import Settings
from tests.gateway.stack import PATIENCE_SECONDS, Stack

# Represents a secret in a request (cookie, token, key): no answer and no log line may contain it.
MARK = b"canary7Qx"
_COOKIE = b"Cookie: __Host-wattfare-wallet=" + MARK

# Each is a whole request; what follows a bad line must not be waited for.
MALFORMED = {
    "a cookie bomb": b"GET / HTTP/1.1\r\nHost: x\r\n" + _COOKIE + b"; x=" + b"A" * 40_000 + b"\r\n\r\n",
    "a byte no header may hold": b"GET / HTTP/1.1\r\nHost: x\r\n" + _COOKIE + b"\x00\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nHost: x\r\n" + MARK + b"\r\n\r\n",
    "a header name with a blank": b"GET / HTTP/1.1\r\nHost: x\r\nX " + MARK + b": 1\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n " + MARK + b"\r\n\r\n",
    "a bare line feed": b"GET /" + MARK + b" HTTP/1.1\nHost: x\nX: \x01\n\n",
    "a long address": b"GET /" + MARK + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "an address that is none": b"GET http://[" + MARK + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a port that is none": b"GET http://x:" + MARK + b"/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method that is none": b"G@T /" + MARK + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": MARK + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no version": b"GET /" + MARK + b"\r\n\r\n",
    "a version to come": b"GET /" + MARK + b" HTTP/2.0\r\nHost: x\r\n\r\n",
    "a version long gone": b"GET /" + MARK + b" HTTP/0.9\r\nHost: x\r\n\r\n",
    "a version that is none": b"GET / HTTP/" + MARK + b"\r\nHost: x\r\n\r\n",
    "another protocol": b"\x16\x03\x01" + MARK + b"\r\n\r\n",
    "HTTP/2 by prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + MARK,
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 9\r\n\r\n" + MARK,
    "a length and chunks": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n"
    + MARK,
    "a length that is none": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +" + MARK + b"\r\n\r\n",
    "a length below zero": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -9\r\n\r\n" + MARK,
    "an expectation that is none": b"GET /none HTTP/1.1\r\nHost: x\r\nExpect: " + MARK + b"\r\n\r\n",
}


async def ask(port: int, request: bytes) -> bytes:
    """Send one request; return everything received until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            writer.write(request.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n", 1))
            return await reader.read()
    finally:
        writer.close()


def headers_of(answer: bytes) -> dict[str, str]:
    head = answer.partition(b"\r\n\r\n")[0].decode()
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:])}


async def check_each(port: int, own_headers: set[str], caplog: pytest.LogCaptureFixture) -> list[bytes]:
    """Play every malformed request; return the answers."""
    answers = []
    with capture_logs() as lines, caplog.at_level(logging.DEBUG):
        for name, request in MALFORMED.items():
            answer = await ask(port, request)
            assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), (name, answer[:200])
            assert MARK not in answer, (name, answer)
            found = headers_of(answer)
            assert own_headers <= set(found), (name, found)
            assert found["server"] == "wattfare", name
            assert b"aiohttp" not in answer, name
            answers.append(answer)
    for said in [json.dumps(lines, default=repr), caplog.text]:
        assert MARK.decode() not in said
        assert "Traceback" not in said
    return answers


async def test_the_gateway_repeats_nothing_of_what_is_no_http(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    """Each malformed request gets the envelope."""
    own = {"x-wattfare-request-id", "x-content-type-options", "cache-control"}
    for answer in await check_each(stack.port, own, caplog):
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] in {"invalid_request", "auth"}


@pytest.fixture
async def consent_port(redis_url: str, tmp_path: Path) -> AsyncIterator[int]:
    """A consent site's port."""
    environ = {"REDIS_URL": redis_url, "WATTFARE_DATA_DIR": str(tmp_path), "WATTFARE_REDIS_DEADLINE_MS": "2000"}
    async with consent_server.open_site(Settings.load(environ, default_port=8081)) as site:
        runner = consent_server.make_runner(consent_server.create_app(site), drain_seconds=0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


async def test_the_consent_site_repeats_nothing_of_what_is_no_http(
    consent_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither cookies nor token parts are logged; each answer forbids framing."""
    own = {"x-frame-options", "content-security-policy", "referrer-policy", "x-content-type-options", "cache-control"}
    for answer in await check_each(consent_port, own, caplog):
        assert "frame-ancestors 'none'" in headers_of(answer)["content-security-policy"]


async def test_a_bug_of_the_handler_is_told_by_type_and_place(caplog: pytest.LogCaptureFixture) -> None:
    """No traceback and no exception message, which may contain a prompt or a key; the connection is closed."""

    async def handle(*_: object) -> bool:
        raise ValueError(MARK.decode())

    async with await asyncio.get_running_loop().create_server(CallerServer(handle), "127.0.0.1") as listening:
        with capture_logs() as lines:
            assert await ask(listening.sockets[0].getsockname()[1], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    [line] = lines
    assert (line["event"], line["error"], line["at"].partition(":")[0]) == ("bug", "ValueError", "handle")
    assert MARK.decode() not in json.dumps(lines) + caplog.text


@pytest.mark.parametrize(
    "chunk", [b"1\r\nx\r\n" * 16_385, b"100000\r\n" + b"x" * 0x100000 + b"\r\n"], ids=["chunks", "bytes"]
)
async def test_each_request_behind_a_paused_body_is_answered(chunk: bytes) -> None:
    """Reading is paused within a body of many chunks or bytes, and again behind it at the most requests in a queue."""
    answered = 0

    async def handle(_: object, content: StreamReader, connection: CallerConnection, __: object) -> bool:
        nonlocal answered
        while not content.at_eof():
            await content.readany()
        answered += 1
        if connection.transport is not None:
            connection.transport.write(b"%d\n" % answered)
        return True

    head = b"POST / HTTP/1.1\r\nHost: x\r\n"
    large = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"
    behind = (head + b"Content-Length: 1\r\n\r\nx") * 100
    async with await asyncio.get_running_loop().create_server(CallerServer(handle), "127.0.0.1") as listening:
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        async with asyncio.timeout(PATIENCE_SECONDS):
            for turn in range(1, 3):
                writer.write(large + behind)
                for number in range(101):
                    assert await reader.readline() == b"%d\n" % (turn * 101 - 100 + number)
        writer.close()


async def test_a_closed_connection_is_freed_without_the_garbage_collector() -> None:
    """Its last request holds a secret key."""

    async def handle(_: object, __: object, connection: CallerConnection, ___: object) -> bool:
        if connection.transport is not None:
            connection.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        return True

    server = CallerServer(handle)
    gc.disable()
    try:
        async with await asyncio.get_running_loop().create_server(server, "127.0.0.1") as listening:
            reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
            await reader.readline()
            kept = weakref.ref(server.connections[0])
            writer.close()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while kept() is not None:
                    await asyncio.sleep(0)
    finally:
        gc.enable()
