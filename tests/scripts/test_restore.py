"""Restoring a backup as in docs/operating.md: taken during operation, loaded, refused as older, accepted, verified."""

import shutil
import time
from pathlib import Path

import redis

from gateway.ledger.outcomes import Settlement
from tests.gateway.process import command, environment
from tests.scripts.books import BUDGET, checked, connect, opened, spend
from tests.servers import ValkeyServer

PATIENCE_SECONDS = 20


def _until_done(client: "redis.Redis", name: str) -> None:
    """Wait until a background job of the server has ended, by INFO."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while client.info("persistence")[name] and time.monotonic() < give_up:
        time.sleep(0.02)


def _back_up(server: ValkeyServer, place: Path) -> None:
    """Take a consistent copy while the server is running."""
    with redis.Redis.from_url(server.url) as client:
        client.bgsave()
        _until_done(client, "rdb_bgsave_in_progress")
    shutil.copy(server.folder / "dump.rdb", place)


def _restore(server: ValkeyServer, backup: Path) -> None:
    """Start without the append-only file, which would be read instead of the copy; then have it written anew."""
    shutil.rmtree(server.folder / "appendonlydir")
    shutil.copy(backup, server.folder / "dump.rdb")
    server.is_durable = False
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.config_set("appendonly", "yes")
        _until_done(client, "aof_rewrite_in_progress")
    server.stop()
    server.is_durable = True
    server.start()


async def test_a_restored_backup_is_refused_as_older_then_accepted_and_adds_up(tmp_path: Path) -> None:
    """What was spent after the backup is lost, and nothing else; the books are whole before and after."""
    state = str(tmp_path / "state.json")
    with ValkeyServer(durable=True) as server:
        variables = environment(server.url, WATTFARE_STATE_FILE=state)
        async with opened(server.url, tmp_path, WATTFARE_STATE_FILE=state) as services:
            await connect(services)
            await spend(services, "kept", Settlement("settled", 400))
            _back_up(server, tmp_path / "backup.rdb")
            await spend(services, "lost", Settlement("settled", 900))
            await services.store.beat()
        server.kill()
        _restore(server, tmp_path / "backup.rdb")
        code, _, errors = await command("scripts.verify", variables=variables)
        assert (code, errors) == (1, "verify: Redis came back older than it was\n")
        code, _, errors = await command("scripts.accept_store", variables=variables)
        assert (code, "--yes" in errors) == (1, True)
        code, out, _ = await command("scripts.accept_store", "--yes", variables=variables)
        assert (code, out) == (0, "accepted: yes\n")
        async with opened(server.url, tmp_path, WATTFARE_STATE_FILE=state) as services:
            answer = await checked(services)
            assert (answer["ok"], answer["entries"], answer["spent_usd"]) == (True, 1, 4e-07)
            await spend(services, "next", Settlement("settled", 100))
            assert (await services.ledger.standing(BUDGET)).spent_nano == 500
            assert (await checked(services))["ok"]
