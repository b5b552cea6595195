"""Everything a Wattfare process works with, opened in order and closed in reverse."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson

from gateway.apps import Apps
from gateway.attempts import Attempts
from gateway.broadcast import Broadcast
from gateway.connections import Connections
from gateway.embedded import ensure
from gateway.epoch import Memory
from gateway.ledger import Ledger
from gateway.sealing import Sealer
from gateway.sessions import Sessions
from gateway.settings import Settings
from gateway.store import Store


@dataclass(frozen=True, slots=True)
class Services:
    """The stores, on one Redis."""

    settings: Settings
    store: Store
    broadcast: Broadcast
    apps: Apps
    sessions: Sessions
    sealer: Sealer
    ledger: Ledger
    connections: Connections
    attempts: Attempts


@contextlib.asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Yield the stores. Without a REDIS_URL the embedded server is started. Raises EmbeddedError."""
    url = settings.redis_url or await ensure(settings.data_dir)
    store = await Store.open(url, deadline_ms=settings.redis_deadline_ms, memory=_recall(settings))
    broadcast = Broadcast(store)
    ledger = Ledger(store, keep_days=settings.ledger_days, lease_ms=int(settings.hold_seconds * 1000))
    sealer = Sealer(settings.master_keys)
    connections = Connections(store, ledger, sealer, broadcast)
    try:
        yield Services(
            settings=settings,
            store=store,
            broadcast=broadcast,
            apps=Apps(store, broadcast),
            sessions=Sessions(store, settings.jwt_keys),
            sealer=sealer,
            ledger=ledger,
            connections=connections,
            attempts=Attempts(store, connections, sealer),
        )
    finally:
        await broadcast.close()
        _remember(settings, store)
        await store.close()


def _recall(settings: Settings) -> Memory:
    if settings.state_file is None or not settings.state_file.exists():
        return {}
    memory: Memory = orjson.loads(settings.state_file.read_bytes())
    return memory


def _remember(settings: Settings, store: Store) -> None:
    if settings.state_file is not None and store.memory:
        # Beside it, then in its place: a crash leaves the old one whole.
        fresh = settings.state_file.with_suffix(".new")
        fresh.write_bytes(orjson.dumps(store.memory))
        fresh.replace(settings.state_file)
