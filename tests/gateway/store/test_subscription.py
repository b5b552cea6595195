"""The connection that listens."""

import asyncio

import pytest
import redis

from gateway.store.connection import Access, Lost, Place
from gateway.store.subscription import subscribe
from tests.servers import ValkeyServer


async def test_what_is_published_is_heard_and_an_end_is_told() -> None:
    """In order; silence is None, and a server that is there answers a ping."""
    with ValkeyServer() as server, redis.Redis.from_url(server.url) as client:
        subscription = await subscribe(Place(path=str(server.folder / "s")), Access(), "cuts", "wakes")
        assert await subscription.hear(10) == ("subscribe", "cuts", 1)
        assert await subscription.hear(10) == ("subscribe", "wakes", 2)
        for number in range(3):
            client.publish("cuts", str(number))
            client.publish("wakes", str(number))
        heard = [await subscription.hear(10) for _ in range(6)]
        assert heard == [("message", name, b"%d" % number) for number in range(3) for name in ("cuts", "wakes")]
        assert await subscription.hear(0.01) is None
        subscription.ping()
        assert await subscription.hear(10) == ("pong", "", b"")
        server.kill()
        with pytest.raises(Lost):
            await subscription.hear(10)
        subscription.close()
        await asyncio.sleep(0)
