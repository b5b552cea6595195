"""A fresh sandbox and its clock."""

import pytest

from sandbox.server import create_app
from sandbox.settings import SandboxSettings
from tests.sandbox.clock import Client, Clock, Connect


@pytest.fixture
def clock() -> Clock:
    """A clock that advances only when the test moves it."""
    return Clock()


@pytest.fixture
async def client(aiohttp_client: Connect, clock: Clock) -> Client:
    """A client of a fresh sandbox, with cookies of its own."""
    return await aiohttp_client(create_app(SandboxSettings(), now=clock))
