"""Whether one Redis server answers, and how long a call waits to find out."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.store.connection import LOST, Access, Lost, pack
from gateway.store.server import Server
from tests.lateness import watched
from tests.peers import Peer

_DEADLINE_SECONDS = 0.05
_SLACK_SECONDS = 0.1
_SECONDS = 10
_GET = pack(("GET", "a"))


@pytest.fixture
async def server(peer: Peer) -> AsyncIterator[Server]:
    """A checked connection to it."""
    made = Server(peer.place.find, access=Access(), deadline_seconds=_DEADLINE_SECONDS)
    made.serve(True)
    await made.connect()
    made.found()
    yield made
    made.close()
    await asyncio.sleep(0)


def asked(server: Server) -> "asyncio.Future[Any]":
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    assert server.pipe is not None
    server.pipe.send(_GET, answer)
    return answer


async def test_a_server_that_answers_nobody_is_away_after_the_deadline(server: Server) -> None:
    """One log line, however many calls fail."""
    with capture_logs() as lines:
        async with watched() as late:
            started = time.monotonic()
            assert await asyncio.gather(*(asked(server) for _ in range(300))) == [LOST] * 300
            took = time.monotonic() - started
        assert (server.is_away, server.is_open) == (True, False)
    assert _DEADLINE_SECONDS <= took < _DEADLINE_SECONDS + _SLACK_SECONDS + late.seconds
    assert [line["event"] for line in lines] == ["store_away"]


async def test_a_server_that_answers_others_is_busy_and_waited_for(peer: Peer, server: Server) -> None:
    """As long as somebody is answered, a long queue is no outage."""
    answers = [asked(server) for _ in range(12)]
    await peer.got(_GET)
    with capture_logs() as lines:
        for _ in range(12):
            await asyncio.sleep(_DEADLINE_SECONDS / 3)
            peer.answer(b"+OK\r\n")
        assert await asyncio.gather(*answers) == [b"OK"] * 12
    assert lines == []


async def test_silence_after_an_answer_counts_from_that_answer(peer: Peer, server: Server) -> None:
    """The deadline restarts with each reply, and does not run from the first pending call."""
    first, second = asked(server), asked(server)
    await peer.got(_GET)
    await asyncio.sleep(_DEADLINE_SECONDS / 2)
    peer.answer(b"+OK\r\n")
    assert await first == b"OK"
    started = time.monotonic()
    assert await second is LOST
    assert time.monotonic() - started >= _DEADLINE_SECONDS * 0.9


async def test_what_this_machine_is_late_by_is_not_held_against_redis(peer: Peer, server: Server) -> None:
    """An answer that waited in the socket for three deadlines is taken in."""
    answers = [asked(server) for _ in range(3)]
    await peer.got(_GET)
    peer.answer(b"+OK\r\n" * 3)
    with capture_logs() as lines:
        for _ in range(3):
            time.sleep(3 * _DEADLINE_SECONDS)  # noqa: ASYNC251 - the point
            await asyncio.sleep(0)
        assert await asyncio.gather(*answers) == [b"OK"] * 3
    assert lines == []


async def test_who_waits_for_a_connection_is_told_within_the_deadline(server: Server) -> None:
    """Calls that wait for a connection fail at the deadline, or at once if the outage is found otherwise."""
    server.drop()
    async with asyncio.timeout(_SECONDS):
        await server.decided()
        assert server.is_away
        await server.connect()
        server.found()
        server.drop()
        waiting = asyncio.ensure_future(server.decided())
        await asyncio.sleep(0)
        server.lost("ConnectionRefusedError")
        await waiting
    assert server.is_away


async def test_nobody_waits_for_what_nobody_asked(server: Server) -> None:
    """A connection that ended without pending calls is not an outage."""
    with capture_logs() as lines:
        server.drop()
        await asyncio.sleep(2 * _DEADLINE_SECONDS)
        await server.connect()
        server.found()
    assert (server.is_open, lines) == (True, [])


async def test_the_end_of_an_outage_is_told_once(server: Server) -> None:
    """A second good sign is no second end."""
    server.lost("gone")
    with capture_logs() as lines:
        server.found()
        server.found()
    assert [line["event"] for line in lines] == ["store_back"]
    assert server.is_open


async def test_who_holds_no_keys_is_missed_by_nobody(server: Server) -> None:
    """A node without slots causes no log line; calls sent to it fail at once."""
    with capture_logs() as lines:
        server.serve(False)
        assert await asked(server) is LOST
    assert (lines, server.is_away, server.pipe) == ([], False, None)


async def test_one_that_is_replaced_is_away_no_longer(server: Server) -> None:
    """Unanswered calls are sent to the node that has their keys now."""
    waiting = asked(server)
    server.lost("gone")
    with capture_logs() as lines:
        server.serve(False)
    assert await waiting is LOST
    assert [line["event"] for line in lines] == ["store_back"]
    server.serve(True)
    assert not server.is_open


async def test_the_old_connection_is_closed_before_the_new_one_is_made(peer: Peer, server: Server) -> None:
    """Recovery needs no place at the server while it still holds one."""
    for _ in range(20):
        server.drop()
        await server.connect()
        await asyncio.gather(*(server.connect() for _ in range(5)))
    assert (peer.accepted, peer.most_open) == (21, 1)
    server.close()
    with pytest.raises(Lost):
        await server.connect()


async def test_an_outage_is_felt_for_as_long_as_it_lasted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty seconds at most; a short one after a long one does not end the feeling."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert server.recovery_seconds == 0
    for away_seconds, felt_seconds in ((300.0, 20.0), (0.5, 19.5)):
        server.lost("gone")
        now += away_seconds
        server.found()
        assert server.recovery_seconds == pytest.approx(felt_seconds)
    now += 20
    assert server.recovery_seconds == 0


async def test_who_waits_for_a_server_that_answers_its_proof_waits_on(peer: Peer, server: Server) -> None:
    """The server is up and slow: each reply restarts the deadline."""
    server.drop()
    waiting = asyncio.ensure_future(server.decided())
    pipe = await server.connect()
    proofs = [asyncio.ensure_future(pipe.ask(_GET)) for _ in range(9)]
    await peer.got(_GET)
    with capture_logs() as lines:
        for proof in proofs:
            await asyncio.sleep(_DEADLINE_SECONDS / 3)
            peer.answer(b"+OK\r\n")
            await proof
        server.found()
        await waiting
    assert (lines, server.is_open) == ([], True)
