"""Opens the stores that a Wattfare process uses, in order, and closes them in reverse."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from devstore.embedded import ensure
from gateway.environment import SettingsError
from gateway.errors import Unavailable
from gateway.ledger.holds import Ledger
from gateway.ledger.pace import Pace
from gateway.logs import log
from gateway.payers.app_pace import AppPace
from gateway.payers.apps import Apps
from gateway.payers.attempts import Attempts
from gateway.payers.authorizations import Authorizations
from gateway.payers.connections import Connections
from gateway.payers.grants import Bounds
from gateway.payers.limits import RateLimits
from gateway.payers.logins import Logins
from gateway.payers.passkeys import Passkeys
from gateway.payers.sessions import Sessions
from gateway.payers.wallets import Wallets
from gateway.sealing import Sealer
from gateway.settings import Settings
from gateway.store.broadcast import Broadcast
from gateway.store.epoch import Memory, newest
from gateway.store.store import Store
from gateway.webhooks.endpoints import Endpoints

KEEPS_ALL: Final = "noeviction"
# At most this much knowledge of Redis's epoch is lost when the process is killed; a heartbeat comes each 0.25 s.
_SAVE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Services:
    """The stores, on one Redis."""

    settings: Settings
    store: Store
    broadcast: Broadcast
    apps: Apps
    app_pace: AppPace
    sessions: Sessions
    sealer: Sealer
    ledger: Ledger
    connections: Connections
    endpoints: Endpoints
    grant_bounds: Bounds
    attempts: Attempts
    authorizations: Authorizations
    limits: RateLimits
    logins: Logins
    passkeys: Passkeys
    wallets: Wallets


@contextlib.asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Yield the stores. Without a REDIS_URL the embedded server is started. Raises EmbeddedError."""
    url = settings.redis_url or await ensure(settings.data_dir)
    store = await Store.open(
        url,
        deadline_ms=settings.redis_deadline_ms,
        memory=_read_state_file(settings),
        ca_file=settings.redis_ca_file,
        is_self_signed=settings.redis_self_signed,
    )
    broadcast = Broadcast(store)
    pace = Pace(settings.limits.open_at_once, settings.limits.a_minute)
    ledger = Ledger(store, keep_days=settings.ledger_days, lease_ms=int(settings.hold_seconds * 1000), pace=pace)
    sealer = Sealer(settings.master_keys)
    connections = Connections(store, ledger, sealer, broadcast)
    is_over = asyncio.Event()
    logins = Logins(store)
    saving = asyncio.get_running_loop().create_task(_keep_saving_epochs(settings.state_file, store, is_over))
    try:
        yield Services(
            settings=settings,
            store=store,
            broadcast=broadcast,
            apps=Apps(store, broadcast),
            app_pace=AppPace(store, settings.limits.app_a_minute),
            sessions=Sessions(settings.jwt_keys),
            sealer=sealer,
            ledger=ledger,
            connections=connections,
            endpoints=Endpoints(store, sealer),
            grant_bounds=Bounds(
                requests=settings.grants.requests,
                total_nano=settings.grants.total_nano,
                life_ms=settings.grants.seconds * 1000,
                request_nano=settings.grants.request_nano,
            ),
            attempts=Attempts(store, connections, sealer),
            authorizations=Authorizations(store, sealer),
            limits=RateLimits(store, cools_down=settings.production),
            logins=logins,
            passkeys=Passkeys(store),
            wallets=Wallets(store, sealer, logins, keep_ms=ledger.keep_ms),
        )
    finally:
        await broadcast.close()
        is_over.set()
        await asyncio.gather(saving, return_exceptions=True)
        await store.close()


async def refuse_eviction(store: Store) -> None:
    """Raise SettingsError if Redis may evict keys when it is full: a hold or a day of spend could be among them.

    A Redis that is away, or that refuses INFO, is accepted.
    """
    if not store.is_open:
        return
    with contextlib.suppress(Unavailable):
        for server in await store.about("memory"):
            policy = server.get("maxmemory_policy", KEEPS_ALL)
            if policy != KEEPS_ALL:
                raise SettingsError(
                    f"REDIS_URL names a Redis that may evict keys (maxmemory-policy {policy}), and with them money;"
                    f" set its maxmemory-policy to {KEEPS_ALL}."
                )


def _read_state_file(settings: Settings) -> Memory:
    if settings.state_file is None or not settings.state_file.exists():
        return {}
    memory: Memory = orjson.loads(settings.state_file.read_bytes())
    return memory


async def _keep_saving_epochs(state_file: Path | None, store: Store, is_over: asyncio.Event) -> None:
    """Save the known epochs of Redis now, every few seconds and at the end, so that a kill loses little of them."""
    is_logged = False
    while state_file is not None:
        is_last = is_over.is_set()
        try:
            await asyncio.to_thread(_save_epochs, state_file, store.memory)
            is_logged = False
        except OSError as fault:
            if not is_logged:
                log.error("state_file_not_written", error=type(fault).__name__, path=str(state_file))
            is_logged = True
        if is_last:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SAVE_SECONDS):
                await is_over.wait()


def _save_epochs(state_file: Path, memory: Memory) -> None:
    """Merge this process's known epochs into the file. Raises OSError."""
    if not memory:
        return
    with contextlib.suppress(FileNotFoundError, ValueError):
        memory = newest(orjson.loads(state_file.read_bytes()), memory)
    # Write to a temporary file and rename it: a crash leaves the old file intact.
    fresh = state_file.with_name(f"{state_file.name}.{secrets.token_hex(8)}.new")
    try:
        with fresh.open("wb") as file:
            file.write(orjson.dumps(memory))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(state_file)
    finally:
        fresh.unlink(missing_ok=True)
