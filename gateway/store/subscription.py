"""A connection that listens on channels. It is the second and last one that a process has to a server."""

import asyncio

import hiredis

from gateway.store.connection import Access, Lost, Pipe, Place, Reply, connect, pack

# Who cannot listen misses cuts: a Redis that takes the connection and says nothing is tried again soon.
_CONNECT_SECONDS = 0.5
_PING = pack(("PING",))


class Subscription(Pipe):
    """What is said on it after SUBSCRIBE answers nothing that was asked."""

    def __init__(self) -> None:
        super().__init__()
        self._said: asyncio.Queue[Reply] = asyncio.Queue()
        self._is_listening = False
        self.owner = self

    def listen(self, *channels: str) -> None:
        """Subscribe: from here on every word goes to `hear`."""
        self._is_listening = True
        self.send_unread(pack(("SUBSCRIBE", *channels)))

    def ping(self) -> None:
        """Have the server say something."""
        self.send_unread(_PING)

    async def hear(self, seconds: float) -> tuple[str, str, Reply] | None:
        """Return the next word: its kind (subscribe, message, pong), its channel (a pong has none) and its text.

        None after so long. Raises Lost.
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
        """Take what is said."""
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
        """Tell whoever hears."""
        self._said.put_nowait("the connection was closed")
        del pipe


async def subscribe(place: Place, access: Access, *channels: str) -> Subscription:
    """Return a subscription to `channels`; the caller closes it. Raises Lost."""
    subscription = await connect(place.find, access, Subscription, limit_seconds=_CONNECT_SECONDS)
    subscription.listen(*channels)
    return subscription
