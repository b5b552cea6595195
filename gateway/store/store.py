"""The room's door to Redis: scripts and commands within a deadline, and posts that are kept until acknowledged.

Rule: a call answers, or raises Unavailable within the deadline. No other exception of Redis or its client leaves this
room, except a hiredis.ReplyError for a command that is itself wrong.
Rule: a Redis that is empty, or older than this process last saw it, is refused until an operator accepts it (`epoch`).
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import hiredis

from gateway import redis_url
from gateway.errors import Unavailable
from gateway.keys import Budget
from gateway.redis_url import RedisUrl
from gateway.store import scripts
from gateway.store.beats import Beats
from gateway.store.cluster import HOPS, STRAIGHT, Cluster, Detour, One, Routes, detour, slot_of
from gateway.store.connection import LOST, Access, Arg, Lost, Place, Reply, pack
from gateway.store.epoch import Epoch, Memory
from gateway.store.outbox import OnReply, Outbox
from gateway.store.replies import read
from gateway.store.scripts import Call, RequestCommand
from gateway.store.server import Server
from gateway.store.subscription import Subscription, subscribe

if TYPE_CHECKING:
    from redis.asyncio.sentinel import Sentinel

# One retry covers a connection that a restarted Redis has closed.
_TRIES = 2
# How often a waiting listener checks whether another server owns its channel now.
_LOOK_SECONDS = 0.1
# Deadline of one reply for an operator's tool: SCAN and INFO on a loaded server may take seconds.
_PATIENCE_SECONDS = 10.0
# Sentinels are asked one after the other: a silent one must answer or fail within a heartbeat's deadline (1.5 s).
_ASKING = {"socket_timeout": 0.3, "socket_connect_timeout": 0.3}


class Store:
    """Access to one Redis: a single server, a Sentinel group or a Cluster."""

    def __init__(self, url: RedisUrl, *, deadline_seconds: float, memory: Memory) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline_seconds = deadline_seconds
        self._scripts = scripts.load()
        self._access = Access(url.username, url.password, url.db, url.tls())
        self._sentinel = _sentinel(url) if url.kind == "sentinel" else None
        self._routes = self._routes_to(url)
        self.is_single = isinstance(self._routes, One)
        """Whether one server holds every key, so that one connection keeps the order of all commands."""
        self._epoch = Epoch(self._routes.beat_keys)
        self._epoch.load(memory)
        self._beats = Beats(self._routes, self._epoch, self._scripts["beat"], on_beat=self._beaten)
        self._outbox = Outbox(self._routes, deadline_seconds=deadline_seconds, is_refused=self._beats.refuses)
        self.post_then = self._outbox.post_then
        """Does as `post` with a packed call, and calls a second argument with the result, never before it returns."""
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
        """Return a store on `url`. A Redis that is down now is connected to in the background once it is up.

        `memory`: what `Store.memory` returned in an earlier process, if it was kept. `ca_file`: the CA that signed the
        certificate of a Redis behind TLS; `is_self_signed`: do not verify the certificate at all.
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
        """End the background work and every connection. Unacknowledged posts are left to the sweeper."""
        self._outbox.close()
        await self._beats.close()
        if self._sentinel is not None:
            await asyncio.gather(*(client.aclose() for client in self._sentinel.sentinels), return_exceptions=True)
        # The event loop closes aborted sockets one turn later.
        await asyncio.sleep(0)

    @property
    def memory(self) -> Memory:
        """The epochs known of this Redis, for a file that outlives the process."""
        return self._epoch.dump()

    @property
    def salt(self) -> bytes:
        """The installation's secret for short names; empty until the first heartbeat was answered."""
        return self._beats.salt

    @property
    def is_open(self) -> bool:
        """Whether every known master answers and has the epoch we know."""
        is_here = not any(master.is_away for master in self._routes.masters)
        return self.salt != b"" and not self._beats.refuses() and is_here

    async def answers(self) -> bool:
        """Send one command to every master now; return whether all answer and have the epoch we know."""
        try:
            for master in self._routes.masters:
                await self.call("EXISTS", self._routes.key_on(master))
        except Unavailable:
            return False
        return self.is_open

    @property
    def why_closed(self) -> str:
        """Why the store is closed, for the operator."""
        return self._epoch.doubt or "Redis does not answer; check REDIS_URL"

    async def opened(self) -> None:
        """Wait until the store is open."""
        while not self.is_open:
            self._opening.clear()
            await self._opening.wait()

    async def beat(self, *, accept: bool = False) -> None:
        """Verify that Redis answers, has the epoch we know and is no older than last seen. Raises Unavailable.

        `accept`: the operator declares this Redis valid from now on, even if data is missing in it.
        """
        await self._beats.beat(accept=accept)

    def recovery_seconds(self, key: str) -> float:
        """Return for how many seconds after an outage of `key`'s server the sweeper must still wait; 0 when over."""
        return self._routes.owner(slot_of(key)).recovery_seconds

    # -- calls --------------------------------------------------------------------------------------------

    def frequent(
        self,
        script: str,
        words: Callable[[Budget, str], Sequence[str]],
        *,
        keys: int,
        more: int,
        constants: str = "",
    ) -> RequestCommand:
        """Return a script's frequent call, for `run`, `post` and `keep`: see Script.frequent."""
        return self._scripts[script].frequent(words, keys=keys, more=more, constants=constants)

    def run(
        self,
        script: str | Call,
        key_names: Sequence[str] = (),
        args: Sequence[Arg] = (),
        *,
        behind: str | None = None,
    ) -> Awaitable[Reply]:
        """Run a script, by its name or as a frequent call. Raises Unavailable.

        It runs after every earlier post on its keys' slot. `behind`: on a single server, also after every earlier post
        on this key's slot.
        """
        return self._answer(self._call(script, key_names, args), behind if self.is_single else None)

    def packed(self, script: str, key_names: Sequence[str], args: Sequence[Arg]) -> Call:
        """Return a script's call, for `post_then`."""
        return self._scripts[script].call(key_names, args)

    def _call(self, script: str | Call, key_names: Sequence[str], args: Sequence[Arg]) -> Call:
        return self.packed(script, key_names, args) if isinstance(script, str) else script

    async def call(self, command: str, *args: Arg) -> Reply:
        """Run one command on the key `args[0]`, after every earlier post on its slot. Raises Unavailable."""
        packed = pack((command, *args))
        return read(command, await self._answer((slot_of(str(args[0])), packed, b"")))

    async def publish(self, channel: str, message: str) -> None:
        """Send `message` to every process that listens on `channel`. Raises Unavailable."""
        await self._answer((slot_of(channel), pack(("PUBLISH", channel, message)), b""))

    async def each_key(self, pattern: str) -> AsyncIterator[str]:
        """Yield every key that matches `pattern`, over all masters: for operator's tools, never in a request."""
        for master in self._routes.masters:
            cursor: Arg = 0
            while cursor != b"0":
                cursor, found = await self._ask(master, "SCAN", cursor, "MATCH", pattern, "COUNT", 500)
                for key in found:
                    yield key.decode()

    async def about(self, section: str) -> list[dict[str, str]]:
        """Return one section of INFO of each master. Raises Unavailable.

        Keys are INFO's own names, plus `name`: the master's address, empty for a single server.
        """
        found = []
        for master in self._routes.masters:
            said = (await self._ask(master, "INFO", section)).decode(errors="replace")
            pairs = (line.split(":", 1) for line in said.splitlines() if ":" in line)
            found.append({"name": master.name, **{name: value.strip() for name, value in pairs}})
        return found

    async def _answer(self, call: Call, behind: str | None = None) -> Reply:
        """Send one command to the owner of its slot, and follow MOVED and ASK redirections. Raises Unavailable.

        `behind`: a key of the same server on whose slot earlier posts must come first. Redis may still run a command
        that was given up here, so every script must be safe to repeat or to void.
        """
        slot, packed, load = call
        way = STRAIGHT
        tries = 0
        for _ in range(HOPS):
            server = way.server or self._routes.owner(slot)
            if way.is_asking or not server.is_open:
                if self._beats.refuses() or server.is_away:
                    break
                if not way.is_asking:
                    await server.decided()
                    continue
                await self._reach(server)
            elif (blocked := self._outbox.blocking(server, slot, behind)) is not None:
                await self._outbox.cleared(blocked)
                continue
            if (pipe := server.pipe) is None:
                break
            answer: asyncio.Future[Reply] = asyncio.Future(loop=self._loop)
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
            elif not load or self._outbox.blocking(server, slot, behind) is None:
                return reply
            # An earlier post was refused meanwhile, so this script ran before it: run it again after that post.
        raise Unavailable

    async def _detour(self, refused: hiredis.ReplyError, server: Server, load: bytes) -> Detour:
        """Return where to send a refused command next, after the pause it needs. Raises Unavailable."""
        try:
            way = detour(self._routes, refused, server, load)
        except Lost as why:
            server.lost(str(why))
            raise Unavailable from None
        if way.pause_seconds:
            await asyncio.sleep(way.pause_seconds)
        return way

    async def _reach(self, server: Server) -> None:
        """Connect to the server that a slot migrates to. Raises Unavailable, which concerns this slot only."""
        try:
            async with asyncio.timeout(self._deadline_seconds):
                await server.connect()
        except (Lost, TimeoutError):
            raise Unavailable from None

    async def _ask(self, server: Server, *words: Arg) -> Reply:
        """Send one command on behalf of an operator's tool, not a request. Raises Unavailable."""
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
        self,
        script: str | Call,
        key_names: Sequence[str] = (),
        args: Sequence[Arg] = (),
        on_reply: OnReply | None = None,
    ) -> Awaitable[bool]:
        """Keep a script's call until Redis acknowledged it; return whether it was sent. It must be safe to repeat.

        True: its bytes are with the kernel. False: Redis is away, or did not accept the bytes within the deadline;
        they are sent when it is back, after the slot's earlier posts. `on_reply` is called with the reply, once.
        """
        return self._outbox.post(self._call(script, key_names, args), on_reply)

    def keep(
        self,
        script: str | Call,
        key_names: Sequence[str] = (),
        args: Sequence[Arg] = (),
        on_reply: OnReply | None = None,
    ) -> bool:
        """Do as `post`, without waiting for the write; return False when the outbox is full and it was dropped."""
        return self._outbox.keep(self._call(script, key_names, args), on_reply) is not None

    @property
    def pending(self) -> int:
        """How many posts are not acknowledged yet."""
        return len(self._outbox)

    async def drained(self, seconds: float) -> bool:
        """Wait until every post was acknowledged, at most `seconds`; return whether all were."""
        return await self._outbox.drained(seconds)

    # -- pub/sub ------------------------------------------------------------------------------------------

    async def listener(self, channel: str, *more: str) -> Subscription:
        """Return a subscription once the server that `channel` hashes to is open; the caller closes it. Raises Lost.

        A Cluster forwards every message to all its nodes, so `more` channels may hash to any server.
        """
        while not (server := self._routes.owner(slot_of(channel))).is_open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await server.opened.wait()
        return await subscribe(server.place, self._access, channel, *more)

    def where(self, channel: str) -> Place:
        """Return the address of the server that `channel` hashes to now."""
        return self._routes.owner(slot_of(channel)).place

    def _routes_to(self, url: RedisUrl) -> Routes:
        server = partial(
            Server,
            access=self._access,
            deadline_seconds=self._deadline_seconds,
            # Load all scripts first: a post whose process dies at once cannot answer a NOSCRIPT.
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


def _sentinel(url: RedisUrl) -> "Sentinel":
    # redis-py takes thirteen megabytes and a third of the start: only who has Sentinels pays for it.
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import Sentinel
    from redis.backoff import NoBackoff

    return Sentinel(url.hosts, sentinel_kwargs={**_ASKING, "retry": Retry(NoBackoff(), 0)})  # type: ignore[no-untyped-call]


async def _master(sentinel: "Sentinel", name: str) -> Place:
    """Ask the Sentinels for the current master's address."""
    return Place(*await sentinel.discover_master(name))
