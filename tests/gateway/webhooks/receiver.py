"""An app's webhook server: it verifies each message with the specification's library and answers as configured."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

from tests.gateway.stack import PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class ReceivedWebhook:
    """One webhook that was checked."""

    message_id: str
    body: bytes
    document: dict[str, Any]
    status: int

    @property
    def said(self) -> tuple[str, Any]:
        """Return its type and its user."""
        data = self.document["data"]
        return self.document["type"], data.get("appUserId") or data.get("grant") or data.get("appId")


@dataclass
class Receiver:
    """Answers with the first of `statuses` as long as there is one, else with 204, after `gate` was opened."""

    port: int = 0
    secret: str = ""
    received: list[ReceivedWebhook] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        """The endpoint's URL."""
        return f"http://127.0.0.1:{self.port}/hooks?app=1"

    @property
    def taken(self) -> list[ReceivedWebhook]:
        """What it has answered with 2xx."""
        return [each for each in self.received if each.status < 300]

    async def until(self, count: int) -> list[ReceivedWebhook]:
        """Wait until `count` messages arrived; return all of them."""
        async with asyncio.timeout(2 * PATIENCE_SECONDS), self.came:
            await self.came.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def take(self, request: web.Request) -> web.Response:
        """Check one webhook and answer it."""
        assert request.path_qs == "/hooks?app=1"
        body = await request.read()
        document = Webhook(self.secret).verify(body, dict(request.headers))
        status = self.statuses.pop(0) if self.statuses else 204
        async with self.came:
            self.received.append(ReceivedWebhook(request.headers["webhook-id"], body, document, status))
            self.came.notify_all()
        await self.gate.wait()
        return web.Response(status=status, headers=self.headers)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Receiver"]:
        """Listen on a free loopback port until the block ends."""
        app = web.Application()
        app.router.add_post("/hooks", self.take)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        self.gate.set()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            self.port = runner.addresses[0][1]
            yield self
        finally:
            self.gate.set()
            await runner.cleanup()
