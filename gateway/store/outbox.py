"""The outbox: posted commands, kept until Redis acknowledged them and repeated in order for each budget.

Rule: only a command whose repeat changes nothing is posted.
Rule: the posts of one slot reach Redis in their order, and a call on that slot comes after them. Without faults the
order of the connection ensures this. When a post was lost, refused or sent to a server that no longer owns its slot,
the slot is held: its posts are sent one at a time, each after the one before was acknowledged, until none is left.
"""

import asyncio
from collections.abc import Awaitable, Callable

import hiredis

from gateway.errors import Unavailable
from gateway.logs import log
from gateway.store.cluster import One, Routes, detour, slot_of
from gateway.store.connection import LOST, Lost, Pipe, Reply, resolving
from gateway.store.scripts import Call
from gateway.store.server import Server

# A post is about 1 kB, so an outage costs at most tens of MB. The sweeper settles what is dropped beyond that.
MOST_PENDING = 20_000
# Pause before a retry when the slot has no owner or its server is away.
_AGAIN_SECONDS = 0.1

OnReply = Callable[[Reply], None]


class Post:
    """One posted command, as a sink of its reply."""

    asking: Server | None = None
    is_on_its_way = False
    sent: asyncio.Future[Pipe] | None = None
    """Resolves to the connection it was sent on, for a caller that waits until it is sent."""

    def __init__(self, outbox: "Outbox", server: Server, call: Call, on_reply: OnReply | None) -> None:
        self._outbox = outbox
        self.server = server
        """The server it was last sent to."""
        self.slot, self.packed, self.load = call
        self.on_reply = on_reply

    def set_result(self, result: Reply, /) -> None:
        """Pass its reply to the outbox."""
        self._outbox.answered(self, result)


class Outbox:
    """Keeps and repeats posts. `is_refused` returns whether a Redis answers that was refused (see `epoch`)."""

    def __init__(self, routes: Routes, *, deadline_seconds: float, is_refused: Callable[[], bool]) -> None:
        self._routes = routes
        self._is_single = isinstance(routes, One)
        self._deadline_seconds = deadline_seconds
        self._is_refused = is_refused
        self._loop = asyncio.get_running_loop()
        self._queues: dict[int, list[Post]] = {}
        self._held: dict[int, list[asyncio.Future[None]]] = {}
        self._count = 0
        self._empty = asyncio.Event()
        self._is_full = False
        self._is_closed = False

    def __len__(self) -> int:
        return self._count

    def keep(self, call: Call, on_reply: OnReply | None = None) -> Post | None:
        """Keep a command and send it as soon as its slot allows; return None when the outbox is full."""
        if self._count >= MOST_PENDING:
            if not self._is_full:
                log.error("posts_left_to_sweeper", waiting=self._count)
            self._is_full = True
            return None
        slot, packed, _ = call
        server = self._routes.owner(slot)
        pipe = server.pipe if server.is_open and self.blocking(server, slot) is None else None
        post = Post(self, server, call, on_reply)
        self._queues.setdefault(slot, []).append(post)
        self._count += 1
        if pipe is None:
            self._hold(slot)
            self._go_on(slot)
        else:
            post.is_on_its_way = True
            pipe.send(packed, post)
        return post

    def post(self, call: Call, on_reply: OnReply | None = None) -> Awaitable[bool]:
        """Keep a command and send it; return whether its bytes are with the kernel within the deadline."""
        sent: asyncio.Future[bool] = self._loop.create_future()
        self.post_then(call, resolving(sent), on_reply)
        return sent

    def post_then(self, call: Call, then: Callable[[bool], None], on_reply: OnReply | None = None) -> None:
        """Do as `post`, and call `then` with the result, never before this returns."""
        post = self.keep(call, on_reply)
        if post is not None and post.is_on_its_way and (pipe := post.server.pipe) is not None:
            pipe.when_flushed(then)
        elif post is None or self._is_refused() or post.server.is_away:
            self._loop.call_soon(then, False)
        else:
            post.sent = self._loop.create_future()
            waiting = self._loop.create_task(self._flushed_in_time(post.sent))
            waiting.add_done_callback(lambda _: then(not waiting.cancelled() and waiting.result()))

    def blocking(self, server: Server, slot: int, behind: str | None = None) -> int | None:
        """Return a slot with a post that a command sent to `server` now could overtake; None without one.

        `slot`: the command's own; `behind`: a key whose slot's posts it must follow too.
        """
        if self._is_single and not self._held:
            return None
        queue = self._queues.get(slot)
        if queue is not None and (slot in self._held or queue[-1].server is not server):
            return slot
        return None if behind is None else self.blocking(server, slot_of(behind))

    async def cleared(self, slot: int) -> None:
        """Hold the slot and wait until all its posts were acknowledged. Raises Unavailable after the deadline."""
        self._hold(slot)
        cleared: asyncio.Future[None] = self._loop.create_future()
        self._held[slot].append(cleared)
        self._go_on(slot)
        try:
            async with asyncio.timeout(self._deadline_seconds):
                await cleared
        except TimeoutError:
            raise Unavailable from None

    def go_on(self) -> None:
        """Resume every held slot: a server has opened, or slots have changed owners."""
        for slot in tuple(self._held):
            self._go_on(slot)

    async def drained(self, seconds: float) -> bool:
        """Wait until every post was acknowledged, at most `seconds`; return whether all were."""
        try:
            async with asyncio.timeout(seconds):
                # A reply's handler may post again, after `_empty` was set: hence the loop.
                while self._count:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Stop sending."""
        self._is_closed = True

    def answered(self, post: Post, reply: Reply) -> None:
        """Handle the reply of a post, or LOST."""
        post.is_on_its_way = False
        if reply is LOST:
            self._hold(post.slot)
            self._loop.call_soon(self._go_on, post.slot)
        elif isinstance(reply, hiredis.ReplyError):
            self._refused(post, reply)
        else:
            self._gone(post)
            if post.on_reply is not None:
                try:
                    post.on_reply(reply)
                except Exception as fault:
                    log.error("post_reply_failed", error=type(fault).__name__)

    async def _flushed_in_time(self, sent: asyncio.Future[Pipe]) -> bool:
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await (await sent).flushed()
        except TimeoutError:
            return False

    @staticmethod
    def _send(post: Post, server: Server) -> bool:
        """Send a post to `server`, or to the ASK target that it named; return False when there is no connection."""
        asking, post.asking = post.asking, None
        target = server if asking is None else asking
        pipe = target.pipe
        if pipe is None:
            return False
        post.server, post.is_on_its_way = target, True
        (pipe.send if asking is None else pipe.send_asking)(post.packed, post)
        if post.sent is not None and not post.sent.done():
            post.sent.set_result(pipe)
        return True

    def _hold(self, slot: int) -> None:
        self._held.setdefault(slot, [])

    def _go_on(self, slot: int) -> None:
        """Send the first post of a held slot unless it is in flight or its server is closed; release an empty slot."""
        queue = self._queues.get(slot)
        if not queue:
            for cleared in self._held.pop(slot, ()):
                if not cleared.done():
                    cleared.set_result(None)
            return
        if self._is_closed or self._is_refused() or queue[0].is_on_its_way or slot not in self._held:
            return
        post, owner = queue[0], self._routes.owner(slot)
        is_sent = post.asking is not None and self._send(post, owner)
        if not is_sent and owner.is_open:
            self._send(post, owner)

    def _refused(self, post: Post, refused: hiredis.ReplyError) -> None:
        pause_seconds = 0.0
        try:
            way = detour(self._routes, refused, post.server, post.load)
            post.asking, pause_seconds = way.server if way.is_asking else None, way.pause_seconds
        except (Lost, Unavailable) as why:
            if isinstance(why, Lost):
                post.server.lost(str(why))
            pause_seconds = _AGAIN_SECONDS
        except hiredis.ReplyError as fault:
            log.error("post_refused", error=str(fault).partition(" ")[0])
            self._gone(post)
            return
        self._hold(post.slot)
        if pause_seconds:
            self._loop.call_later(pause_seconds, self._go_on, post.slot)
        else:
            self._go_on(post.slot)

    def _gone(self, post: Post) -> None:
        """Remove a post that needs no repeat."""
        slot = post.slot
        queue = self._queues[slot]
        if len(queue) == 1:
            del self._queues[slot]
        else:
            queue.remove(post)
        self._count -= 1
        if not self._count:
            self._empty.set()
        if self._is_full:
            self._is_full = self._count >= MOST_PENDING // 2
        if slot in self._held:
            self._go_on(slot)
