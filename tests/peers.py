"""A fake Redis server that answers what and when a test defines."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from gateway.store.connection import Place


class Peer:
    """Accepts connections on a unix socket. `reads`: the received pieces; `answer` sends on the newest connection."""

    def __init__(self, path: Path) -> None:
        self.place = Place(path=str(path))
        self.reads: list[bytes] = []
        self.most_open = 0
        self.accepted = 0
        self.is_greeting = True
        """Whether the first command of each connection (our name) is answered."""
        self._open: list[asyncio.StreamWriter] = []
        self._came = asyncio.Event()
        self.may_read = asyncio.Event()
        self.may_read.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until the other side ends it."""
        self._open.append(writer)
        self.accepted += 1
        self.most_open = max(self.most_open, len(self._open))
        is_greeted = not self.is_greeting
        try:
            while True:
                await self.may_read.wait()
                piece = await reader.read(1 << 20)
                if not piece:
                    return
                if is_greeted:
                    self.reads.append(piece)
                else:
                    writer.write(b"+OK\r\n")
                    is_greeted = True
                self._came.set()
        except ConnectionError:
            pass
        finally:
            self._open.remove(writer)
            writer.close()

    def answer(self, raw: bytes) -> None:
        """Send these bytes."""
        self._open[-1].write(raw)

    def hang_up(self) -> None:
        """End the newest connection."""
        self._open[-1].close()

    async def got(self, text: bytes) -> None:
        """Wait until these bytes were received."""
        async with asyncio.timeout(10):
            while text not in b"".join(self.reads):
                self._came.clear()
                await self._came.wait()


@contextlib.asynccontextmanager
async def open_peer() -> AsyncIterator[Peer]:
    """Serve a peer."""
    with tempfile.TemporaryDirectory(prefix="wf-") as folder:
        peer = Peer(Path(folder) / "s")
        server = await asyncio.start_unix_server(peer.serve, peer.place.path)
        try:
            yield peer
        finally:
            for writer in tuple(peer._open):
                writer.close()
            server.close()
            await asyncio.sleep(0)
