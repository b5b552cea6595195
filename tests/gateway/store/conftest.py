"""Fixtures of the store's tests: a Valkey of each test's own, a store on it, and a server that is no Redis."""

from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.store.store import Store
from tests.peers import Peer, open_peer
from tests.servers import ValkeyServer

PATIENT_MS = 1000


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """A Valkey of this test's own."""
    with ValkeyServer() as running:
        yield running


@pytest.fixture
async def patient(server: ValkeyServer) -> AsyncIterator[Store]:
    """A store on it that no loaded machine makes late."""
    opened = await Store.open(server.url, deadline_ms=PATIENT_MS)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """A server that sends what the test defines."""
    async with open_peer() as running:
        yield running
