"""One try: what counts as taken, what bounds it, and that no name and no redirect leads to a private address."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator

import pytest

from gateway.webhooks.delivery import Delivery
from gateway.webhooks.messages import trial_message
from tests.gateway.webhooks.receiver import Receiver

SECRET = "whsec_" + "A" * 43 + "="
MESSAGE = trial_message("app2222222222222222", 1_795_000_000_000)


@contextlib.asynccontextmanager
async def answering(answer: bytes, *, hangs: bool = False) -> AsyncIterator[str]:
    """A server that answers with these bytes, then hangs or hangs up."""
    released = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.read(1)
            writer.write(answer)
            if hangs:
                await released.wait()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        released.set()
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def open_delivery(*, seconds: float = 10, loopback: bool = True) -> AsyncIterator[Delivery]:
    """A delivery that is closed afterwards."""
    delivery = Delivery(seconds=seconds, loopback=loopback)
    try:
        yield delivery
    finally:
        await delivery.close()


async def test_a_name_server_that_hangs_takes_no_thread_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """More look-ups than the event loop has threads, which count prompts and look OpenRouter up."""
    asked, released = threading.Event(), threading.Event()

    def silent(*_: object, **_options: object) -> list[object]:
        asked.set()
        released.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    async with open_delivery() as delivery:
        sends = [asyncio.create_task(delivery.send(f"http://n{n}.example/", [SECRET], MESSAGE)) for n in range(40)]
        try:
            while not asked.is_set():
                await asyncio.sleep(0)
            assert await asyncio.wait_for(asyncio.to_thread(int, "7"), 5) == 7
        finally:
            released.set()
            outcomes = await asyncio.gather(*sends)
    assert {outcome.failure for outcome in outcomes} == {"name not found"}


def test_a_process_ends_while_a_name_server_hangs() -> None:
    """The process ends at once, without waiting for the name server."""
    program = """
import asyncio, socket, threading
from gateway.webhooks.delivery import Delivery
from gateway.webhooks.messages import trial_message
socket.getaddrinfo = lambda *_, **__: threading.Event().wait()
async def main():
    delivery = Delivery(seconds=0.1, loopback=False)
    outcome = await delivery.send("http://slow.example/", ["whsec_" + "A" * 43 + "="], trial_message("app", 0))
    await delivery.close()
    print(outcome.failure)
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "timeout\n", "")


async def test_a_message_arrives_signed_with_each_secret(receiver: Receiver) -> None:
    """While a secret is being replaced, a receiver with either secret accepts the message."""
    other = "whsec_" + "B" * 43 + "="
    async with open_delivery() as delivery:
        for receiver.secret in (SECRET, other):
            outcome = await delivery.send(receiver.url, [SECRET, other], MESSAGE)
            assert outcome.is_delivered
    assert {each.message_id for each in receiver.received} == {MESSAGE.message_id}
    assert receiver.received[0].document["type"] == "webhook.test"


@pytest.mark.parametrize(
    ("answer", "hangs", "failure", "wait"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", True, "", None),
        (b"HTTP/1.1 503 Away\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n", False, "status 503", 120),
        (b"HTTP/1.1 429 Slow\r\nRetry-After: 999999\r\nContent-Length: 0\r\n\r\n", False, "status 429", 3600),
        (b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", False, "status 410", None),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            False,
            "status 301",
            None,
        ),
        (b"", True, "timeout", None),
        (b"", False, "no answer", None),
        (b"nonsense\r\n\r\n", False, "no http", None),
        (b"HTTP/1.1 103 Hint\r\n\r\n" * 2 + b"HTTP/1.1 204 Taken\r\n\r\n", True, "", None),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + b"HTTP/1.1 204 Taken\r\n\r\n", True, "no http", None),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 40_000 + b"\r\n\r\n", False, "no http", None),
    ],
)
async def test_what_a_server_answers_is_an_outcome(answer: bytes, hangs: bool, failure: str, wait: int | None) -> None:
    """2xx is taken, however long its body; a redirect is not followed; silence ends; nothing it does raises."""
    async with (
        open_delivery(seconds=0.3 if not answer and hangs else 10) as delivery,
        answering(answer, hangs=hangs) as url,
    ):
        outcome = await delivery.send(url, [SECRET], MESSAGE)
    assert (outcome.failure, outcome.retry_after_seconds) == (failure, wait)
    assert outcome.is_gone == ("410" in failure)


async def test_nobody_there_is_an_outcome() -> None:
    """A closed port, a name that does not exist, TLS to a plain-text server."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with open_delivery() as delivery, answering(b"plain") as plain:
            urls = (f"http://127.0.0.1:{port}/", "https://name.invalid/", plain.replace("http", "https"))
            outcomes = [await delivery.send(url, [SECRET], MESSAGE) for url in urls]
    assert [outcome.failure for outcome in outcomes[:2]] == ["not reached", "name not found"]
    assert outcomes[2].failure


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
async def test_no_notation_of_a_private_address_is_connected_to(receiver: Receiver, host: str) -> None:
    """The address of the socket is checked, whatever the URL or the resolved name."""
    async with open_delivery(loopback=False) as delivery:
        outcome = await delivery.send(f"http://{host}:{receiver.port}/hooks?app=1", [SECRET], MESSAGE)
    # Some are no host to the HTTP client already.
    assert outcome.failure == ("no http" if host in ("127.1", "2130706433") else "private address")
    assert receiver.received == []


async def test_a_name_with_changing_addresses_leads_nowhere(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: a name is looked up once a try, and what that gives is what is checked and used."""
    loop = asyncio.get_running_loop()
    answers = iter(["1.1.1.1", "127.0.0.1", "127.0.0.1"])
    asked: list[str] = []

    def rebound(host: str, port: int, *_: object, **_options: object) -> list[tuple[object, ...]]:
        asked.append(address := next(answers))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    connected: list[object] = []

    async def connect(_: socket.socket, place: object) -> None:
        connected.append(place)
        raise OSError("this test reaches nobody")

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    monkeypatch.setattr(loop, "sock_connect", connect)
    async with open_delivery(loopback=False) as delivery:
        failures = [
            (await delivery.send(f"http://rebound.example:{receiver.port}/", [SECRET], MESSAGE)).failure
            for _ in range(2)
        ]
    assert failures == ["not reached", "private address"]
    assert asked == ["1.1.1.1", "127.0.0.1"]
    assert connected == [("1.1.1.1", receiver.port)]


async def test_a_try_takes_no_longer_than_it_may(receiver: Receiver) -> None:
    """An app that accepts a webhook and never answers is cut off at the deadline."""
    receiver.secret = SECRET
    receiver.gate.clear()
    began = time.monotonic()
    async with open_delivery(seconds=0.3) as delivery:
        assert (await delivery.send(receiver.url, [SECRET], MESSAGE)).failure == "timeout"
    assert time.monotonic() - began < 5
