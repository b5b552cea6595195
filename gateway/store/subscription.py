"""A connection that listens on one channel. It is the second and last one that a process has to a server."""

import asyncio

import hiredis

from gateway.store.connection import Access, Find, Lost, Pipe, Reply, connect, pack

_PING = pack(("PING",))


class Subscription(Pipe):
    """What is said on it after SUBSCRIBE answers nothing that was asked."""

    def __init__(self) -> None:
        super().__init__()
        self._said: asyncio.Queue[Reply] = asyncio.Queue()
        self._is_listening = False
        self.owner = self

    def listen(self, channel: str) -> None:
        """Subscribe: from here on every word goes to `hear`."""
        self._is_listening = True
        self.send_unread(pack(("SUBSCRIBE", channel)))

    def ping(self) -> None:
        """Have the server say something."""
        self.send_unread(_PING)

    async def hear(self, seconds: float) -> tuple[str, Reply] | None:
        """Return the next word: its kind (subscribe, message, pong) and its text; None after so long. Raises Lost."""
        try:
            async with asyncio.timeout(seconds):
                said = await self._said.get()
        except TimeoutError:
            return None
        if not isinstance(said, list):
            raise Lost(str(said))
        kind, *_, text = said
        return kind.decode(), text

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


async def subscribe(find: Find, access: Access, channel: str) -> Subscription:
    """Return a subscription to `channel`; the caller closes it. Raises Lost."""
    subscription = await connect(find, access, Subscription)
    subscription.listen(channel)
    return subscription
