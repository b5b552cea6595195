"""How one command reaches the server that holds its key, within a deadline.

Rule: a command is answered, or raises Unavailable within the deadline. Of redis-py's errors only a ResponseError that
is the command's own fault gets out of here.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, MovedError, NoScriptError, ResponseError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.errors import Unavailable
from gateway.store.health import Lane
from gateway.store.topology import Node, Topology

Arg = str | int | bytes
Reply = Any  # What redis-py returns depends on the command; each caller knows its own.

# A slot that moves is followed so often; a script whose keys lie on two masters for a moment is tried again so often.
_HOPS = 5
_TRY_AGAIN_SECONDS = 0.01
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
    }
)
# A Cluster's word for a slot that nobody holds: no more than that slot's calls are refused for it.
_NO_OWNER = "Hash slot not served"

# How long the answer of a posted command is waited for. Nobody waits for it, but it keeps a place in the room.
_POSTED_SECONDS = 3.0

Again = Callable[[], Coroutine[Any, Any, Reply]]

beating: ContextVar[bool] = ContextVar("beating", default=False)
"""Whether this task is a beat: it is let through to a server that is away or refused, and waits for nobody."""


class NotOurs(RedisConnectionError):
    """A new connection reached a Redis that is not the one we knew."""


class Wire:
    """Sends commands. `is_refused`: a Redis was found that is not ours; no command but a beat goes out.

    `judge` asks one server whether it is ours, and notes that with the node.
    """

    def __init__(
        self, topology: Topology, *, deadline_seconds: float, judge: Callable[[Node], Coroutine[Any, Any, None]]
    ) -> None:
        self.judge = judge
        self.is_refused = False
        self._topology = topology
        self._deadline_seconds = deadline_seconds
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closing = False

    async def close(self) -> None:
        """End every task."""
        self._is_closing = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def send(self, key: str, words: Sequence[Arg], deadline_seconds: float = 0) -> Reply:
        """Send one command to the server that holds `key`, and follow the key where it has gone."""
        node, is_asking = self._topology.node(key), False
        for _ in range(_HOPS):
            try:
                if is_asking:
                    return await self._ask(node, words)
                return await self.in_time(node, words, deadline_seconds)
            except MovedError as moved:
                node, is_asking = self._topology.moved(moved, told_by=node), False
            except AskError as ask:
                node, is_asking = self._topology.at(ask, told_by=node), True
            except TryAgainError:
                await asyncio.sleep(_TRY_AGAIN_SECONDS)
                node, is_asking = self._topology.node(key), False
        raise Unavailable

    async def in_time(self, node: Node, words: Sequence[Arg], deadline_seconds: float = 0) -> Reply:
        """Send a command; give up when the server has answered nobody for a deadline's length.

        A given-up call may still be carried out: every script is safe to repeat or to void.
        """
        lane, is_beat = node.lane, deadline_seconds > 0
        if not is_beat and not node.is_judged:
            await self._have_judged(node)
        if not is_beat and (self.is_refused or lane.is_away):
            raise Unavailable
        asked_at = asyncio.get_running_loop().time()
        task = self.spawn(self._execute(node, words))
        wait = lane.wait(task, deadline_seconds or self._deadline_seconds, despite_outage=is_beat)
        try:
            is_done = await wait
        except asyncio.CancelledError:
            # Whoever asked is gone; the call itself must not stay on a connection that is silent for ever.
            self.spawn(self._see_out(lane, task))
            raise
        if is_done:
            return self._answer(lane, task, asked_at)
        task.cancel()
        raise Unavailable

    async def post(self, key: str, words: Sequence[Arg], again: Again) -> bool:
        """Put a command on the wire without waiting for its answer; tell whether that was done, within a deadline.

        On True the bytes are with the kernel. What found no connection in time, or was refused, is done by `again`.
        """
        node = self._topology.node(key)
        if self.is_refused or node.lane.is_away or not node.is_judged:
            return False
        has_room, connection = False, None
        try:
            async with asyncio.timeout(self._deadline_seconds):
                has_room = await node.room.acquire()
                self._hold_back()
                connection = await node.pool.get_connection()  # type: ignore[no-untyped-call]
                await connection.send_command(*words)
        except BaseException as failed:
            if connection is not None:
                await node.pool.release(connection)
            if has_room:
                node.room.release()
            if isinstance(failed, TimeoutError):
                self.spawn(again())
            if isinstance(failed, Exception):
                return False
            raise
        self.spawn(self._collect(node, connection, again))
        return True

    async def _have_judged(self, node: Node) -> None:
        """Ask a server that begins to hold slots whether it is ours, before anything else. Raises Unavailable."""
        judging = self.spawn(self.judge(node))
        if not await node.lane.wait(judging, self._deadline_seconds, despite_outage=False) or not node.is_judged:
            raise Unavailable

    async def _see_out(self, lane: Lane, task: "asyncio.Task[Reply]") -> None:
        if not await lane.wait(task, self._deadline_seconds, despite_outage=False):
            task.cancel()

    async def _execute(self, node: Node, words: Sequence[Arg]) -> Reply:
        # A beat waits for nobody: it tells a queue of our own from an outage, and ends one.
        async with contextlib.nullcontext() if beating.get() else node.room:
            self._hold_back()
            return await node.client.execute_command(*words)  # type: ignore[no-untyped-call]

    async def _ask(self, node: Node, words: Sequence[Arg]) -> Reply:
        """Send a command for a slot that is on its way to `node`. What goes wrong is this slot's trouble alone."""
        try:
            async with asyncio.timeout(self._deadline_seconds), node.room:
                self._hold_back()
                # The two go out on one connection, in one write: ASKING holds for the next command there.
                both = node.client.pipeline(transaction=False)
                both.execute_command("ASKING")
                both.execute_command(*words)
                _, reply = await both.execute(raise_on_error=False)
        except Exception:
            raise Unavailable from None
        if isinstance(reply, ResponseError) and not _means_away(reply):
            raise reply
        if isinstance(reply, Exception):
            raise Unavailable
        return reply

    def _hold_back(self) -> None:
        """Let no call out to a Redis that was found not to be ours while the call waited. Raises NotOurs."""
        if self.is_refused and not beating.get():
            raise NotOurs

    def _answer(self, lane: Lane, task: "asyncio.Task[Reply]", asked_at: float) -> Reply:
        try:
            reply = task.result()
        except NotOurs:
            raise Unavailable from None
        except ResponseError as refused:
            is_routing = isinstance(refused, AskError | TryAgainError | NoScriptError)
            if _NO_OWNER in str(refused):
                raise Unavailable from None
            # A beat that is refused in any words is a Redis away: without beats nobody would find it again.
            if is_routing or not (_means_away(refused) or beating.get()):
                lane.heard()
                raise
            self._lost(lane, _code(refused), asked_at)
            raise Unavailable from None
        except (Exception, asyncio.CancelledError) as lost:
            # redis-py raises more than its own errors: whatever it is, no answer came.
            self._lost(lane, type(lost).__name__, asked_at)
            raise Unavailable from None
        lane.heard()
        # A call that had waited for room may have been let out by a connection that a beat had opened.
        if self.is_refused and not beating.get():
            raise Unavailable
        return reply

    async def _collect(self, node: Node, connection: AbstractConnection, again: Again) -> None:
        """Take in the answer of a posted command; one that was refused (NOSCRIPT, MOVED) goes the ordinary way."""
        refused = True
        try:
            async with asyncio.timeout(_POSTED_SECONDS):
                await connection.read_response()
            node.lane.heard()
            refused = False
        except ResponseError:
            node.lane.heard()
        except Exception:
            await connection.disconnect(nowait=True)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await node.pool.release(connection)
            node.room.release()
        if refused:
            with contextlib.suppress(Unavailable):
                await again()

    def _lost(self, lane: Lane, why: str, asked_at: float) -> None:
        # Calls that our own end cuts short are no outage.
        if not self._is_closing:
            lane.lost(why, asked_at=asked_at)

    def spawn(self, work: Coroutine[Any, Any, Reply]) -> "asyncio.Task[Reply]":
        """Do this in a task that ends with the wire."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A call that was given up may fail later; its failure was already reported.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task


def _code(refused: ResponseError) -> str:
    # redis-py takes the code off the words of the answers it knows.
    return refused.status_code or str(refused).partition(" ")[0]


def _means_away(refused: ResponseError) -> bool:
    return _code(refused) in _AWAY_ANSWERS
