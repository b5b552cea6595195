"""The way to Redis: scripts and commands within a deadline, and one clear word when Redis is away.

Rule: a call answers, or raises Unavailable within the deadline. No redis exception leaves this file.
Rule: a Redis that is empty or older than we left it is refused until an operator accepts it (`epoch`).
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from gateway import keys, lua, redisurl
from gateway.epoch import Epoch, Known, Memory, Sign, cluster_keys
from gateway.errors import Unavailable
from gateway.lane import PATIENCE_SECONDS, Lane
from gateway.logs import log

Arg = str | int | bytes
Reply = Any  # What redis-py returns depends on the script; each caller knows its own.

_BEAT_SECONDS = 0.25
_BEAT_AWAY_SECONDS = 0.1
# A beat may take longer than a request's call: nobody waits for it, and a loaded machine is not an outage.
_BEAT_DEADLINE_SECONDS = 3.0
# Redis runs one command at a time: more connections than this only move the queue.
_CONNECTIONS = 64
# Answers that mean "this server cannot serve now", not "the call was wrong".
_AWAY_ANSWERS = frozenset(
    {
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOAUTH",
        "NOPERM",
        "NOREPLICAS",
        "OOM",
        "READONLY",
        "TRYAGAIN",
    }
)

_beating: ContextVar[bool] = ContextVar("beating", default=False)


class _NotOurs(RedisConnectionError):
    """A new connection reached a Redis that is not the one we knew."""


class Store:
    """One client to one Redis: a server, a Sentinel group or a Cluster."""

    def __init__(self, client: "Redis | RedisCluster", *, deadline_seconds: float) -> None:
        self._client = client
        self._deadline_seconds = deadline_seconds
        self._scripts = lua.load()
        self._lanes: dict[str, Lane] = {}
        self._room = asyncio.Semaphore(_CONNECTIONS)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._epoch = Epoch()
        self._refused = False
        self._opening = asyncio.Event()
        self._beat_keys = cluster_keys() if isinstance(client, RedisCluster) else [keys.INSTANCE]
        self._is_closing = False
        self.salt = b""

    @classmethod
    async def open(cls, url: str, *, deadline_ms: int, memory: Memory | None = None) -> "Store":
        """Return a store on `url`. A Redis that is away now is met as soon as it is there.

        `memory` is what `Store.memory` gave an earlier process, if it was kept.
        """
        store = cls(redisurl.client(url), deadline_seconds=deadline_ms / 1000)
        store._epoch.load(memory or {})
        if isinstance(store._client, Redis):
            store._client.connection_pool.connection_kwargs["redis_connect_func"] = store._greet
        with contextlib.suppress(Unavailable):
            await store.beat()
        store._spawn(store._keep_beating())
        return store

    async def close(self) -> None:
        """End the background work and every connection."""
        self._is_closing = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    @property
    def memory(self) -> Memory:
        """What is known of this Redis, to be kept where it outlives the process."""
        return self._epoch.dump()

    @property
    def is_open(self) -> bool:
        """Whether every server we know answers and is the one we knew."""
        return self.salt != b"" and not self._refused and all(not self._is_away(key) for key in self._beat_keys)

    async def answers(self) -> bool:
        """Ask every server now; tell whether all answer and are the ones we knew."""
        try:
            for key in self._beat_keys:
                await self.call("EXISTS", key)
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
            # Cleared here too: a cluster that moved a slot can close the store without a call that was lost.
            self._opening.clear()
            await self._opening.wait()

    # -- calls --------------------------------------------------------------------------------------------

    async def run(self, script: str, key_names: Sequence[str], args: Sequence[Arg] = ()) -> Reply:
        """Run `lua/<script>.lua`. Raises Unavailable."""
        return await self._in_time(key_names[0], self._evaluate(script, key_names, args))

    async def call(self, command: str, *args: Arg) -> Reply:
        """Run one command on the key `args[0]`. Raises Unavailable."""
        return await self._in_time(str(args[0]), self._execute(command, *args))

    async def post(self, script: str, key_names: Sequence[str], args: Sequence[Arg] = ()) -> bool:
        """Put a script on the wire without waiting for its answer; tell whether that was done, within a deadline.

        On True the bytes are with the kernel. What found no connection in time follows when there is one.
        """
        if self._refused or self._is_away(key_names[0]):
            return False
        has_room = False
        try:
            async with asyncio.timeout(self._deadline_seconds):
                has_room = await self._room.acquire()
                source, connection = await self._connection(key_names[0])
            try:
                sha = self._scripts[script].sha
                await connection.send_command("EVALSHA", sha, len(key_names), *key_names, *args)
            except BaseException:
                await _release(source, connection)
                raise
        except BaseException as failed:
            if has_room:
                self._room.release()
            if isinstance(failed, TimeoutError):
                self._spawn(self.run(script, key_names, args))
            if isinstance(failed, RedisError | OSError | TimeoutError):
                return False
            raise
        self._spawn(self._collect(source, connection, script, key_names, args))
        return True

    async def each_key(self, pattern: str) -> AsyncIterator[str]:
        """Yield every key that matches, over all servers: for the operator's tools, never for a request."""
        try:
            async for key in self._client.scan_iter(match=pattern, count=500):
                yield key.decode()
        except (RedisError, OSError) as lost:
            raise Unavailable from lost

    async def publish(self, channel: str, message: str) -> None:
        """Send `message` to every process that listens on `channel`. Raises Unavailable."""
        await self._in_time("", self._execute("PUBLISH", channel, message))

    def listener(self) -> PubSub:
        """Return a pub/sub connection of its own; the caller closes it."""
        pubsub: PubSub = self._client.pubsub()
        return pubsub

    # -- inside -------------------------------------------------------------------------------------------

    async def _evaluate(self, script: str, key_names: Sequence[str], args: Sequence[Arg]) -> Reply:
        known = self._scripts[script]
        try:
            return await self._execute("EVALSHA", known.sha, len(key_names), *key_names, *args)
        except NoScriptError:
            return await self._execute("EVAL", known.text, len(key_names), *key_names, *args)

    async def _execute(self, command: str, *args: Arg) -> Reply:
        # A beat waits for nobody: it tells a queue of our own from an outage, and ends one.
        async with contextlib.nullcontext() if _beating.get() else self._room:
            if isinstance(self._client, RedisCluster) and command == "PUBLISH":
                return await self._client.execute_command(command, *args, target_nodes=RedisCluster.RANDOM)
            return await self._client.execute_command(command, *args)

    async def _in_time(self, key: str, call: Coroutine[Any, Any, Reply], deadline_seconds: float = 0) -> Reply:
        """Await `call`; give up when Redis has answered nobody for a deadline's length.

        A given-up call may still be carried out: every script is safe to repeat or to void.
        """
        lane = self._lane(key)
        is_beat = deadline_seconds > 0
        if not is_beat and (self._refused or lane.is_away):
            call.close()
            raise Unavailable
        asked_at = asyncio.get_running_loop().time()
        task = self._spawn(call)
        if await lane.wait(task, deadline_seconds or self._deadline_seconds, despite_outage=is_beat):
            return self._answer(lane, task, asked_at)
        task.cancel()
        self._opening.clear()
        raise Unavailable

    def _answer(self, lane: Lane, task: "asyncio.Task[Reply]", asked_at: float) -> Reply:
        try:
            reply = task.result()
        except _NotOurs:
            raise Unavailable from None
        except ResponseError as refused:
            # redis-py takes the code off the words of the answers it knows.
            code = refused.status_code or str(refused).partition(" ")[0]
            # A beat that is refused in any words is a Redis away: without beats nobody would find it again.
            if code not in _AWAY_ANSWERS and not _beating.get():
                raise
            self._lost(lane, code, asked_at)
            raise Unavailable from None
        except (RedisError, OSError, TimeoutError, asyncio.CancelledError) as lost:
            self._lost(lane, type(lost).__name__, asked_at)
            raise Unavailable from None
        lane.heard()
        return reply

    async def _collect(
        self,
        source: "ConnectionPool | ClusterNode",
        connection: AbstractConnection,
        script: str,
        key_names: Sequence[str],
        args: Sequence[Arg],
    ) -> None:
        """Take in the answer of a posted script; one that was refused (NOSCRIPT, MOVED) goes the ordinary way."""
        refused = False
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await connection.read_response()
            self._lane(key_names[0]).heard()
        except ResponseError:
            self._lane(key_names[0]).heard()
            refused = True
        except (RedisError, OSError, TimeoutError):
            await connection.disconnect(nowait=True)
            refused = True
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await _release(source, connection)
            self._room.release()
        if refused:
            with contextlib.suppress(Unavailable):
                await self.run(script, key_names, args)

    async def _connection(self, key: str) -> "tuple[ConnectionPool | ClusterNode, AbstractConnection]":
        if isinstance(self._client, RedisCluster):
            await self._client.initialize()
            node = self._client.nodes_manager.get_node_from_slot(key_slot(key.encode()))
            return node, node.acquire_connection()
        pool = self._client.connection_pool
        return pool, await pool.get_connection()  # type: ignore[no-untyped-call]

    def _lane(self, key: str) -> Lane:
        name = ""
        if key and isinstance(self._client, RedisCluster):
            with contextlib.suppress(RedisError, KeyError, IndexError):
                name = self._client.nodes_manager.get_node_from_slot(key_slot(key.encode())).name
        return self._lanes.setdefault(name, Lane())

    def _is_away(self, key: str) -> bool:
        return self._lane(key).is_away

    def _lost(self, lane: Lane, why: str, asked_at: float) -> None:
        self._opening.clear()
        # Calls that our own end cuts short are no outage.
        if not self._is_closing:
            lane.lost(why, asked_at=asked_at)

    def _spawn(self, work: Coroutine[Any, Any, Reply]) -> "asyncio.Task[Reply]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A call that was given up may fail later; its failure was already reported.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    # -- the epoch ----------------------------------------------------------------------------------------

    async def beat(self, *, accept: bool = False) -> None:
        """Prove that Redis is there, is the one we knew and no older. Raises Unavailable.

        `accept` is the operator's word that this Redis is the truth from now on, whatever is missing in it.
        """
        token = _beating.set(True)
        try:
            beats = [self._beat_one(key, accept=accept) for key in self._beat_keys]
            # Each for itself: one master that is away must not keep the others from being found again.
            outcomes = await asyncio.gather(*beats, return_exceptions=True)
        finally:
            _beating.reset(token)
        self._weigh()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _beat_one(self, key: str, *, accept: bool) -> None:
        known = self._epoch.known(key)
        begin = "1" if known is None else "0"
        seen = ("", 0) if known is None else (known.epoch, known.beat)
        args = (secrets.token_hex(8), secrets.token_hex(16), begin, "1" if accept else "0", *seen)
        call = self._evaluate("beat", [key], args)
        epoch, salt, beat, accepted, older, since_ms = await self._in_time(key, call, _BEAT_DEADLINE_SECONDS)
        # The answer is already counted up: what Redis knew before is one less.
        before = Sign(epoch.decode(), beat - 1, is_accepted=accepted == 1, is_older=older == 1, since_ms=since_ms)
        if self._epoch.judge(key, before, known):
            self._epoch.remember(key, Known(before.epoch, beat, since_ms))
            if key == self._beat_keys[0]:
                self.salt = salt
        self._lane(key).found()

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_SECONDS if self.is_open else _BEAT_AWAY_SECONDS)
            with contextlib.suppress(Unavailable):
                await self.beat()

    async def _greet(self, connection: AbstractConnection) -> None:
        """Ask a new connection for its epoch before it carries a command: a Redis that restarted is known by it."""
        await connection.on_connect()
        known = self._epoch.known(keys.INSTANCE)
        await connection.send_command("HMGET", keys.INSTANCE, "epoch", "beat", "accepted", "older", "since_ms")
        epoch, beat, accepted, older, since_ms = await connection.read_response()
        self._lane(keys.INSTANCE).heard()
        sign = Sign(
            (epoch or b"").decode(),
            int(beat or 0),
            is_accepted=accepted == b"1",
            is_older=older == b"1",
            since_ms=int(since_ms or 0),
        )
        is_ours = self._epoch.judge(keys.INSTANCE, sign, known)
        self._weigh()
        if not is_ours and not _beating.get():
            raise _NotOurs

    def _weigh(self) -> None:
        doubt = self._epoch.doubt
        if doubt and not self._refused:
            log.error("store_refused", reason=doubt, fix="restore the data, or run: python -m scripts.accept_store")
        elif self._refused and not doubt:
            log.warning("store_accepted")
        self._refused = doubt is not None
        if self.is_open:
            self._opening.set()
        else:
            self._opening.clear()


async def _release(source: "ConnectionPool | ClusterNode", connection: AbstractConnection) -> None:
    if isinstance(source, ClusterNode):
        source.release(connection)  # type: ignore[arg-type]
    else:
        await source.release(connection)
