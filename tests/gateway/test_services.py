"""The stores of one process: opened on one Redis, and remembering it where they are told to."""

import asyncio
from pathlib import Path

import orjson

from gateway.services import open_services
from tests.gateway.stack import settings_for
from tests.servers import open_client


async def test_everything_stands_on_one_open_store(redis_url: str) -> None:
    """What one writes the other reads."""
    async with open_services(settings_for(redis_url, "http://127.0.0.1:1")) as services:
        assert services.store.is_open
        app = await services.apps.create("A", [])
        assert await services.apps.find(app["appId"]) is not None


async def test_a_redis_that_was_emptied_meanwhile_is_refused(redis_url: str, tmp_path: Path) -> None:
    """The state file carries the memory over a restart; without one a new process knows nothing."""
    state = tmp_path / "state.json"
    settings = settings_for(redis_url, "http://127.0.0.1:1", WATTFARE_STATE_FILE=str(state))
    async with open_services(settings):
        pass
    assert orjson.loads(state.read_bytes())
    async with open_services(settings) as services:
        assert services.store.is_open

    def empty() -> None:
        with open_client(redis_url) as client:
            client.flushall()

    await asyncio.to_thread(empty)
    async with open_services(settings) as services:
        assert not services.store.is_open
        assert services.store.why_closed
    async with open_services(settings_for(redis_url, "http://127.0.0.1:1")) as services:
        assert services.store.is_open


async def test_a_redis_that_is_away_closes_the_store_and_no_more() -> None:
    """A process starts without Redis, and says why it is closed."""
    settings = settings_for("redis://127.0.0.1:1", "http://127.0.0.1:1")
    async with open_services(settings) as services:
        assert not services.store.is_open
        assert "REDIS_URL" in services.store.why_closed
