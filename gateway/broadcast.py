"""Cuts: what every gateway process must hear before a revocation or rotation is answered.

Rule: the state in Redis is changed first, then the cut is sent, then it waits until every living process has acted.
So after the answer no process starts an upstream request that the change forbids.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import orjson
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from gateway import keys
from gateway.errors import Unavailable
from gateway.store import Store

# A process signs every second; one that missed two signs is dead or frozen, and is not waited for.
_SIGN_SECONDS = 1.0
_ALIVE_MS = 3000
_ACKNOWLEDGE_SECONDS = 1.0
_POLL_SECONDS = 0.005
_ACKNOWLEDGEMENT_MS = 10_000
_RECONNECT_SECONDS = 0.1
# A connection to a frozen or cut-off Redis looks open for ever: one that answers no ping is given up.
_SILENCE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Cut:
    """`budget`: the budget's name, `app`: a closed app's id, `secrets`: an app's id whose secrets changed."""

    kind: str
    name: str


class Broadcast:
    """Sends cuts, and in a gateway process hears them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._process = secrets.token_hex(8)
        self._tasks: list[asyncio.Task[None]] = []
        self._hear: Callable[[Cut], Awaitable[None]] | None = None
        self._missed: Callable[[], Awaitable[None]] | None = None

    async def send(self, cut: Cut) -> None:
        """Tell every gateway process and wait until the living ones have acted. Raises Unavailable."""
        nonce = secrets.token_hex(8)
        await self._store.publish(keys.CUTS, orjson.dumps([cut.kind, cut.name, nonce]).decode())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ACKNOWLEDGE_SECONDS):
                while not await self._heard(nonce):
                    await asyncio.sleep(_POLL_SECONDS)

    async def _heard(self, nonce: str) -> bool:
        alive = set(await self._store.run("gateways", [keys.GATEWAYS], ["", 0]))
        if not alive:
            return True
        return alive <= set(await self._store.call("SMEMBERS", keys.acknowledgements(nonce)))

    async def listen(self, hear: Callable[[Cut], Awaitable[None]], missed: Callable[[], Awaitable[None]]) -> None:
        """Start hearing cuts. `missed` runs after a gap, when cuts may have gone by unheard."""
        self._hear, self._missed = hear, missed
        subscribed = asyncio.Event()
        self._start(self._follow(subscribed))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ACKNOWLEDGE_SECONDS):
                await subscribed.wait()
        with contextlib.suppress(Unavailable):
            await self._sign_once()
        self._start(self._sign())

    async def close(self) -> None:
        """Stop hearing, and sign off so that nobody waits for this process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            with contextlib.suppress(Unavailable):
                await self._store.run("gateways", [keys.GATEWAYS], [self._process, 0])

    async def _sign(self) -> None:
        while True:
            await asyncio.sleep(_SIGN_SECONDS)
            # Who stops signing is not waited for by a revocation, but goes on serving.
            with contextlib.suppress(Unavailable, RedisError):
                await self._sign_once()

    async def _sign_once(self) -> None:
        await self._store.run("gateways", [keys.GATEWAYS], [self._process, _ALIVE_MS])

    async def _follow(self, subscribed: asyncio.Event) -> None:
        """Hear cuts for ever: whatever ends a subscription, the next one begins with what was missed."""
        while True:
            pubsub = self._store.listener(keys.CUTS)
            try:
                # Connecting, too, may meet a Redis that takes the connection and never answers.
                async with asyncio.timeout(2 * _SILENCE_SECONDS):
                    await pubsub.subscribe(keys.CUTS)
                await self._take_in(pubsub, subscribed)
            except (RedisError, OSError, TimeoutError, Unavailable):
                await asyncio.sleep(_RECONNECT_SECONDS)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _take_in(self, pubsub: PubSub, subscribed: asyncio.Event) -> None:
        is_asked = False
        while True:
            async with asyncio.timeout(2 * _SILENCE_SECONDS):
                message = await pubsub.get_message(timeout=_SILENCE_SECONDS)
            if message is None and is_asked:
                raise TimeoutError
            is_asked = message is None
            if message is None:
                await pubsub.ping()
            elif message["type"] == "subscribe":
                if subscribed.is_set() and self._missed is not None:
                    await self._missed()
                subscribed.set()
            elif message["type"] == "message":
                await self._act(message["data"])

    async def _act(self, message: bytes) -> None:
        try:
            kind, name, nonce = orjson.loads(message)
        except ValueError:
            return  # no word of ours
        if self._hear is not None:
            await self._hear(Cut(kind, name))
        with contextlib.suppress(Unavailable):
            key = keys.acknowledgements(nonce)
            await self._store.call("SADD", key, self._process)
            await self._store.call("PEXPIRE", key, _ACKNOWLEDGEMENT_MS)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))
