"""A blocking client on one connection that times each answer and keeps its bytes."""

import json
import re
import socket
import time
from dataclasses import dataclass
from typing import Self

from benchmarks.proxy.processes import BenchFailed
from benchmarks.proxy.stand_in import PATH

_SENTENCE = "Please say something nice about this fine morning, will you? "
_READ_BYTES = 256 * 1024
_PATIENCE_SECONDS = 60
_ID = re.compile(rb"gen-\d{12}")


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """One answer: its decoded body, and the seconds until its first and last byte."""

    status: int
    body: bytes
    first_seconds: float
    seconds: float

    @property
    def without_id(self) -> bytes:
        """The body without the generation id, which is unique to each answer."""
        return _ID.sub(b"gen-", self.body)


def body_of(*, stream: bool, prompt_bytes: int = 60, model: str = "bench/model") -> bytes:
    """Return the body of a chat completion whose prompt has about the given number of bytes."""
    prompt = _SENTENCE * max(1, round(prompt_bytes / len(_SENTENCE)))
    fields = {"model": model, "max_tokens": 64, "stream": stream, "messages": [{"role": "user", "content": prompt}]}
    return json.dumps(fields, separators=(",", ":")).encode()


def head_of(key: str, user: str, size: int, path: str = PATH) -> bytes:
    """Return the head of a request with a body of `size` bytes."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nx-wattfare-user: {user}\r\nContent-Length: {size}\r\n\r\n"
    ).encode()


def ask(port: int, body: bytes, *, key: str, user: str = "u0", path: str = PATH) -> ProbeAnswer:
    """Send one request on a new connection. Raises BenchFailed."""
    with ProbeConnection(port, key, path) as caller:
        return caller.ask(body, user)


class ProbeConnection:
    """A keep-alive connection. A blocking socket, to keep the client's own latency minimal."""

    def __init__(self, port: int, key: str, path: str = PATH) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _PATIENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._key, self._path = key, path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, body: bytes, user: str = "u0") -> ProbeAnswer:
        """Send one request and read the whole answer. Raises BenchFailed when it is cut off."""
        request = head_of(self._key, user, len(body), self._path) + body
        started = time.perf_counter()
        self._socket.sendall(request)
        got = self._receive()
        first = time.perf_counter()
        while (done := _whole(got)) is None:
            got += self._receive()
        ended = time.perf_counter()
        return ProbeAnswer(done[0], done[1], first - started, ended - started)

    def _receive(self) -> bytes:
        got = self._socket.recv(_READ_BYTES)
        if not got:
            raise BenchFailed("a connection was closed in the midst of an answer")
        return got


def _whole(got: bytes) -> tuple[int, bytes] | None:
    """Return status and body if the answer is complete."""
    head, end, rest = got.partition(b"\r\n\r\n")
    if not end:
        return None
    status = int(head[9:12])
    size = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if size is not None:
        return (status, rest) if len(rest) >= int(size[1]) else None
    return (status, _unchunked(rest)) if rest.endswith(b"0\r\n\r\n") else None


def _unchunked(rest: bytes) -> bytes:
    parts: list[bytes] = []
    while True:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        if length == 0:
            return b"".join(parts)
        parts.append(rest[:length])
        rest = rest[length + 2 :]
