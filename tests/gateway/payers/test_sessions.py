"""Session tokens and the rate they are made at, below HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator

import jwt
import pytest

from gateway.errors import AuthError, RateLimited
from gateway.payers.sessions import Sessions
from gateway.settings import KeyRing
from gateway.store.store import Store

_OLD, _NEW = ("old", b"o" * 32), ("new", b"n" * 32)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """An empty Redis."""
    opened = await Store.open(redis_url, deadline_ms=2000)
    yield opened
    await opened.close()


async def test_what_is_minted_reads_back(store: Store) -> None:
    """To the nano-USD of the cap, for any user id."""
    made = Sessions(store, KeyRing((_NEW,)))
    for limit in (None, 1, 12_345_678_901, 2**53 - 1):
        token, expires_at = made.mint("app0123456789abcdef", "é:{x}", "test", limit)
        session = made.read(token)
        assert (session.app_id, session.user_id, session.mode) == ("app0123456789abcdef", "é:{x}", "test")
        assert (session.limit_nano, session.expires_at) == (limit, expires_at)


async def test_an_older_key_of_the_ring_still_reads(store: Store) -> None:
    """After a rotation tokens of the old key live on until it leaves the ring."""
    token, _ = Sessions(store, KeyRing((_OLD,))).mint("app0123456789abcdef", "ada", "live", None)
    both = Sessions(store, KeyRing((_NEW, _OLD)))
    assert both.read(token).user_id == "ada"
    assert jwt.get_unverified_header(both.mint("app0123456789abcdef", "ada", "live", None)[0])["kid"] == "new"
    with pytest.raises(AuthError):
        Sessions(store, KeyRing((_NEW,))).read(token)


async def test_an_expired_token_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes and the leeway for clocks that drift, no more."""
    made = Sessions(store, KeyRing((_NEW,)))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 700)
    token, _ = made.mint("app0123456789abcdef", "ada", "live", None)
    with pytest.raises(AuthError):
        made.read(token)


async def test_the_minute_is_counted_in_redis(store: Store) -> None:
    """121 at once: one waits. Its wait ends when the first leaves the minute; a refused call counts nothing."""
    made = Sessions(store, KeyRing((_NEW,)))
    calls = await asyncio.gather(*(made.admit_call("appx") for _ in range(121)), return_exceptions=True)
    refused = [call for call in calls if call is not None]
    assert len(refused) == 1
    assert isinstance(refused[0], RateLimited)
    await made.admit_call("appy")
    assert await store.call("ZCARD", "wf:rate:sessions:appx") == 120
    oldest = await store.call("ZRANGE", "wf:rate:sessions:appx", 0, 0)
    await store.call("ZADD", "wf:rate:sessions:appx", 1, oldest[0])
    await made.admit_call("appx")
    with pytest.raises(RateLimited):
        await made.admit_call("appx")
