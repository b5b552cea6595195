"""Cuts: the message that every gateway process must handle before a revocation or rotation is answered.

Rule: change the state in Redis first, then send the cut, then wait until every live process has acted on it. So after
the answer no process starts an upstream request that the change forbids. A process that is not waited for, or that may
have missed a cut, knows this (`hears` is False), and asks Redis before each upstream request.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from gateway import keys
from gateway.errors import Unavailable
from gateway.logs import log
from gateway.store.connection import Lost, Reply
from gateway.store.store import Store

# A process signs on every second; one that missed two is dead or frozen, and is not waited for.
_SIGN_SECONDS = 1.0
_ALIVE_MS = 3000
# Less than _ALIVE_MS by a margin for Redis's clock: with an older sign-on, others may already count us as dead.
_SIGNED_SECONDS = 2.0
_ACKNOWLEDGE_SECONDS = 1.0
_POLL_SECONDS = 0.005
_ACKNOWLEDGEMENT_MS = 10_000
_RECONNECT_SECONDS = 0.1
# Cap of the backoff while catching up: a master that is away for long must not keep the process busy.
_MOST_RECONNECT_SECONDS = 5.0
# A connection to a frozen or unreachable Redis never closes by itself: ping it after this silence, drop it after two.
_SILENCE_SECONDS = 0.5
# How often to check for a failover to another master: a cut must end open streams within a second.
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Cut:
    """A message to every process. `kind` says what `name` is: `budget`: the budget's name; `app`: a closed app's id;
    `secrets`: the id of an app whose secrets changed.
    """

    kind: str
    name: str


class Broadcast:
    """Sends cuts, and in a gateway process receives them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.process = secrets.token_hex(8)
        """This process's random id."""
        self._tasks: list[asyncio.Task[None]] = []
        self._hear: Callable[[Cut], Awaitable[None]] | None = None
        self._missed: Callable[[], Awaitable[None]] | None = None
        self._woken: Callable[[bytes], None] | None = None
        self._signed_at = float("-inf")
        self._is_caught_up = False

    @property
    def hears(self) -> bool:
        """Whether no cut was missed, and a cut sent now is answered only after this process has acted on it."""
        return self._is_caught_up and time.monotonic() - self._signed_at < _SIGNED_SECONDS

    async def send(self, cut: Cut) -> None:
        """Send a cut to every gateway process and wait until the live ones have acted. Raises Unavailable."""
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

    async def listen(
        self,
        hear: Callable[[Cut], Awaitable[None]],
        missed: Callable[[], Awaitable[None]],
        woken: Callable[[bytes], None] | None = None,
    ) -> None:
        """Start receiving cuts. `missed` runs at the start and after a gap, when cuts may have been missed.

        `woken` gets the messages of scripts to this process alone (`keys.wakes`), which need no acknowledgement.
        """
        self._hear, self._missed, self._woken = hear, missed, woken
        subscribed = asyncio.Event()
        self._start(self._follow(subscribed))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ACKNOWLEDGE_SECONDS):
                await subscribed.wait()
        self._start(self._sign())

    async def close(self) -> None:
        """Stop receiving, and sign off so that no sender waits for this process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            with contextlib.suppress(Unavailable):
                await self._store.run("gateways", [keys.GATEWAYS], [self.process, 0])

    async def _sign(self) -> None:
        while True:
            # A process that cannot sign on goes on serving, though revocations do not wait for it: retry soon.
            pause = _RECONNECT_SECONDS
            with _immortal("sign_failed"):
                await self._sign_once()
                pause = _SIGN_SECONDS
            await asyncio.sleep(pause)

    async def _sign_once(self) -> None:
        signed_at = time.monotonic()
        await self._store.run("gateways", [keys.GATEWAYS], [self.process, _ALIVE_MS])
        self._signed_at = signed_at

    async def _follow(self, subscribed: asyncio.Event) -> None:
        """Receive cuts until cancelled: when a subscription ends, the next one begins with what was missed."""
        while True:
            pause = _RECONNECT_SECONDS
            with _immortal("subscription_failed"):
                await self._subscribe(subscribed)
                pause = 0.0
            await asyncio.sleep(pause)

    async def _subscribe(self, subscribed: asyncio.Event) -> None:
        subscription = await self._store.listener(keys.CUTS, keys.wakes(self.process))
        catching_up: asyncio.Task[None] | None = None
        heard_at, is_asked = time.monotonic(), False
        try:
            # After a failover cuts are published on another master.
            while self._store.where(keys.CUTS) == subscription.place:
                heard = await subscription.hear(_LOOK_SECONDS)
                if heard is not None:
                    heard_at, is_asked = time.monotonic(), False
                    kind, channel, said = heard
                    if channel != keys.CUTS:
                        self._wake(kind, said)
                    elif kind == "subscribe":
                        catching_up = asyncio.get_running_loop().create_task(self._catch_up(subscribed))
                    elif kind == "message":
                        await self._act(said)
                elif time.monotonic() - heard_at > 2 * _SILENCE_SECONDS and is_asked:
                    raise TimeoutError
                elif time.monotonic() - heard_at > _SILENCE_SECONDS and not is_asked:
                    subscription.ping()
                    is_asked = True
        finally:
            self._is_caught_up = False
            if catching_up is not None:
                catching_up.cancel()
            subscription.close()

    async def _catch_up(self, subscribed: asyncio.Event) -> None:
        """Sign on and run `missed` until both succeed, with backoff; cuts are received meanwhile."""
        self._is_caught_up = False
        pause = 0.0
        while not self._is_caught_up:
            await asyncio.sleep(pause)
            pause = min(max(2 * pause, _RECONNECT_SECONDS), _MOST_RECONNECT_SECONDS)
            with _immortal("catching_up_failed"):
                await self._sign_once()
                if self._missed is not None:
                    await self._missed()
                self._is_caught_up = True
                subscribed.set()

    def _wake(self, kind: str, said: Reply) -> None:
        if kind == "message" and self._woken is not None:
            self._woken(said)

    async def _act(self, message: bytes) -> None:
        try:
            kind, name, nonce = orjson.loads(message)
        except (TypeError, ValueError):
            return  # not one of our messages
        if self._hear is not None:
            await self._hear(Cut(kind, name))
        with contextlib.suppress(Unavailable):
            key = keys.acknowledgements(nonce)
            await self._store.call("SADD", key, self.process)
            await self._store.call("PEXPIRE", key, _ACKNOWLEDGEMENT_MS)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))


@contextlib.contextmanager
def _immortal(what: str) -> Iterator[None]:
    """Log an unexpected exception and go on: a process whose loop ended would receive no cut any more."""
    try:
        yield
    except (Lost, TimeoutError, Unavailable):
        pass  # Redis is away; the store has logged it
    except Exception as fault:
        log.error(what, error=type(fault).__name__)
