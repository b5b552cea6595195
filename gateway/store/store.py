"""The way to Redis: scripts and commands within a deadline, posts that are kept until they were acknowledged.

Rule: a call answers, or raises Unavailable within the deadline. Nothing of Redis or its client leaves this room, but a
ResponseError that is the command's own fault.
Rule: a Redis that is empty or older than we left it is refused until an operator accepts it (`epoch`).
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Sequence
from functools import partial
from pathlib import Path

import hiredis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from gateway import redis_url
from gateway.errors import Unavailable
from gateway.redis_url import RedisUrl
from gateway.store import scripts
from gateway.store.beats import Beats
from gateway.store.cluster import HOPS, STRAIGHT, Cluster, Detour, One, Routes, detour, slot_of
from gateway.store.connection import LOST, Access, Arg, Lost, Place, Reply, pack
from gateway.store.epoch import Epoch, Memory
from gateway.store.outbox import OnReply, Outbox
from gateway.store.replies import read
from gateway.store.server import Server
from gateway.store.subscription import Subscription, subscribe

# One more try meets the connection that a restarted Redis closed.
_TRIES = 2
# Whoever waits for a server looks so often whether another has taken its place.
_LOOK_SECONDS = 0.1
# An operator's tool waits so long for one answer.
_PATIENCE_SECONDS = 10.0
# Sentinels are asked one after the other: a silent one must not outlast the beat that asks.
_ASKING = {"socket_timeout": 0.3, "socket_connect_timeout": 0.3, "retry": Retry(NoBackoff(), 0)}


class Store:
    """The way to one Redis: a server, a Sentinel group or a Cluster."""

    def __init__(self, url: RedisUrl, *, deadline_seconds: float, memory: Memory) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline_seconds = deadline_seconds
        self._scripts = scripts.load()
        self._access = Access(url.username, url.password, url.db, url.tls())
        self._sentinel = _sentinel(url) if url.kind == "sentinel" else None
        self._routes = self._routes_to(url)
        self._epoch = Epoch(self._routes.beat_keys)
        self._epoch.load(memory)
        self._beats = Beats(self._routes, self._epoch, self._scripts["beat"], on_beat=self._beaten)
        self._outbox = Outbox(self._routes, deadline_seconds=deadline_seconds, is_refused=self._beats.refuses)
        self._opening = asyncio.Event()

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        deadline_ms: int,
        memory: Memory | None = None,
        ca_file: Path | None = None,
        is_self_signed: bool = False,
    ) -> "Store":
        """Return a store on `url`. A Redis that is away now is met as soon as it is there.

        `memory` is what `Store.memory` gave an earlier process, if it was kept. `ca_file`: who signed the certificate
        of a Redis behind TLS; `is_self_signed`: nobody did, and it is not looked at.
        """
        parsed = redis_url.parse(url)
        if ca_file is not None:
            parsed = dataclasses.replace(parsed, ca_file=str(ca_file))
        if is_self_signed:
            parsed = dataclasses.replace(parsed, is_self_signed=True)
        store = cls(parsed, deadline_seconds=deadline_ms / 1000, memory=memory or {})
        with contextlib.suppress(Unavailable):
            await store.beat()
        store._beats.start()
        return store

    async def close(self) -> None:
        """End the background work and every connection. What is still posted is left to the sweeper."""
        self._outbox.close()
        await self._beats.close()
        if self._sentinel is not None:
            await asyncio.gather(*(client.aclose() for client in self._sentinel.sentinels), return_exceptions=True)
        # The event loop closes sockets in the turn after the one they were given up in.
        await asyncio.sleep(0)

    @property
    def memory(self) -> Memory:
        """What is known of this Redis, to be kept where it outlives the process."""
        return self._epoch.dump()

    @property
    def salt(self) -> bytes:
        """The installation's secret for short names; empty until Redis was met."""
        return self._beats.salt

    @property
    def is_open(self) -> bool:
        """Whether every server we know answers and is the one we knew."""
        is_here = not any(master.is_away for master in self._routes.masters)
        return self.salt != b"" and not self._beats.refuses() and is_here

    async def answers(self) -> bool:
        """Ask every server now; tell whether all answer and are the ones we knew."""
        try:
            for master in self._routes.masters:
                await self.call("EXISTS", self._routes.key_on(master))
        except Unavailable:
            return False
        return self.is_open

    @property
    def is_single(self) -> bool:
        """Whether one server holds every key, so that one connection keeps the order of all commands."""
        return isinstance(self._routes, One)

    @property
    def why_closed(self) -> str:
        """What keeps the store closed, for the operator."""
        return self._epoch.doubt or "Redis does not answer; check REDIS_URL"

    async def opened(self) -> None:
        """Wait until the store is open."""
        while not self.is_open:
            self._opening.clear()
            await self._opening.wait()

    async def beat(self, *, accept: bool = False) -> None:
        """Prove that Redis is there, is the one we knew and no older. Raises Unavailable.

        `accept` is the operator's word that this Redis is the truth from now on, whatever is missing in it.
        """
        await self._beats.beat(accept=accept)

    def recovery_seconds(self, key: str) -> float:
        """Return how long the last outage of the server that holds `key` may still be felt; 0 when that is over."""
        return self._routes.owner(slot_of(key)).recovery_seconds

    # -- calls --------------------------------------------------------------------------------------------

    async def run(
        self, script: str, key_names: Sequence[str], args: Sequence[Arg] = (), *, behind: str | None = None
    ) -> Reply:
        """Run the script of that name, after all that was posted on its first key's slot. Raises Unavailable.

        `behind`: where there is a single server, also after all that was posted on this key's slot.
        """
        known = self._scripts[script]
        also = slot_of(behind) if behind is not None and self.is_single else None
        return await self._answer(slot_of(key_names[0]), known.call(key_names, args), known.load, also)

    async def call(self, command: str, *args: Arg) -> Reply:
        """Run one command on the key `args[0]`, after all that was posted on its slot. Raises Unavailable."""
        packed = pack((command, *args))
        return read(command, await self._answer(slot_of(str(args[0])), packed))

    async def publish(self, channel: str, message: str) -> None:
        """Send `message` to every process that listens on `channel`. Raises Unavailable."""
        await self._answer(slot_of(channel), pack(("PUBLISH", channel, message)))

    async def each_key(self, pattern: str) -> AsyncIterator[str]:
        """Yield every key that matches, over all servers: for the operator's tools, never for a request."""
        for master in self._routes.masters:
            cursor: Arg = 0
            while cursor != b"0":
                cursor, found = await self._ask(master, "SCAN", cursor, "MATCH", pattern, "COUNT", 500)
                for key in found:
                    yield key.decode()

    async def about(self, section: str) -> list[dict[str, str]]:
        """Return what each server that serves keys says of itself in one section of INFO. Raises Unavailable.

        Keys are INFO's own names, and `name`: its address, empty for a single server.
        """
        found = []
        for master in self._routes.masters:
            said = (await self._ask(master, "INFO", section)).decode(errors="replace")
            pairs = (line.split(":", 1) for line in said.splitlines() if ":" in line)
            found.append({"name": master.name, **{name: value.strip() for name, value in pairs}})
        return found

    async def _answer(self, slot: int, packed: bytes, load: bytes = b"", also: int | None = None) -> Reply:
        """Send one command to the server that holds `slot`, and follow the slot where it has gone. Raises Unavailable.

        `load`: what makes its script known; empty for any other command. `also`: a slot of the same server whose posts
        come before it too. A command that was given up may still be carried out: every script is safe to repeat or to
        void.
        """
        way = STRAIGHT
        tries = 0
        for _ in range(HOPS):
            server = way.server or self._routes.owner(slot)
            if self._beats.refuses() or server.is_away:
                break
            if way.is_asking:
                await self._reach(server)
            elif not server.is_open:
                await server.decided()
                continue
            elif (blocked := self._blocked(slot, also, server)) is not None:
                await self._outbox.cleared(blocked)
                continue
            if (pipe := server.pipe) is None:
                break
            answer: asyncio.Future[Reply] = self._loop.create_future()
            (pipe.send_asking if way.is_asking else pipe.send)(packed, answer)
            reply = await answer
            if reply is LOST:
                tries += 1
                if tries == _TRIES or way.is_asking:
                    break
                way = STRAIGHT
            elif isinstance(reply, hiredis.ReplyError):
                way = await self._detour(reply, server, load)
            elif self._beats.refuses():
                break
            elif not load or self._blocked(slot, also, server) is None:
                return reply
            # Else a post before it was refused: the script runs again after that one.
        raise Unavailable

    def _blocked(self, slot: int, also: int | None, server: Server) -> int | None:
        """Return which of the slots has a post that a command sent now could overtake."""
        if self._outbox.blocks(slot, server):
            return slot
        return also if also is not None and self._outbox.blocks(also, server) else None

    async def _detour(self, refused: hiredis.ReplyError, server: Server, load: bytes) -> Detour:
        """Return where a command goes that was refused, when it is time to. Raises Unavailable."""
        try:
            way = detour(self._routes, refused, server, load)
        except Lost as why:
            server.lost(str(why))
            raise Unavailable from None
        if way.pause_seconds:
            await asyncio.sleep(way.pause_seconds)
        return way

    async def _reach(self, server: Server) -> None:
        """Connect to a server that a slot is on its way to. What goes wrong is that slot's trouble alone."""
        try:
            async with asyncio.timeout(self._deadline_seconds):
                await server.connect()
        except (Lost, TimeoutError):
            raise Unavailable from None

    async def _ask(self, server: Server, *words: Arg) -> Reply:
        """Send one command that nobody's request waits for. Raises Unavailable."""
        if not server.is_open:
            await server.decided()
        if self._beats.refuses() or server.is_away:
            raise Unavailable
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                reply = await (await server.connect()).ask(pack(words))
        except (Lost, TimeoutError):
            raise Unavailable from None
        if isinstance(reply, hiredis.ReplyError):
            raise Unavailable
        return reply

    # -- posts --------------------------------------------------------------------------------------------

    def post(
        self, script: str, key_names: Sequence[str], args: Sequence[Arg] = (), on_reply: OnReply | None = None
    ) -> Awaitable[bool]:
        """Keep a script that is safe to repeat until Redis acknowledged it; tell whether it is on its way.

        On True its bytes are with the kernel. On False Redis is away, or did not take them within the deadline: they
        are sent when it is back, after what was posted on the slot before. `on_reply` gets the reply, once.
        """
        known = self._scripts[script]
        return self._outbox.post(slot_of(key_names[0]), known.call(key_names, args), known.load, on_reply)

    def keep(
        self, script: str, key_names: Sequence[str], args: Sequence[Arg] = (), on_reply: OnReply | None = None
    ) -> bool:
        """Do the same, and wait for nothing; tell whether it is kept: too many may be already."""
        known = self._scripts[script]
        return self._outbox.keep(slot_of(key_names[0]), known.call(key_names, args), known.load, on_reply) is not None

    def post_command(self, command: str, *args: Arg, on_reply: OnReply | None = None) -> Awaitable[bool]:
        """Do the same with one command on the key `args[0]`."""
        packed = pack((command, *args))
        return self._outbox.post(slot_of(str(args[0])), packed, on_reply=on_reply)

    @property
    def pending(self) -> int:
        """How many posts were not acknowledged yet."""
        return len(self._outbox)

    async def drained(self, seconds: float) -> bool:
        """Wait until every post was acknowledged, at most so long; tell whether it was."""
        return await self._outbox.drained(seconds)

    # -- pub/sub ------------------------------------------------------------------------------------------

    async def listener(self, channel: str, *more: str) -> Subscription:
        """Return a subscription as soon as the server that `channel` belongs to is open; the caller closes it.

        Whatever is published anywhere is heard there, so `more` channels may belong to any server.

        Raises Lost.
        """
        while not (server := self._routes.owner(slot_of(channel))).is_open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await server.opened.wait()
        return await subscribe(server.place, self._access, channel, *more)

    def where(self, channel: str) -> Place:
        """Return the place of the server that `channel` belongs to now."""
        return self._routes.owner(slot_of(channel)).place

    def _routes_to(self, url: RedisUrl) -> Routes:
        server = partial(
            Server,
            access=self._access,
            deadline_seconds=self._deadline_seconds,
            # A post whose sender dies at once must not be asked for its script.
            preamble=[script.load for script in self._scripts.values()],
        )
        if url.kind == "cluster":
            return Cluster(url.hosts, lambda host, port: server(Place(host, port).find, name=f"{host}:{port}"))
        if self._sentinel is not None:
            return One(server(partial(_master, self._sentinel, url.master_name)))
        [(host, port)] = url.hosts or [("", 0)]
        return One(server(Place(host, port, url.path).find))

    def _beaten(self) -> None:
        self._outbox.go_on()
        if self.is_open:
            self._opening.set()


def _sentinel(url: RedisUrl) -> Sentinel:
    return Sentinel(url.hosts, sentinel_kwargs=_ASKING)  # type: ignore[no-untyped-call]


async def _master(sentinel: Sentinel, name: str) -> Place:
    """Ask the Sentinels who is the master now."""
    return Place(*await sentinel.discover_master(name))
