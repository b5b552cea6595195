"""One connection to one Redis server: the commands of a loop turn leave in one write, answers come back in order.

Rule: every command has a place in the queue of answers, and keeps it when its caller has given up or left.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, cast

import hiredis

Arg = str | int | bytes
Reply = Any  # What Redis answers depends on the command; each caller knows its own.

# By this an operator knows us in CLIENT LIST.
CLIENT_NAME = "wattfare"
# An address that nobody answers at, or a peer that never ends the TLS handshake.
_CONNECT_SECONDS = 2.0
# hiredis's own stub takes one word only.
pack = cast("Callable[[tuple[Arg, ...]], bytes]", hiredis.pack_command)
_ASKING = pack(("ASKING",))


class Lost(Exception):
    """The server did not answer: why, in a word for the log."""


class Ended(Lost):
    """The connection ended before the answer came."""


class _LostReply:
    """Stands in the place of a reply that will not come."""


LOST: Final = _LostReply()


class Sink(Protocol):
    """What a reply goes to: a future, or a post of the outbox."""

    def done(self) -> bool:
        """Tell whether nobody waits any more."""

    def set_result(self, result: Reply, /) -> None:
        """Take the reply: Redis's own, a hiredis.ReplyError, or LOST."""


class _Nobody:
    """Takes the reply of a command whose outcome the next command tells."""

    @staticmethod
    def done() -> bool:
        return True

    def set_result(self, result: Reply, /) -> None:
        """Not called."""


class _Patient(asyncio.Future[Reply]):
    """The reply of a command that no request waits for."""


_NOBODY = _Nobody()
_UNHURRIED = frozenset({_Nobody, _Patient})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens: a host and port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    async def find(self) -> "Place":
        """Return it: a fixed place is found where it is."""
        return self


@dataclass(frozen=True, slots=True)
class Access:
    """How to get in."""

    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: ssl.SSLContext | None = None

    def greeting(self) -> list[tuple[Arg, ...]]:
        """Return the commands that come before any other."""
        words: list[tuple[Arg, ...]] = []
        if self.password is not None:
            words.append(("AUTH", *([self.username] if self.username else []), self.password))
        if self.db:
            words.append(("SELECT", self.db))
        return [*words, ("CLIENT", "SETNAME", CLIENT_NAME)]


Find = Callable[[], Awaitable[Place]]
"""Tells where a server is now (a Sentinel group's master changes). Raises whatever keeps it from that."""


class Pipe(asyncio.Protocol):
    """The connection. `owner` is told when it has ended, before those who wait are."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._out: list[bytes] = []
        self._waiting: deque[Sink] = deque()
        self._unhurried = 0
        self._flushing: list[asyncio.Future[bool]] = []
        self._is_paused = False
        self.since = 0.0
        """When (monotonic) the server said something last, or was asked first since then."""
        self.is_lost = False
        self.place = Place()
        self.owner: Owner | None = None

    # -- for those who ask ------------------------------------------------------------------------------

    def send(self, packed: bytes, sink: Sink) -> None:
        """Send one command with what else is sent in this loop turn; its reply goes to `sink`."""
        if not self._out:
            self._loop.call_soon(self._flush)
        if len(self._waiting) == self._unhurried:
            self.since = time.monotonic()
        self._out.append(packed)
        self._waiting.append(sink)

    def send_asking(self, packed: bytes, sink: Sink) -> None:
        """Send a command for a slot that is on its way to this server: ASKING holds for the next command alone."""
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

    async def flushed(self) -> bool:
        """Wait until all that was sent is with the kernel; False when the server is away before that."""
        if not self._out and not self._is_paused:
            return not self.is_lost
        done: asyncio.Future[bool] = self._loop.create_future()
        self._flushing.append(done)
        return await done

    @property
    def asked_since(self) -> float | None:
        """Since when (monotonic) requests wait without a word of the server; None when none waits."""
        return None if len(self._waiting) == self._unhurried else self.since

    def give_up(self) -> None:
        """Tell all callers that no answer came in time. Their places stay, and late answers are dropped."""
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
        # A write goes to the kernel at once, and whether bytes are left behind is told by pause_writing.
        self._transport.set_write_buffer_limits(high=0)
        self._is_tls = transport.get_extra_info("ssl_object") is not None

    def data_received(self, data: bytes) -> None:
        self.since = time.monotonic()
        waiting = self._waiting
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                sink = waiting.popleft()
                if self._unhurried and sink.__class__ in _UNHURRIED:
                    self._unhurried -= 1
                if not sink.done():
                    sink.set_result(reply)
        except (hiredis.HiredisError, IndexError):
            # No Redis, or one that says what nobody asked for.
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
        # A write that failed leaves a transport that is about to say so.
        if self._flushing and not self._is_paused and not self._transport.is_closing():
            if self._is_tls:
                # The transport below TLS may keep what it got until the end of this turn.
                self._loop.call_soon(self._tell_flushed, True)
            else:
                self._tell_flushed(True)

    def _tell_flushed(self, is_flushed: bool) -> None:
        flushing, self._flushing = self._flushing, []
        for done in flushing:
            if not done.done():
                done.set_result(is_flushed)

    def _end(self) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        if self.owner is not None:
            self.owner.disconnected(self)
        self._tell_flushed(False)
        waiting, self._waiting, self._unhurried = self._waiting, deque(), 0
        for sink in waiting:
            if not sink.done():
                sink.set_result(LOST)


class Owner(Protocol):
    """Whose connection it is."""

    def disconnected(self, pipe: Pipe) -> None:
        """Take note that it has ended."""


P = TypeVar("P", bound=Pipe)


async def connect(find: Find, access: Access, make: Callable[[], P], *, limit_seconds: float = _CONNECT_SECONDS) -> P:
    """Return a connection, as `make` makes it, on which who we are was said and accepted. Raises Lost."""
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
                # Whoever may not name himself may do the rest.
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
