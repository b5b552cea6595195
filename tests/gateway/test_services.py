"""The stores of one process: opened on one Redis, whose epoch is kept in the state file if configured."""

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs

from gateway.environment import SettingsError
from gateway.errors import Unavailable
from gateway.services import _save_epochs, open_services, refuse_eviction
from tests.gateway.stack import PATIENCE_SECONDS, settings_for
from tests.servers import ValkeyServer, open_client


async def test_everything_stands_on_one_open_store(redis_url: str) -> None:
    """What one writes the other reads."""
    async with open_services(settings_for(redis_url, "http://127.0.0.1:1")) as services:
        assert services.store.is_open
        app = await services.apps.create("A", [])
        assert await services.apps.find(app["appId"]) is not None


async def test_a_redis_that_was_emptied_meanwhile_is_refused(redis_url: str, tmp_path: Path) -> None:
    """The state file keeps the epoch over a restart; without one a new process has no epoch to compare."""
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


async def test_a_redis_that_may_evict_is_refused_and_one_that_is_away_is_not() -> None:
    """Whatever its memory limit; the line names the variable and the policy. One that is down is checked later."""
    with ValkeyServer(options=("--maxmemory-policy", "volatile-lru")) as evicting:
        async with open_services(settings_for(evicting.url, "http://127.0.0.1:1")) as services:
            with pytest.raises(SettingsError, match=r"^REDIS_URL .*volatile-lru.*noeviction"):
                await refuse_eviction(services.store)
            evicting.kill()
            with contextlib.suppress(Unavailable):
                await services.store.beat()
            await refuse_eviction(services.store)
        evicting.start()


async def test_a_killed_process_leaves_what_it_knew(redis_url: str, tmp_path: Path) -> None:
    """It is written at once, and again while the process runs."""
    state = tmp_path / "state.json"
    settings = settings_for(redis_url, "http://127.0.0.1:1", WATTFARE_STATE_FILE=str(state))
    async with open_services(settings), asyncio.timeout(PATIENCE_SECONDS):
        while not state.exists():
            await asyncio.sleep(0)
        first = orjson.loads(state.read_bytes())
        while orjson.loads(state.read_bytes()) == first:
            await asyncio.sleep(0.01)
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def test_many_processes_write_one_state_file_and_keep_the_newest(tmp_path: Path) -> None:
    """No process loses its temporary file to another; a state older than the file's is not written."""
    state = tmp_path / "state.json"
    writer = (
        "import sys, pathlib; from gateway.services import _save_epochs\n"
        "for beat in range(int(sys.argv[2]), 400, 2): _save_epochs(pathlib.Path(sys.argv[1]), {'k': ['e', beat, 1]})"
    )
    processes = [subprocess.Popen([sys.executable, "-c", writer, str(state), str(first)]) for first in range(2)]
    assert [process.wait(PATIENCE_SECONDS) for process in processes] == [0, 0]
    assert orjson.loads(state.read_bytes())["k"][1] in {398, 399}
    _save_epochs(state, {"k": ["e", 500, 1]})
    _save_epochs(state, {"k": ["e", 499, 1]})
    _save_epochs(state, {"k": ["older", 9000, 0]})
    assert orjson.loads(state.read_bytes()) == {"k": ["e", 500, 1]}
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


async def test_a_state_file_that_cannot_be_written_ends_no_process(redis_url: str, tmp_path: Path) -> None:
    """One log line reports it."""
    settings = settings_for(redis_url, "http://127.0.0.1:1", WATTFARE_STATE_FILE=str(tmp_path / "none" / "state"))
    with capture_logs() as lines:
        async with open_services(settings) as services:
            assert services.store.is_open
    assert [line["event"] for line in lines] == ["state_file_not_written"]


async def test_a_redis_that_is_away_closes_the_store_and_no_more() -> None:
    """A process starts without Redis, and states why the store is closed."""
    settings = settings_for("redis://127.0.0.1:1", "http://127.0.0.1:1")
    async with open_services(settings) as services:
        assert not services.store.is_open
        assert "REDIS_URL" in services.store.why_closed
