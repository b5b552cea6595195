"""The environment of fault tests: stores, a sweeper driven by the test, an app, payers, a client."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256
from typing import Any

import aiohttp
from aiohttp import web

from gateway.keys import Budget
from gateway.ledger.sweeper import Sweeper
from gateway.money import nano_from_usd
from gateway.openrouter.client import Client, Timeouts
from gateway.payers.connections import Approval, Term
from gateway.payers.grants import grant_of, new_token
from gateway.services import Services, open_services
from gateway.settings import Settings
from sandbox.bill import Bill, Entry
from sandbox.server import BILL_KEY, create_app
from sandbox.settings import SandboxSettings
from tests.gateway.stack import RINGS

PATIENCE_SECONDS = 20
_POLL_SECONDS = 0.01


async def until(holds: Callable[[], Awaitable[bool]], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Ask again and again until `holds` is true. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(_POLL_SECONDS)


def variables(redis_url: str, upstream_url: str, **more: str) -> dict[str, str]:
    """Return the environment variables of a test's gateway; each may be overridden."""
    return {
        **RINGS,
        "REDIS_URL": redis_url,
        "OPENROUTER_BASE_URL": upstream_url,
        "PORT": "0",
        "WATTFARE_SWEEPER": "off",
        "WATTFARE_HOLD_SECONDS": "0.6",
        "WATTFARE_RECONCILE_SECONDS": "30",
        "WATTFARE_REDIS_DEADLINE_MS": "2000",
        "WATTFARE_DRAIN_SECONDS": "5",
        **more,
    }


@dataclass
class FaultWorld:
    """The stores, one app in them, and a sweeper that only the test drives."""

    services: Services
    sweeper: Sweeper
    app: dict[str, str]
    client: aiohttp.ClientSession
    tokens: dict[str, str] = field(default_factory=dict)
    """The grants among the payers, by name."""

    def budget(self, user: str) -> Budget:
        """A live user's budget, or a grant's."""
        if user in self.tokens:
            return grant_of(self.tokens[user], "live", self.app["appId"])
        return Budget.of_user("live", self.app["appId"], user)

    @staticmethod
    def key(user: str) -> str:
        """A user's funding key."""
        return f"sk-or-v1-{user}"

    async def connect(self, user: str, usd: str = "5") -> None:
        """Connect a user; every user pays with a key of their own."""
        await self.services.connections.approve(self.budget(user), Approval(nano_from_usd(usd), self.key(user)))

    async def grant(self, name: str, requests: int, usd: str = "5") -> None:
        """Approve a grant: a payer under that name from now on, with a key of its own."""
        self.tokens[name] = new_token("live")
        approval = Approval(nano_from_usd(usd), self.key(name), term=Term(requests, 3_600_000))
        await self.services.connections.approve(self.budget(name), approval)

    def headers(self, user: str) -> dict[str, str]:
        """The headers of a metered call."""
        payer = {"x-wattfare-grant": self.tokens[user]} if user in self.tokens else {"x-wattfare-user": user}
        secret = f"Bearer {self.app['secretKey']}"
        return {"Authorization": secret, **payer, "Content-Type": "application/json"}

    def ask(self, url: str, user: str, body: Mapping[str, object]) -> "contextlib.AbstractAsyncContextManager[Any]":
        """Open one metered call."""
        data = json.dumps(body).encode()
        return self.client.post(f"{url}/v1/chat/completions", data=data, headers=self.headers(user))

    async def usage(self, url: str, request_id: str) -> dict[str, Any]:
        """GET /v1/usage/{requestId}."""
        headers = {"Authorization": f"Bearer {self.app['secretKey']}"}
        async with self.client.get(f"{url}/v1/usage/{request_id}", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = json.loads(await answer.read(), parse_float=Decimal)
        return found

    async def swept(self, user: str, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Sweep one user until nothing of theirs is open."""
        budget = self.budget(user)

        async def is_clear() -> bool:
            return await self.sweeper.sweep(budget) is None

        await until(is_clear, seconds=seconds)

    async def books(self, user: str) -> "Books":
        """Return one user's data in Redis."""
        budget = self.budget(user)
        standing = await self.services.ledger.standing(budget)
        entries = await self.services.ledger.entries(budget)
        days = await self.services.ledger.days(budget)
        used = None if standing.uses is None else standing.used
        return Books(standing.held_nano, standing.spent_nano, sum(days.values()), entries, used)


@dataclass(frozen=True, slots=True)
class Books:
    """One user's money: held, spent, the sum of the day buckets, and the ledger; of a grant, how often it was used."""

    held_nano: int
    spent_nano: int
    days_nano: int
    entries: list[dict[str, str]]
    used: int | None = None

    @property
    def statuses(self) -> list[str]:
        """How the requests ended, oldest first."""
        return [entry["status"] for entry in self.entries]

    @property
    def agree(self) -> bool:
        """Return whether balance, day buckets and ledger agree and nothing is held; for a grant also its uses."""
        told = sum(int(entry["delta_nano"]) for entry in self.entries)
        last = {entry["request_id"]: entry["status"] for entry in self.entries}
        is_counted = self.used is None or self.used == sum(status != "void" for status in last.values())
        return self.held_nano == 0 and told == self.spent_nano == self.days_nano and is_counted


@contextlib.asynccontextmanager
async def open_world(environment: Mapping[str, str]) -> AsyncIterator[FaultWorld]:
    """A world on the Redis and the upstream that `environment` names."""
    settings = Settings.load(environment)
    upstream = Client(settings.openrouter_base_url, Timeouts(5, 10, 10))
    async with (
        open_services(settings) as services,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as client,
    ):
        sweeper = Sweeper(services.ledger, upstream, services.sealer, reconcile_seconds=settings.reconcile_seconds)
        try:
            app = await services.apps.create("Example", ["https://app.example"])
            yield FaultWorld(services, sweeper, app, client)
        finally:
            await sweeper.close()
            await upstream.close()


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The sandbox in the test's own process."""

    url: str
    bill: Bill

    async def entries(self, key: str) -> list[Entry]:
        """The generations of one key once none of them runs."""
        entries = list(self.bill.entries(sha256(key.encode()).hexdigest()))
        async with asyncio.timeout(PATIENCE_SECONDS):
            for entry in entries:
                await entry.ended.wait()
        return entries

    async def billed_nano(self, key: str) -> int:
        """What one key was billed once nothing of it runs."""
        return sum(entry.cost_nano for entry in await self.entries(key))


@contextlib.asynccontextmanager
async def open_sandbox(*listed: str, delay_ms: int = 30) -> AsyncIterator[Sandbox]:
    """A sandbox on a free loopback port, whose `/generation` is 404 for `delay_ms`."""
    app = create_app(SandboxSettings(generation_delay_ms=delay_ms, keepalive_ms=200, listed_models=listed))
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield Sandbox(f"http://127.0.0.1:{runner.addresses[0][1]}", app[BILL_KEY])
    finally:
        await runner.cleanup()
