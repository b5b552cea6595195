"""The payers' stores on an empty Redis."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.services import Services, open_services
from gateway.settings import Settings
from gateway.store.store import Store


@pytest.fixture
async def services(redis_url: str, tmp_path: Path) -> AsyncIterator[Services]:
    """The stores on an empty Redis."""
    environ = {"WATTFARE_DATA_DIR": str(tmp_path), "REDIS_URL": redis_url, "WATTFARE_REDIS_DEADLINE_MS": "2000"}
    async with open_services(Settings.load(environ)) as opened:
        yield opened


@pytest.fixture
def store(services: Services) -> Store:
    """The store on that Redis."""
    return services.store
