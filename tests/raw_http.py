"""A client that sends raw bytes with timeouts, a strict parser of answers, and h11's count of requests.

A server that sees more requests than h11 does has taken a part of a body for a request.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TypeVar

import h11
import httptools

_PATIENCE_SECONDS = 10
# How long the client waits for an answer to a possibly incomplete request before it closes its side.
_HALF_SECONDS = 0.05

Opened = TypeVar("Opened")


class Answers:
    """The final answers in received bytes, without 1xx. Raises httptools.HttpParserError for invalid HTTP."""

    def __init__(self, raw: bytes) -> None:
        self.statuses: list[int] = []
        self.closes = False
        """Whether an answer closes the connection."""
        self.unfinished = 0
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(raw)

    def on_message_begin(self) -> None:
        """Count a started answer."""
        self.unfinished += 1

    def on_headers_complete(self) -> None:
        """Store its status."""
        status = self._parser.get_status_code()
        if status >= 200:
            self.statuses.append(status)
            self.closes |= not self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """Count it as complete."""
        self.unfinished -= 1


def requests_in(raw: bytes) -> tuple[int, bool]:
    """Return how many complete requests the bytes contain, and whether they contain nothing else."""
    count = 0
    while rest := raw.lstrip(b"\r\n"):
        peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        peer.receive_data(rest)
        peer.receive_data(b"")
        try:
            while not isinstance(peer.next_event(), h11.EndOfMessage):
                pass
        except h11.RemoteProtocolError:
            return count, False
        count += 1
        # Whether the connection is kept is decided by the server.
        raw = peer.trailing_data[0]
    return count, True


def answers_to(port: int, raw: bytes, *, is_whole: bool) -> bytes:
    """Send bytes, and return everything received until the server closes. Raises TimeoutError if it does not.

    `is_whole`: the bytes end with a complete request, so the server need not wait for more.
    """
    came = bytearray()

    def take() -> None:
        while piece := client.recv(1 << 16):
            came.extend(piece)

    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_SECONDS) as client:
        try:
            client.sendall(raw)
            client.settimeout(_PATIENCE_SECONDS if is_whole else _HALF_SECONDS)
            take()
        except TimeoutError:
            if is_whole:
                raise
            client.settimeout(_PATIENCE_SECONDS)
            client.shutdown(socket.SHUT_WR)
            take()
        except ConnectionError:
            # A server that has refused closes at once, perhaps before it has read all.
            pass
    return bytes(came)


@contextlib.contextmanager
def in_a_thread(opened: Callable[[], AbstractAsyncContextManager[Opened]]) -> Iterator[Opened]:
    """Run what serves in a thread with an event loop of its own, so that a test may block; yields what it yields."""
    ready = threading.Event()
    found: list[Opened] = []
    ends: list[Callable[[], object]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        ends.append(partial(asyncio.get_running_loop().call_soon_threadsafe, stop.set))
        async with opened() as serving:
            found.append(serving)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(_PATIENCE_SECONDS)
        yield found[0]
    finally:
        ends[0]()
        thread.join()
