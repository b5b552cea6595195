"""One connection to one Redis server: the commands of a loop turn leave in one write, replies come back in order.

Rule: every command keeps its place in the queue of replies, even when its caller has given up or was cancelled.
"""

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, cast

import hiredis

from gateway.logs import log_bug

Arg = str | int | bytes
Reply = Any  # What Redis answers depends on the command; each caller knows its own.

# Our name in Redis's CLIENT LIST, for the operator.
CLIENT_NAME = "wattfare"
# Bounds a connect to an address that drops packets, and a peer that never finishes the TLS handshake.
_CONNECT_SECONDS = 2.0
# The type stub of hiredis.pack_command declares a single argument.
pack = cast("Callable[[tuple[Arg, ...]], bytes]", hiredis.pack_command)
_ASKING = pack(("ASKING",))


class Lost(Exception):
    """The server did not answer. The message is the reason for the log."""


class Ended(Lost):
    """The connection ended before the reply came."""


class _LostReply:
    """Takes the place of a reply that will not come."""


LOST: Final = _LostReply()


class Sink(Protocol):
    """What receives a reply: a future, or a post of the outbox."""

    def set_result(self, result: Reply, /) -> None:
        """Take the reply: Redis's own, a hiredis.ReplyError, or LOST.

        Raises asyncio.InvalidStateError if nobody waits for it any more.
        """


class _Nobody:
    """Drops the reply of a command such as ASKING or SCRIPT LOAD: if it fails, the next command reports it."""

    def set_result(self, result: Reply, /) -> None:
        """Drop it."""


class _Patient(asyncio.Future[Reply]):
    """The reply of a command that no request waits for: the watchdog ignores how late it is."""


_NOBODY = _Nobody()
_UNHURRIED = frozenset({_Nobody, _Patient})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens: a host and port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    async def find(self) -> "Place":
        """Return itself: the address is fixed."""
        return self


@dataclass(frozen=True, slots=True)
class Access:
    """Credentials, database number and TLS of a server."""

    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: ssl.SSLContext | None = None

    def greeting(self) -> list[tuple[Arg, ...]]:
        """Return the commands that log in, to be sent before any other."""
        words: list[tuple[Arg, ...]] = []
        if self.password is not None:
            words.append(("AUTH", *([self.username] if self.username else []), self.password))
        if self.db:
            words.append(("SELECT", self.db))
        return [*words, ("CLIENT", "SETNAME", CLIENT_NAME)]


Find = Callable[[], Awaitable[Place]]
"""Resolves a server's address now (a Sentinel group's master changes). May raise any exception."""


class Pipe(asyncio.Protocol):
    """The connection. When it ends, `owner.disconnected` is called first, then every waiting sink gets LOST."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._out: list[bytes] = []
        self._waiting: deque[Sink] = deque()
        self._unhurried = 0
        self._flushing: list[Callable[[bool], None]] = []
        self._is_paused = False
        self.since = 0.0
        """When (monotonic) the server last sent bytes, or the first command after a time without any was sent."""
        self.is_lost = False
        self.place = Place()
        self.owner: Owner | None = None

    # -- for callers ------------------------------------------------------------------------------------

    def send(self, packed: bytes, sink: Sink) -> None:
        """Send one command, in one write with all others of this loop turn; its reply goes to `sink`."""
        if not self._out:
            self._loop.call_soon(self._flush)
        if len(self._waiting) == self._unhurried:
            self.since = time.monotonic()
        self._out.append(packed)
        self._waiting.append(sink)

    def send_asking(self, packed: bytes, sink: Sink) -> None:
        """Send a command for a slot that migrates to this server, after ASKING, which holds for one command."""
        self.send_unread(_ASKING)
        self.send(packed, sink)

    def send_unread(self, packed: bytes) -> None:
        """Send a command whose reply nobody reads."""
        self.send(packed, _NOBODY)
        self._unhurried += 1

    async def ask(self, packed: bytes, *, is_asking: bool = False) -> Reply:
        """Send a command that no request waits for; return its reply, which may be a ReplyError. Raises Lost."""
        answer = _Patient(loop=self._loop)
        (self.send_asking if is_asking else self.send)(packed, answer)
        self._unhurried += 1
        reply = await answer
        if reply is LOST:
            raise Ended("the connection was closed")
        return reply

    def when_flushed(self, call: Callable[[bool], None]) -> None:
        """Call `call` once everything sent is with the kernel: with False if the connection or server is lost first."""
        if not self._out and not self._is_paused:
            call(not self.is_lost)
        else:
            self._flushing.append(call)

    def flushed(self) -> Awaitable[bool]:
        """Wait until everything sent is with the kernel; return False when the connection or server is lost first."""
        done: asyncio.Future[bool] = asyncio.Future(loop=self._loop)
        self.when_flushed(resolving(done))
        return done

    @property
    def asked_since(self) -> float | None:
        """Since when (monotonic) requests wait without a byte from the server; None when none waits."""
        return None if len(self._waiting) == self._unhurried else self.since

    def give_up(self) -> None:
        """Answer all waiting callers with LOST. Their places in the queue stay, so late replies are dropped."""
        for sink in self._waiting:
            if sink.__class__ is asyncio.Future and not sink.done():
                sink.set_result(LOST)
        self._tell_flushed(False)

    def close(self) -> None:
        """End the connection now."""
        self._transport.abort()
        self._end()

    # -- for the event loop -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._is_tls = transport.get_extra_info("ssl_object") is not None
        # With a limit of 0 the transport pauses whenever the kernel did not accept all bytes. A TLS transport pauses at
        # its limit, not above: with 0 it would pause at every other write, until the reply to it.
        self._transport.set_write_buffer_limits(high=1 if self._is_tls else 0)

    def data_received(self, data: bytes) -> None:
        self.since = time.monotonic()
        waiting = self._waiting
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                sink = waiting.popleft()
                if self._unhurried and sink.__class__ in _UNHURRIED:
                    self._unhurried -= 1
                try:
                    sink.set_result(reply)
                except asyncio.InvalidStateError:
                    continue  # Its caller was cancelled, or has given up.
        except (hiredis.HiredisError, IndexError):
            # The peer is no Redis, or it sent a reply that no command asked for.
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._end()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        if not self._out:
            self._tell_flushed(True)

    def _flush(self) -> None:
        if self.is_lost:
            return
        out, self._out = self._out, []
        self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        # After a failed write the transport is closing, and connection_lost is about to be called.
        if self._flushing and not self._is_paused and not self._transport.is_closing():
            if self._is_tls:
                # Under TLS the raw transport may buffer the bytes until the end of this turn. Later commands are not
                # among them.
                flushing, self._flushing = self._flushing, []
                self._loop.call_soon(lambda: self._tell(flushing, not self.is_lost))
            else:
                self._tell_flushed(True)

    def _tell_flushed(self, is_flushed: bool) -> None:
        flushing, self._flushing = self._flushing, []
        self._tell(flushing, is_flushed)

    @staticmethod
    def _tell(flushing: list[Callable[[bool], None]], is_flushed: bool) -> None:
        for call in flushing:
            try:
                call(is_flushed)
            except Exception as bug:  # which must not keep the others waiting
                log_bug(bug)

    def _end(self) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        if self.owner is not None:
            self.owner.disconnected(self)
        self._tell_flushed(False)
        waiting, self._waiting, self._unhurried = self._waiting, deque(), 0
        for sink in waiting:
            with contextlib.suppress(asyncio.InvalidStateError):
                sink.set_result(LOST)


def resolving(done: asyncio.Future[bool]) -> Callable[[bool], None]:
    """Return a callback that resolves `done`, unless its waiter was cancelled."""
    return lambda is_so: None if done.done() else done.set_result(is_so)


class Owner(Protocol):
    """Owns a connection and is told when it ends."""

    def disconnected(self, pipe: Pipe) -> None:
        """Record that `pipe` has ended."""


P = TypeVar("P", bound=Pipe)


async def connect(find: Find, access: Access, make: Callable[[], P], *, limit_seconds: float = _CONNECT_SECONDS) -> P:
    """Return a logged-in connection of the class `make`, within `limit_seconds`. Raises Lost."""
    loop, pipe = asyncio.get_running_loop(), None
    try:
        async with asyncio.timeout(limit_seconds):
            place = await find()
            if place.path:
                _, pipe = await loop.create_unix_connection(make, place.path)
            else:
                _, pipe = await loop.create_connection(make, place.host, place.port, ssl=access.tls)
            for words in access.greeting():
                reply = await pipe.ask(pack(words))
                # An ACL may forbid CLIENT SETNAME (managed Redis often does); the name is not needed.
                is_name = words[0] == "CLIENT" and str(reply).startswith(("NOPERM", "ERR unknown"))
                if isinstance(reply, hiredis.ReplyError) and not is_name:
                    raise Lost(str(reply))
    except BaseException as fault:
        if pipe is not None:
            pipe.close()
        if isinstance(fault, Exception) and not isinstance(fault, Lost):
            raise Lost(type(fault).__name__) from None
        raise
    pipe.place = place
    return pipe
