"""Opens slow streams, for the rows on open holds and on memory."""

import contextlib
import socket
from collections.abc import Iterator

from benchmarks.proxy.contender import Contender
from benchmarks.proxy.probe import body_of, head_of
from benchmarks.proxy.processes import BenchFailed
from benchmarks.proxy.stand_in import StandIn

# Streams opened concurrently; each must have its first chunk before the next batch starts.
_BATCH = 50
_PATIENCE_SECONDS = 120
_FIRST_CHUNK, _LAST_CHUNK = b"data: ", b"data: [DONE]"


@contextlib.contextmanager
def open_streams(contender: Contender, upstream: StandIn, count: int, *, users: int) -> Iterator[None]:
    """Yield while `count` streams of the users u0 … are open; afterwards let them end, and read each to its end.

    Raises BenchFailed when one was refused or broke off.
    """
    opened: list[tuple[socket.socket, bytearray]] = []
    try:
        while len(opened) < count:
            batch = [
                _ask(contender, (len(opened) + number) % users) for number in range(min(_BATCH, count - len(opened)))
            ]
            opened += batch
            for each in batch:
                _read_until(*each, _FIRST_CHUNK)
        yield
        if count:
            upstream.release()
        for each in opened:
            _read_until(*each, _LAST_CHUNK)
    finally:
        for connection, _ in opened:
            connection.close()


def _ask(contender: Contender, user: int) -> tuple[socket.socket, bytearray]:
    body = body_of(stream=True, model="bench/slow")
    connection = socket.create_connection(("127.0.0.1", contender.port), _PATIENCE_SECONDS)
    connection.sendall(head_of(contender.key, f"u{user}", len(body)) + body)
    return connection, bytearray()


def _read_until(connection: socket.socket, got: bytearray, what: bytes) -> None:
    while what not in got:
        piece = connection.recv(65536)
        got += piece
        if not piece or not got.startswith(b"HTTP/1.1 200"):
            raise BenchFailed(f"a slow stream broke off or was refused: {bytes(got[:300])!r}")
