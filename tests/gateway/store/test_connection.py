"""One connection: one write for each loop turn, replies in order, and an error for all pending calls at its end."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.store.connection import LOST, Access, Lost, Pipe, Place, connect, pack
from tests.peers import Peer
from tests.servers import ValkeyServer
from tests.tls import open_relay

_SECONDS = 10


@pytest.fixture
async def pipe(peer: Peer) -> AsyncIterator[Pipe]:
    """A connection to it."""
    made = await connect(peer.place.find, Access(), Pipe)
    yield made
    made.close()


def asked(pipe: Pipe, *words: str) -> "asyncio.Future[Any]":
    """Send a command as a request does."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    pipe.send(pack(words), answer)
    return answer


async def test_the_commands_of_a_turn_leave_in_one_write(peer: Peer, pipe: Pipe) -> None:
    """And their answers come back in order, however they are cut."""
    answers = [asked(pipe, "ECHO", str(number)) for number in range(100)]
    await peer.got(b"99")
    assert len(peer.reads) == 1
    raw = b"".join(b"$%d\r\n%d\r\n" % (len(str(number)), number) for number in range(100))
    for place in range(0, len(raw), 7):
        peer.answer(raw[place : place + 7])
        await asyncio.sleep(0)
    async with asyncio.timeout(_SECONDS):
        assert await asyncio.gather(*answers) == [str(number).encode() for number in range(100)]
    assert pipe.asked_since is None


async def test_who_leaves_keeps_his_place_in_the_queue(peer: Peer, pipe: Pipe) -> None:
    """The late answer is dropped, and the next caller gets his own."""
    first, given_up = asked(pipe, "GET", "a"), asked(pipe, "GET", "b")
    first.cancel()
    pipe.give_up()
    assert await given_up is LOST
    third = asked(pipe, "GET", "third")
    await peer.got(b"third")
    peer.answer(b"+first\r\n+second\r\n+third\r\n")
    async with asyncio.timeout(_SECONDS):
        assert await third == b"third"


@pytest.mark.parametrize("word", [b"-ERR unasked\r\n", b"HTTP/1.1 400 Bad Request\r\n", b""], ids=repr)
async def test_a_peer_that_says_what_nobody_asked_for_is_left(peer: Peer, pipe: Pipe, word: bytes) -> None:
    """After an unexpected reply or the end of the connection, all pending calls fail."""
    waiting = asked(pipe, "GET", "a")
    await peer.got(b"GET")
    peer.answer(b"+answer\r\n")
    async with asyncio.timeout(_SECONDS):
        assert await waiting == b"answer"
        if word:
            peer.answer(word)
        else:
            waiting = asked(pipe, "GET", "b")
            peer.hang_up()
            assert await waiting is LOST
        while not pipe.is_lost:
            await asyncio.sleep(0)
    assert not await pipe.flushed()


async def test_flushed_means_that_the_kernel_has_it(peer: Peer, pipe: Pipe) -> None:
    """A peer that reads nothing for a while fills the socket: what is left here is not sent."""
    assert await pipe.flushed()
    peer.may_read.clear()
    asked(pipe, "SET", "a", "x" * 20_000_000)
    flushing = asyncio.ensure_future(pipe.flushed())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not flushing.done()
    peer.may_read.set()
    async with asyncio.timeout(_SECONDS):
        assert await flushing


async def test_what_is_not_flushed_when_the_server_is_given_up_is_told(peer: Peer, pipe: Pipe) -> None:
    """Waiting for the kernel's send buffer has the same deadline as a reply."""
    peer.may_read.clear()
    asked(pipe, "SET", "a", "x" * 20_000_000)
    flushing = asyncio.ensure_future(pipe.flushed())
    for _ in range(20):
        await asyncio.sleep(0)
    pipe.give_up()
    assert await flushing is False
    peer.may_read.set()


async def test_over_tls_a_flush_waits_for_no_reply_and_for_its_own_bytes(peer: Peer, tmp_path: Path) -> None:
    """Neither does a second command, sent in the turn after the first was written, count as flushed with it."""
    loop = asyncio.get_running_loop()
    async with open_relay(Path(peer.place.path), tmp_path) as relay:
        access = Access(tls=ssl.create_default_context(cafile=relay.ca_file))
        pipe = await connect(Place("127.0.0.1", relay.port).find, access, Pipe)

        def ask_and_look(seen: "asyncio.Future[tuple[bool, list[bytes]]]") -> None:
            asked(pipe, "GET", "a")
            pipe.when_flushed(lambda is_flushed: seen.set_result((is_flushed, pipe._out)))

        for _ in range(3):
            first, second = loop.create_future(), loop.create_future()
            loop.call_soon(loop.call_soon, ask_and_look, second)
            ask_and_look(first)
            async with asyncio.timeout(_SECONDS):
                assert (await first)[0]
                assert await second == (True, [])
        pipe.close()


async def test_commands_that_no_request_waits_for_do_not_count_as_asked(peer: Peer, pipe: Pipe) -> None:
    """A slow beat is no outage."""
    beating = asyncio.ensure_future(pipe.ask(pack(("PING",))))
    await peer.got(b"PING")
    seen = [pipe.asked_since]
    asked(pipe, "GET", "a")
    seen.append(pipe.asked_since)
    assert [since is None for since in seen] == [True, False]
    peer.hang_up()
    with pytest.raises(Lost):
        await beating


async def test_who_we_are_is_said_first() -> None:
    """User, password and database come first; a wrong one is an error, a refused CLIENT SETNAME is ignored."""
    with ValkeyServer(options=("--requirepass", "secret")) as server:
        place = Place(path=str(server.folder / "s"))
        for access in (Access(), Access(password="wrong"), Access(password="secret", db=99)):
            with pytest.raises(Lost):
                await connect(place.find, access, Pipe)
        pipe = await connect(place.find, Access("default", "secret", 3), Pipe)
        assert b"db=3" in await pipe.ask(pack(("CLIENT", "INFO")))
        await pipe.ask(pack(("ACL", "SETUSER", "shy", "on", ">pass", "~*", "+get", "+auth")))
        pipe.close()
        shy = await connect(place.find, Access("shy", "pass"), Pipe)
        assert await shy.ask(pack(("GET", "k"))) is None
        shy.close()


async def test_a_place_where_nobody_listens_is_lost() -> None:
    """A refused connection fails with a short reason for the log."""
    with pytest.raises(Lost, match="FileNotFoundError"):
        await connect(Place(path="/nowhere").find, Access(), Pipe)
