"""A client of bare bytes: one that never waits for ever, a strict reader of answers, and a second opinion.

The second opinion is h11's: how many requests some bytes hold. A server that sees more takes a body for a request.
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
# How long a server may take over what may be half a request, before the client closes its side.
_HALF_SECONDS = 0.05

Opened = TypeVar("Opened")


class Answers:
    """The final answers in some bytes; 1xx are left out. Raises httptools.HttpParserError for what is no HTTP."""

    def __init__(self, raw: bytes) -> None:
        self.statuses: list[int] = []
        self.closes = False
        """Whether one of them said that it is the last."""
        self.unfinished = 0
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(raw)

    def on_message_begin(self) -> None:
        """Count an answer that began."""
        self.unfinished += 1

    def on_headers_complete(self) -> None:
        """Take its status."""
        status = self._parser.get_status_code()
        if status >= 200:
            self.statuses.append(status)
            self.closes |= not self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """Count it as whole."""
        self.unfinished -= 1


def requests_in(raw: bytes) -> tuple[int, bool]:
    """Return how many whole requests some bytes hold, and whether nothing else is in them."""
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
        # Whether the connection goes on is the server's to say.
        raw = peer.trailing_data[0]
    return count, True


def answers_to(port: int, raw: bytes, *, is_whole: bool) -> bytes:
    """Send bytes, and return all that comes back until the server closes. Raises TimeoutError when it never does.

    `is_whole`: they end with a whole request, so the server has no reason to wait for more.
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
