"""Heartbeats: verify each server's epoch, on each new connection and then four times a second.

Rule: a server that is not verified gets heartbeats only (and commands that a slot's owner redirects to it with ASK).
While any server is refused, all servers get heartbeats only.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterator

import hiredis

from gateway.errors import Unavailable
from gateway.logs import log
from gateway.store.cluster import HOPS, Routes, by_master, detour, slot_of
from gateway.store.connection import Ended, Lost, Reply, pack
from gateway.store.epoch import Epoch, Known, Sign
from gateway.store.scripts import Script
from gateway.store.server import Server

_BEAT_SECONDS = 0.25
_BEAT_AWAY_SECONDS = 0.1
# Longer than a request's deadline: no request waits for a heartbeat, and a loaded machine is no outage. A connection
# that is silent for this long is replaced (its host may be gone); when the next one is silent too, it is an outage.
_BEAT_DEADLINE_SECONDS = 1.5
# A replica is only asked for its view of the Cluster, so a slow interval suffices.
_IDLE_SECONDS = 1.0
# How long another process may take to initialise all masters of an empty Cluster.
_BEGIN_SECONDS = 0.1


class Beats:
    """Verifies every server, repeatedly. `on_beat` is called after each answered heartbeat.

    `salt`: the installation's, empty until the first answer.
    """

    def __init__(self, routes: Routes, epoch: Epoch, script: Script, *, on_beat: Callable[[], None]) -> None:
        self._routes = routes
        self._epoch = epoch
        self._script = script
        self._on_beat = on_beat
        self._keepers: dict[Server, asyncio.Task[None]] = {}
        self._learning: asyncio.Task[None] | None = None
        self._is_refused = False
        self.salt = b""

    def refuses(self) -> bool:
        """Return whether a server was refused by its epoch: then no command may be sent."""
        return self._is_refused

    async def beat(self, *, accept: bool = False) -> None:
        """Verify every server once. `accept`: the operator accepts them as they are. Raises Unavailable."""
        if self._routes.is_stale:
            await self._routes.learn()
        await self._beat_all(accept=accept)
        if self._epoch.may_begin(self._routes.beat_keys[0]):
            # The first round showed that all masters are empty; only then may the second round initialise them.
            await self._beat_all()
        elif self._epoch.is_half_begun:
            await asyncio.sleep(_BEGIN_SECONDS)
            await self._beat_all()

    def start(self) -> None:
        """Verify every server in the background from now on."""
        self._begin_keeping()
        self._learning = asyncio.get_running_loop().create_task(self._keep_learning())

    async def close(self) -> None:
        """End the background tasks and every connection."""
        tasks = [*self._keepers.values(), *([self._learning] if self._learning is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # `_keepers` may hold a server that has just left the Cluster.
        for server in {*self._keepers, *self._routes.servers}:
            server.close()

    async def _keep_learning(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_AWAY_SECONDS)
            with _immortal():
                if self._routes.is_stale:
                    await self._routes.learn()
                self._begin_keeping()

    def _begin_keeping(self) -> None:
        """Start a task for every known server that has none, and end those of servers that left the Cluster."""
        for server in self._routes.servers:
            if server not in self._keepers:
                self._keepers[server] = asyncio.get_running_loop().create_task(self._keep(server))
        for server in self._keepers.keys() - set(self._routes.servers):
            self._keepers.pop(server).cancel()
            server.close()

    async def _keep(self, server: Server) -> None:
        """Verify a server in a loop: at once when its connection broke, else after a pause."""
        while True:
            was_open = server.is_open
            server.has_news.clear()
            with _immortal(), contextlib.suppress(Unavailable):
                await self._prove(server)
            pause = _BEAT_SECONDS if server.is_open else _BEAT_AWAY_SECONDS
            if server.pipe is None:
                # Verification itself closed the connection, which set has_news: that needs no extra round.
                server.has_news.clear()
                pause = 0.0 if was_open else pause
            if not server.is_serving:
                pause = _IDLE_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await server.has_news.wait()

    async def _beat_all(self, *, accept: bool = False) -> None:
        # Concurrently: one master that is away must not delay the verification of the others.
        proofs = [self._prove(server, accept=accept) for server in self._routes.masters]
        for outcome in await asyncio.gather(*proofs, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _prove(self, server: Server, *, accept: bool = False) -> None:
        """Connect to a server if needed, and send heartbeats if it holds keys. Raises Unavailable."""
        async with server.proving:
            was_open = server.is_open
            try:
                async with asyncio.timeout(_BEAT_DEADLINE_SECONDS):
                    await server.connect()
                    if server.is_serving:
                        await self._beat_one(server, accept=accept)
            except (Lost, TimeoutError) as why:
                # One open connection that ended or fell silent is no outage yet; a failure of the next one is.
                if not was_open or not isinstance(why, Ended | TimeoutError):
                    server.lost(str(why) or "no answer in time")
                server.drop()
                raise Unavailable from None

    async def _beat_one(self, server: Server, *, accept: bool) -> None:
        names = by_master(self._routes, {*self._routes.beat_keys, *self._epoch.keys}).get(server, ())
        judging = (self._judged(server, name, accept=accept) for name in names)
        outcomes = await asyncio.gather(*judging, return_exceptions=True)
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        # Evaluate all epochs before the server opens, so that an older Redis answers no call.
        self._weigh()
        if len(failed) < len(outcomes):
            server.found()
            if self._is_refused:
                # One address may lead to two servers (a proxy, DNS): reconnect, so the next one may reach the other.
                server.refuse()
            self._on_beat()
        for failure in failed:
            raise failure

    async def _judged(self, server: Server, key: str, *, accept: bool) -> None:
        known = self._epoch.known(key)
        begin = "1" if self._epoch.may_begin(key) else "0"
        seen = ("", 0, 0) if known is None else (known.epoch, known.beat, known.since_ms)
        args = (secrets.token_hex(8), secrets.token_hex(16), begin, "1" if accept else "0", *seen)
        answer = await self._answer(server, key, pack(("EVALSHA", self._script.sha, 1, key, *args)))
        epoch, salt, beat, accepted, older, since_ms = answer
        # The script has already incremented the beat: before this call it was one less.
        before = Sign(epoch.decode(), beat - 1, is_accepted=accepted == 1, is_older=older == 1, since_ms=since_ms)
        if not self._epoch.judge(key, before, known) or not before.epoch:
            return
        if known is not None and known.epoch != before.epoch:
            self._epoch.forget_all_but(self._routes.beat_keys)
        self._epoch.remember(key, Known(before.epoch, beat, since_ms))
        if key == self._routes.beat_keys[0]:
            self.salt = salt

    async def _answer(self, server: Server, key: str, packed: bytes) -> Reply:
        """Run the heartbeat script for `key` on `server`, following redirections. Raises Lost, Unavailable."""
        target, is_asking = server, False
        for _ in range(HOPS):
            try:
                reply = await (await target.connect()).ask(packed, is_asking=is_asking)
                if not isinstance(reply, hiredis.ReplyError):
                    return reply
                way = detour(self._routes, reply, target, self._script.load)
            except Lost:
                if target is server:
                    raise
                raise Unavailable from None
            except hiredis.ReplyError as refused:
                # Any other error counts as away: without a successful heartbeat the server must not open.
                raise Lost(str(refused).partition(" ")[0]) from None
            await asyncio.sleep(way.pause_seconds)
            target, is_asking = way.server or self._routes.owner(slot_of(key)), way.is_asking
        raise Unavailable

    def _weigh(self) -> None:
        doubt = self._epoch.doubt
        if doubt and not self._is_refused:
            log.error("store_refused", reason=doubt, fix="restore the data, or run: python -m scripts.accept_store")
            self._is_refused = True
            for server in self._routes.servers:
                server.refuse()
        elif self._is_refused and not doubt:
            log.warning("store_accepted")
            self._is_refused = False


@contextlib.contextmanager
def _immortal() -> Iterator[None]:
    """Log an exception and go on: if the heartbeat loop ended, Redis would never be found again."""
    try:
        yield
    except Exception as fault:
        log.error("beat_failed", error=type(fault).__name__)
