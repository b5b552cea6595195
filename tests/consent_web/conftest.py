"""The world that the consent site's tests stand in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.consent_web.world import Visitor, World, a_world


@pytest.fixture
async def world(redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A consent site, a sandbox OpenRouter, and an app registered for `https://acme.example`."""
    async with a_world(redis_url, tmp_path) as made:
        yield made


@pytest.fixture
def visitor(world: World) -> Visitor:
    """A browser that has never been here."""
    return world.visitor()
