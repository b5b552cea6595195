"""How an answer is framed for the caller."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import HttpVersion

from gateway.call import Call
from gateway.metered.answer import Answer
from gateway.metered.headers import passed_lines


class _Transport:
    """Keeps each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_lost = False

    def is_closing(self) -> bool:
        return self.is_lost

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    @staticmethod
    def get_write_buffer_size() -> int:
        return 0


def _answer(
    transport: _Transport, headers: Iterable[tuple[str, str]] = (), *, minor: int = 1, status: int = 200
) -> Answer:
    pairs = list(headers)
    first = {name.lower(): value for name, value in reversed(pairs)}.get
    message = SimpleNamespace(version=HttpVersion(1, minor), should_close=minor == 0)
    call = SimpleNamespace(message=message, connection=SimpleNamespace(transport=transport))
    return Answer(
        cast("Call", call), status, passed_lines([f"{name}: {value}".encode() for name, value in pairs]), first
    )


def test_a_whole_answer_is_one_write_with_its_length() -> None:
    """Head and body are one write, and the connection is kept."""
    transport = _Transport()
    answer = _answer(transport, [("Content-Length", "2")])
    answer.send(b"hi", is_last=True)
    [written] = transport.writes
    assert written.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: ")
    assert written.endswith(b"\r\n\r\nhi")
    assert answer.keeps_alive


def test_pieces_of_unknown_length_are_chunks() -> None:
    """The head is written with the first piece, even an empty one; the end is a zero-length chunk."""
    transport = _Transport()
    answer = _answer(transport, [("Content-Type", "text/event-stream")])
    answer.send(b"", is_last=False)
    answer.send(b"data: 1\n\n", is_last=False)
    assert not answer.keeps_alive
    answer.send(b"x", is_last=True)
    head, *rest = transport.writes
    assert b"Transfer-Encoding: chunked\r\n" in head
    assert head.endswith(b"\r\n\r\n")
    assert rest == [b"9\r\ndata: 1\n\n\r\n", b"1\r\nx\r\n0\r\n\r\n"]
    assert (answer.is_event_stream, answer.keeps_alive) == (True, True)


def test_an_old_client_reads_to_the_end_of_the_connection() -> None:
    """HTTP/1.0 has no chunked coding, so the end of the connection ends the body."""
    transport = _Transport()
    answer = _answer(transport, minor=0)
    answer.send(b"hi", is_last=True)
    assert transport.writes[0].startswith(b"HTTP/1.0 200 OK\r\n")
    assert transport.writes[0].endswith(b"\r\n\r\nhi")
    assert b"chunked" not in transport.writes[0]
    assert not answer.keeps_alive


def test_an_answer_without_a_body_has_no_frame_for_one() -> None:
    """204 has neither length nor chunks (RFC 9110 §15.3.5)."""
    transport = _Transport()
    _answer(transport, status=204).send(b"", is_last=True)
    assert transport.writes[0].endswith(b"\r\n\r\n")
    assert b"chunked" not in transport.writes[0]


def test_a_caller_who_is_gone_is_said_to_be() -> None:
    """ConnectionResetError, as from any writer."""
    transport = _Transport()
    transport.is_lost = True
    with pytest.raises(ConnectionResetError):
        _answer(transport).send(b"hi", is_last=True)


def test_a_line_break_in_a_header_is_never_sent() -> None:
    """It would begin a header, or an answer, of somebody else's."""
    transport = _Transport()
    with pytest.raises(ValueError, match="line break"):
        _answer(transport, [("X-A", "1\r\nX-B: 2")]).send(b"", is_last=True)
    assert transport.writes == []
