"""Fixtures of a running gateway: over a scripted OpenRouter, or over the sandbox."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from sandbox.server import BILL_KEY, create_app
from sandbox.settings import SandboxSettings
from tests.fakes import FakeOpenRouter
from tests.gateway.stack import Stack, open_stack, settings_for


@pytest.fixture
async def openrouter() -> AsyncIterator[FakeOpenRouter]:
    """A scripted OpenRouter."""
    async with FakeOpenRouter().running() as fake:
        yield fake


@pytest.fixture
async def stack(redis_url: str, openrouter: FakeOpenRouter) -> AsyncIterator[Stack]:
    """A gateway before the scripted OpenRouter, with one connected live user."""
    async with open_stack(settings_for(redis_url, openrouter.url)) as running:
        await running.connect()
        yield running


@pytest.fixture
async def patient(redis_url: str, openrouter: FakeOpenRouter) -> AsyncIterator[Stack]:
    """A stack whose callers wait for budget as long as a test may take."""
    async with open_stack(settings_for(redis_url, openrouter.url, WATTFARE_ADMISSION_WAIT_SECONDS="60")) as running:
        await running.connect()
        yield running


@pytest.fixture
async def sandbox() -> AsyncIterator[web.AppRunner]:
    """The sandbox on a free loopback port; its bill is at once ready for look-ups."""
    listed = ("sandbox/price-0.25", "sandbox/slow-20")
    runner = web.AppRunner(
        create_app(SandboxSettings(generation_delay_ms=0, keepalive_ms=50, listed_models=listed)), shutdown_timeout=0
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner
    finally:
        await runner.cleanup()


@pytest.fixture
async def sandboxed(redis_url: str, sandbox: web.AppRunner) -> AsyncIterator[Stack]:
    """A gateway before the sandbox, with one connected live user."""
    url = f"http://127.0.0.1:{sandbox.addresses[0][1]}"
    async with open_stack(settings_for(redis_url, url)) as running:
        await running.connect()
        yield running


@pytest.fixture
def billed_nano(sandbox: web.AppRunner) -> "BilledNano":
    """What the sandbox has billed so far."""
    return BilledNano(sandbox)


class BilledNano:
    """A call returns the sandbox's bill in nano-USD, once every generation has ended."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._bill = runner.app[BILL_KEY]

    async def __call__(self) -> int:
        await self._bill.all_ended()
        return self._bill.total_nano()
