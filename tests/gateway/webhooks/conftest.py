"""A receiver, the stores, and a sender that processes only the budgets named by a test."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.keys import Budget
from gateway.payers.connections import Approval
from gateway.services import Services, open_services
from gateway.webhooks.delivery import Delivery
from gateway.webhooks.sender import Sender
from tests.gateway.stack import settings_for
from tests.gateway.webhooks.receiver import Receiver


@dataclass
class Hooks:
    """An app with an endpoint."""

    services: Services
    sender: Sender
    receiver: Receiver
    app_id: str
    passed_seconds: float = 0
    """By how much the sender's clock is ahead."""

    def budget(self, user: str = "ada", mode: str = "live") -> Budget:
        """The budget of one of its users."""
        return Budget.of_user(mode, self.app_id, user)

    async def connect(self, user: str = "ada", *, cap_nano: int = 1000) -> Budget:
        """Connect a user."""
        await self.services.connections.approve(self.budget(user), Approval(cap_nano, "sk-or-v1-ada"))
        return self.budget(user)

    async def deliver(self, *budgets: Budget) -> None:
        """Have the sender deliver these budgets' due events, and wait until it has tried."""
        for budget in budgets:
            self.sender.notice(budget)
        await self.sender.idle()

    async def skip_backoff(self, *budgets: Budget) -> None:
        """End the backoff after a failed delivery."""
        for budget in budgets:
            await self.services.store.call("HSET", budget.delivery, "next_ms", 0)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An app's server."""
    async with Receiver().running() as running:
        yield running


@pytest.fixture
async def hooks(redis_url: str, receiver: Receiver, tmp_path: Path) -> AsyncIterator[Hooks]:
    """An app whose endpoint is the receiver."""
    settings = settings_for(
        redis_url, "http://127.0.0.1:1", WATTFARE_WEBHOOK_LOOPBACK="on", WATTFARE_DATA_DIR=str(tmp_path)
    )
    async with open_services(settings) as services:
        app = await services.apps.create("Example", ["https://app.example"])
        receiver.secret = await services.endpoints.set(app["appId"], receiver.url) or ""
        delivery = Delivery(seconds=settings.webhooks.seconds, loopback=settings.webhooks.loopback)
        events, endpoints = services.ledger.events, services.endpoints
        sender = Sender(services.store, events, endpoints, delivery, lambda: time.monotonic() + opened.passed_seconds)
        opened = Hooks(services, sender, receiver, app["appId"])
        try:
            yield opened
        finally:
            await sender.close()
