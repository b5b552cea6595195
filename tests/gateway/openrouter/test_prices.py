"""The price list: fetched, kept when OpenRouter is away, recalled from Redis; public pages are cached."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway import keys
from gateway.errors import UpstreamError
from gateway.openrouter.client import Client, Timeouts
from gateway.openrouter.prices import Prices
from gateway.store.store import Store
from tests.fakes import MODEL, Exchange, FakeOpenRouter


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """An empty Redis."""
    opened = await Store.open(redis_url, deadline_ms=2000)
    yield opened
    await opened.close()


@pytest.fixture
async def away() -> AsyncIterator[Client]:
    """An OpenRouter address that refuses connections."""
    upstream = Client("http://127.0.0.1:1", Timeouts(1, 1, 1))
    yield upstream
    await upstream.close()


@pytest.fixture
async def upstream(openrouter: FakeOpenRouter) -> AsyncIterator[Client]:
    """The scripted OpenRouter."""
    opened = Client(openrouter.url, Timeouts(1, 1, 1))
    yield opened
    await opened.close()


async def test_the_list_is_fetched_and_outlives_openrouter(store: Store, upstream: Client, away: Client) -> None:
    """The last good copy is read from Redis with its original age."""
    first = Prices(store, upstream)
    await first.start()
    assert first.current is not None
    assert len(first.current) == 1  # a price of -1 is none
    later = Prices(store, away)
    await later.start()
    assert later.current is not None
    assert later.current.fetched_ms == first.current.fetched_ms
    assert len(later.current) == 1


async def test_a_process_that_cannot_fetch_takes_up_what_another_fetched(
    store: Store, upstream: Client, away: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also long after its start, and never an older copy than its own."""
    monkeypatch.setattr("gateway.openrouter.prices._RETRY_SECONDS", 0)
    cut_off = Prices(store, away)

    def age() -> int | None:
        return cut_off.current.fetched_ms if cut_off.current else None

    await cut_off.start()
    assert age() is None
    keeping = asyncio.create_task(cut_off.keep_fresh())
    try:
        other = Prices(store, upstream)
        await other.start()
        async with asyncio.timeout(10):
            while age() is None:
                await asyncio.sleep(0)
    finally:
        keeping.cancel()
    assert other.current is not None
    assert age() == other.current.fetched_ms
    await store.call("HSET", keys.PRICES, "fetched_ms", "1")
    await cut_off.start()
    assert age() == other.current.fetched_ms


async def test_without_any_copy_there_is_no_list(store: Store, away: Client) -> None:
    """The gateway starts all the same: requests then hold all that is left."""
    prices = Prices(store, away)
    await prices.start()
    assert prices.current is None
    assert not await prices.refresh()


async def test_a_bad_list_replaces_no_good_one(store: Store, upstream: Client, openrouter: FakeOpenRouter) -> None:
    """Garbage, an error or an empty list keeps the copy in hand."""
    prices = Prices(store, upstream)
    await prices.start()
    good = prices.current
    for status, body in ((200, b"<html>"), (200, b'{"data":[]}'), (500, b"{}"), (200, b'{"data":{}}')):

        async def bad(turn: Exchange, status: int = status, body: bytes = body) -> None:
            await turn.refuse(status, body)

        openrouter._look_up = bad  # type: ignore[method-assign]
        assert not await prices.refresh()
        assert prices.current is good


async def test_a_page_is_fetched_once_in_five_minutes(
    store: Store, upstream: Client, openrouter: FakeOpenRouter
) -> None:
    """The second reader gets the copy; a failure is not kept."""
    prices = Prices(store, upstream)
    first = await prices.page("models")
    assert MODEL.encode() in first.body
    assert await prices.page("models") is first
    missing = await prices.page("models/acme/none/endpoints")
    assert missing.status == 404
    assert await prices.page("models/acme/none/endpoints") is not missing


async def test_a_page_that_cannot_be_had_is_an_upstream_error(store: Store, away: Client) -> None:
    """Not an empty list."""
    with pytest.raises(UpstreamError):
        await Prices(store, away).page("models")
