"""A connection that subscribes to channels: the second and last one that a process opens to a server."""

import asyncio

import hiredis

from gateway.store.connection import Access, Lost, Pipe, Place, Reply, connect, pack

# Shorter than a command connection's: a process without a subscription misses cuts, so a silent Redis is retried soon.
_CONNECT_SECONDS = 0.5
_PING = pack(("PING",))


class Subscription(Pipe):
    """A connection whose incoming data, after SUBSCRIBE, are messages instead of replies."""

    def __init__(self) -> None:
        super().__init__()
        self._said: asyncio.Queue[Reply] = asyncio.Queue()
        self._is_listening = False
        self.owner = self

    def listen(self, *channels: str) -> None:
        """Subscribe: from now on everything received goes to `hear`."""
        self._is_listening = True
        self.send_unread(pack(("SUBSCRIBE", *channels)))

    def ping(self) -> None:
        """Make the server send a pong, which shows that it is there."""
        self.send_unread(_PING)

    async def hear(self, seconds: float) -> tuple[str, str, Reply] | None:
        """Return the next message: its kind (subscribe, message, pong), channel (empty for a pong) and payload.

        None if there is none within `seconds`. Raises Lost.
        """
        try:
            async with asyncio.timeout(seconds):
                said = await self._said.get()
        except TimeoutError:
            return None
        if not isinstance(said, list):
            raise Lost(str(said))
        kind, channel, *_, text = said if len(said) > 2 else (said[0], b"", *said[1:])
        return kind.decode(), channel.decode(), text

    def data_received(self, data: bytes) -> None:
        """Queue the messages received."""
        if not self._is_listening:
            super().data_received(data)
            return
        try:
            self._reader.feed(data)
            while (said := self._reader.gets()) is not False:
                self._said.put_nowait(said)
        except hiredis.HiredisError:
            self.close()

    def disconnected(self, pipe: Pipe) -> None:
        """Queue the end of the connection, so that `hear` raises Lost."""
        self._said.put_nowait("the connection was closed")
        del pipe


async def subscribe(place: Place, access: Access, *channels: str) -> Subscription:
    """Return a subscription to `channels`; the caller closes it. Raises Lost."""
    subscription = await connect(place.find, access, Subscription, limit_seconds=_CONNECT_SECONDS)
    subscription.listen(*channels)
    return subscription
