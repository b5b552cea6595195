"""The way to Redis: scripts and commands within a deadline, and one clear word when Redis is away.

Rule: a call answers, or raises Unavailable within the deadline. No redis exception leaves this file.
Rule: a Redis that is empty or older than we left it is refused until an operator accepts it (`epoch`).
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence

from redis.asyncio.client import PubSub
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, NoScriptError, ResponseError

from gateway.errors import Unavailable
from gateway.logs import log
from gateway.store import scripts
from gateway.store import url as redisurl
from gateway.store.epoch import Epoch, Known, Memory, Sign
from gateway.store.topology import Node, Topology, by_master
from gateway.store.wire import Again, Arg, NotOurs, Reply, Wire, beating

_BEAT_SECONDS = 0.25
_BEAT_AWAY_SECONDS = 0.1
# A beat may take longer than a request's call: nobody waits for it, and a loaded machine is not an outage.
_BEAT_DEADLINE_SECONDS = 3.0
# What was posted is known otherwise by then: whoever posts renews its holds.
_SAY_AGAIN_SECONDS = 60.0
# How long another process may take to begin an empty Cluster.
_BEGIN_SECONDS = 0.1
# The script that `post` is for.
_POSTED = "attach"


class Store:
    """The way to one Redis: a server, a Sentinel group or a Cluster."""

    def __init__(self, topology: Topology, *, deadline_seconds: float) -> None:
        self._topology = topology
        self._wire = Wire(topology, deadline_seconds=deadline_seconds, judge=self._judge)
        self._scripts = scripts.load()
        self._epoch = Epoch(topology.beat_keys)
        self._opening = asyncio.Event()
        self._beats: dict[Node, asyncio.Task[None]] = {}
        self._learning: asyncio.Task[None] | None = None
        self.salt = b""

    @classmethod
    async def open(cls, url: str, *, deadline_ms: int, memory: Memory | None = None) -> "Store":
        """Return a store on `url`. A Redis that is away now is met as soon as it is there.

        `memory` is what `Store.memory` gave an earlier process, if it was kept.
        """
        store = cls(redisurl.topology(url), deadline_seconds=deadline_ms / 1000)
        store._epoch.load(memory or {})
        store._topology.greet_with(store._greet)
        with contextlib.suppress(Unavailable):
            await store.beat()
        store._wire.spawn(store._keep_beating())
        return store

    async def close(self) -> None:
        """End the background work and every connection."""
        await self._wire.close()
        await self._topology.close()

    @property
    def memory(self) -> Memory:
        """What is known of this Redis, to be kept where it outlives the process."""
        return self._epoch.dump()

    @property
    def is_open(self) -> bool:
        """Whether every server we know answers and is the one we knew."""
        is_here = not any(master.lane.is_away for master in self._topology.masters)
        return self.salt != b"" and not self._wire.is_refused and is_here

    async def answers(self) -> bool:
        """Ask every server now; tell whether all answer and are the ones we knew."""
        try:
            for names in by_master(self._topology, self._topology.beat_keys).values():
                await self.call("EXISTS", names[0])
        except Unavailable:
            return False
        return self.is_open

    @property
    def why_closed(self) -> str:
        """What keeps the store closed, for the operator."""
        return self._epoch.doubt or "Redis does not answer; check REDIS_URL"

    async def opened(self) -> None:
        """Wait until the store is open."""
        while not self.is_open:
            self._opening.clear()
            await self._opening.wait()

    def recovery_seconds(self, key: str) -> float:
        """Return how long the last outage of the server that holds `key` may still be felt; 0 when that is over."""
        return self._topology.node(key).lane.recovery_seconds

    # -- calls --------------------------------------------------------------------------------------------

    async def run(self, script: str, key_names: Sequence[str], args: Sequence[Arg] = ()) -> Reply:
        """Run the script of that name. Raises Unavailable."""
        return await self._evaluate(script, key_names, args)

    async def call(self, command: str, *args: Arg) -> Reply:
        """Run one command on the key `args[0]`. Raises Unavailable."""
        return await self._wire.send(str(args[0]), (command, *args))

    async def post(self, script: str, key_names: Sequence[str], args: Sequence[Arg] = ()) -> bool:
        """Put a script on the wire without waiting for its answer; tell whether that was done, within a deadline.

        On True the bytes are with the kernel. What was lost on the way is said again as soon as Redis is there.
        """
        words = ("EVALSHA", self._scripts[script].sha, len(key_names), *key_names, *args)
        return await self._wire.post(
            key_names[0], words, lambda: self._say_again(lambda: self._evaluate(script, key_names, args))
        )

    async def post_call(self, command: str, *args: Arg) -> bool:
        """Put one command on the key `args[0]` on the wire, as `post` does a script."""
        return await self._wire.post(
            str(args[0]), (command, *args), lambda: self._say_again(lambda: self.call(command, *args))
        )

    async def _say_again(self, call: Again) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SAY_AGAIN_SECONDS):
                while True:
                    with contextlib.suppress(Unavailable):
                        await call()
                        return
                    await asyncio.sleep(_BEAT_AWAY_SECONDS)

    async def each_key(self, pattern: str) -> AsyncIterator[str]:
        """Yield every key that matches, over all servers: for the operator's tools, never for a request."""
        for master in self._topology.masters:
            cursor = None
            while cursor != 0:
                words = ("SCAN", cursor or 0, "MATCH", pattern, "COUNT", 500)
                cursor, found = await self._wire.in_time(master, words)
                for key in found:
                    yield key.decode()

    async def publish(self, channel: str, message: str) -> None:
        """Send `message` to every process that listens on `channel`. Raises Unavailable."""
        await self._wire.send(channel, ("PUBLISH", channel, message))

    def listener(self, channel: str) -> PubSub:
        """Return a pub/sub connection of its own to the server that `channel` belongs to; the caller closes it."""
        pubsub: PubSub = self._topology.node(channel).client.pubsub()
        return pubsub

    def where(self, channel: str) -> str:
        """Return the name of the server that `channel` belongs to now."""
        return self._topology.node(channel).name

    async def _evaluate(
        self, script: str, key_names: Sequence[str], args: Sequence[Arg], deadline_seconds: float = 0
    ) -> Reply:
        known, rest = self._scripts[script], (len(key_names), *key_names, *args)
        try:
            return await self._wire.send(key_names[0], ("EVALSHA", known.sha, *rest), deadline_seconds)
        except NoScriptError:
            return await self._wire.send(key_names[0], ("EVAL", known.text, *rest), deadline_seconds)

    # -- the epoch ----------------------------------------------------------------------------------------

    async def beat(self, *, accept: bool = False) -> None:
        """Prove that Redis is there, is the one we knew and no older. Raises Unavailable.

        `accept` is the operator's word that this Redis is the truth from now on, whatever is missing in it.
        """
        token = beating.set(True)
        try:
            if self._topology.is_stale:
                await self._topology.learn()
            await self._beat_all(accept=accept)
            if self._epoch.may_begin(self._topology.beat_keys[0]):
                # All are empty, which only the first round could tell: a store is begun as a whole.
                await self._beat_all()
            elif self._epoch.is_half_begun:
                await asyncio.sleep(_BEGIN_SECONDS)
                await self._beat_all()
        finally:
            beating.reset(token)

    async def _beat_all(self, *, accept: bool = False) -> None:
        beats = [self._beat_one(node, names, accept=accept) for node, names in self._proofs().items()]
        # Each for itself: one master that is away must not keep the others from being found again.
        outcomes = await asyncio.gather(*beats, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _proofs(self) -> dict[Node, list[str]]:
        """Return what each server is known by: every key that we know, and one at least."""
        return by_master(self._topology, {*self._topology.beat_keys, *self._epoch.keys})

    async def _beat_one(self, node: Node, names: Sequence[str], *, accept: bool = False) -> None:
        signs = await asyncio.gather(*(self._judged(name, accept=accept) for name in names), return_exceptions=True)
        # Judged as a whole, and only then let be found: an older one answers no call first.
        self._weigh()
        if not all(isinstance(sign, BaseException) for sign in signs):
            node.is_judged = True
            node.lane.found()
        if self._wire.is_refused:
            # Behind one address may be two servers: no connection to either is trusted for what another one said.
            await node.reconnect()
        if self.is_open:
            self._opening.set()
        for sign in signs:
            if isinstance(sign, BaseException):
                raise sign

    async def _judged(self, key: str, *, accept: bool) -> None:
        known = self._epoch.known(key)
        begin = "1" if self._epoch.may_begin(key) else "0"
        seen = ("", 0, 0) if known is None else (known.epoch, known.beat, known.since_ms)
        args = (secrets.token_hex(8), secrets.token_hex(16), begin, "1" if accept else "0", *seen)
        answer = await self._evaluate("beat", [key], args, _BEAT_DEADLINE_SECONDS)
        epoch, salt, beat, accepted, older, since_ms = answer
        # The answer is already counted up: what Redis knew before is one less.
        before = Sign(epoch.decode(), beat - 1, is_accepted=accepted == 1, is_older=older == 1, since_ms=since_ms)
        if not self._epoch.judge(key, before, known) or not before.epoch:
            return
        if known is not None and known.epoch != before.epoch:
            self._epoch.forget_all_but(self._topology.beat_keys)
        self._epoch.remember(key, Known(before.epoch, beat, since_ms))
        if key == self._topology.beat_keys[0]:
            self.salt = salt

    async def _keep_beating(self) -> None:
        beating.set(True)
        while True:
            await asyncio.sleep(_BEAT_SECONDS if self.is_open else _BEAT_AWAY_SECONDS)
            with _immortal():
                self._begin_beats()

    def _begin_beats(self) -> None:
        """Begin a beat of every server that has none under way: one that is silent keeps no other waiting."""
        if self._topology.is_stale and (self._learning is None or self._learning.done()):
            self._learning = self._wire.spawn(self._topology.learn())
        for node, names in self._proofs().items():
            if node not in self._beats:
                self._beats[node] = self._wire.spawn(self._pulse(node, names))

    async def _judge(self, node: Node) -> None:
        """Beat one server now."""
        if node not in self._beats:
            names = self._proofs().get(node) or [self._topology.key_on(node)]
            self._beats[node] = self._wire.spawn(self._pulse(node, names))
        await asyncio.shield(self._beats[node])

    async def _pulse(self, node: Node, names: Sequence[str]) -> None:
        beating.set(True)
        try:
            with _immortal(), contextlib.suppress(Unavailable):
                await self._beat_one(node, names)
        finally:
            del self._beats[node]

    async def _greet(self, node: Node, connection: AbstractConnection) -> None:
        """Ask a new connection for its epochs before it carries a command: a Redis that restarted is known by them.

        And have it know the script that is posted: a word whose sender died at once must not need a second one.
        """
        known = {key: self._epoch.known(key) for key in self._proofs().get(node, ())}
        for key in known:
            await connection.send_command("HMGET", key, "epoch", "beat", "accepted", "older", "since_ms")
        await connection.send_command("SCRIPT", "LOAD", self._scripts[_POSTED].text)
        is_ours = True
        for key, seen in known.items():
            try:
                epoch, beat, accepted, older, since_ms = await connection.read_response()
            except AskError:
                continue  # it has moved, and is asked for elsewhere
            if seen is None and not epoch:
                continue  # a beat will tell whether it may be begun
            sign = Sign(
                (epoch or b"").decode(),
                int(beat or 0),
                is_accepted=accepted == b"1",
                is_older=older == b"1",
                since_ms=int(since_ms or 0),
            )
            is_ours &= self._epoch.judge(key, sign, seen)
        with contextlib.suppress(ResponseError):
            await connection.read_response()
        node.lane.heard()
        self._weigh()
        if not is_ours and not beating.get():
            raise NotOurs

    def _weigh(self) -> None:
        doubt = self._epoch.doubt
        if doubt and not self._wire.is_refused:
            log.error("store_refused", reason=doubt, fix="restore the data, or run: python -m scripts.accept_store")
        elif self._wire.is_refused and not doubt:
            log.warning("store_accepted")
        self._wire.is_refused = doubt is not None


@contextlib.contextmanager
def _immortal() -> Iterator[None]:
    """Say what went wrong and go on: without beats nobody would find Redis again."""
    try:
        yield
    except Exception as fault:
        log.error("beat_failed", error=type(fault).__name__)
