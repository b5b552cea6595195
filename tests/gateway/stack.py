"""A running gateway for tests: real sockets, a real Valkey, and a replacement for OpenRouter."""

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDictProxy
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from gateway.keys import Budget
from gateway.ledger.outcomes import Standing
from gateway.money import nano_from_usd
from gateway.payers.connections import Approval, By, Term
from gateway.payers.grants import grant_of, new_token
from gateway.server import Gateway, open_gateway
from gateway.settings import Settings
from tests.fakes import MODEL
from tests.servers import open_async_client

ORIGIN = "https://app.example"
FUNDING_KEY = "sk-or-v1-ada"
USER = "ada"
PATIENCE_SECONDS = 10


def ring(kid: str, byte: bytes) -> str:
    """A key ring of one key, as the environment writes it."""
    return f"{kid}:{base64.b64encode(byte * 32).decode()}"


RINGS = {"WATTFARE_MASTER_KEYS": ring("m1", b"m"), "WATTFARE_JWT_KEYS": ring("j1", b"j")}


def settings_for(redis_url: str, upstream_url: str, **variables: str) -> Settings:
    """Return settings with a store deadline that a loaded machine meets, and a short wait for budget."""
    return Settings.load(
        {
            **RINGS,
            "REDIS_URL": redis_url,
            "OPENROUTER_BASE_URL": upstream_url,
            "WATTFARE_REDIS_DEADLINE_MS": "2000",
            "WATTFARE_ADMISSION_WAIT_SECONDS": "0.5",
            "PORT": "0",
            **variables,
        }
    )


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """One HTTP answer, read to its end."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The body as a JSON object."""
        found = json.loads(self.body, parse_float=Decimal)
        assert isinstance(found, dict)
        return found

    @property
    def refusal(self) -> tuple[int, str]:
        """Status and code of an error, once its envelope was found whole."""
        assert self.headers["Content-Type"].startswith("application/json")
        error = self.document["error"]
        assert {"code", "message", "type", "requestId"} <= set(error)
        assert error["requestId"] == self.headers["x-wattfare-request-id"]
        assert error["requestId"].startswith("req_")
        assert error["message"]
        return self.status, error["code"]


def question(
    model: str = MODEL, *, stream: bool = False, text: str = "Say hello.", **more: object
) -> dict[str, object]:
    """A chat body with one user message."""
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, **more}


@dataclass
class Stack:
    """A gateway that listens, an app in it, and a client beside it."""

    gateway: Gateway
    host: str
    port: int
    session: aiohttp.ClientSession
    app: dict[str, str]
    redis: "Redis | RedisCluster"

    @property
    def url(self) -> str:
        """Base URL of the gateway."""
        return f"http://{self.host}:{self.port}"

    @property
    def secret(self) -> str:
        """The app's live secret key."""
        return self.app["secretKey"]

    @property
    def test_secret(self) -> str:
        """The app's test secret key."""
        return self.app["testSecretKey"]

    def budget(self, user: str = USER, mode: str = "live") -> Budget:
        """The budget of one user of the app."""
        return Budget.of_user(mode, self.app["appId"], user)

    async def connect(self, usd: str = "5", *, user: str = USER, key: str = FUNDING_KEY) -> None:
        """Connect a live user with a cap."""
        await self.gateway.services.connections.approve(self.budget(user), Approval(nano_from_usd(usd), key))

    async def connect_test(self, usd: str | None = None, *, user: str = USER) -> None:
        """Connect a test user."""
        cap = None if usd is None else nano_from_usd(usd)
        await self.gateway.services.connections.approve(self.budget(user, "test"), Approval(cap, None))

    async def grant(
        self, requests: int = 3, usd: str = "0.5", *, mode: str = "live", life_ms: int = 3_600_000, wallet: str = ""
    ) -> str:
        """Approve a grant; return its token."""
        token = new_token(mode)
        approval = Approval(
            nano_from_usd(usd),
            FUNDING_KEY if mode == "live" else None,
            wallet,
            ORIGIN,
            by=By.PAYER,
            term=Term(requests, life_ms),
        )
        await self.gateway.services.connections.approve(self.granted(token), approval)
        return token

    def granted(self, token: str) -> Budget:
        """The budget of a grant."""
        return grant_of(token, token.split("_")[1], self.app["appId"])

    def as_grant(self, token: str, *, secret: str | None = None, **more: str) -> dict[str, str]:
        """The headers of a metered call that a grant pays."""
        return {"Authorization": f"Bearer {secret or self.secret}", "x-wattfare-grant": token, **more}

    def as_user(self, user: str = USER, *, secret: str | None = None, **more: str) -> dict[str, str]:
        """The headers of a metered call."""
        return {"Authorization": f"Bearer {secret or self.secret}", "x-wattfare-user": user, **more}

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: "bytes | AsyncIterator[bytes] | None" = None,
        document: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> ReadAnswer:
        """Send one request and read its answer."""
        sent = dict(headers or {})
        if document is not None:
            body = json.dumps(document).encode()
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        # aiohttp warns of large bytes, but not of a file.
        data = io.BytesIO(body) if isinstance(body, bytes) else body
        async with self.session.request(
            method, self.url + path, data=data, headers=sent, allow_redirects=False
        ) as response:
            return ReadAnswer(response.status, response.headers, await response.read())

    async def chat(
        self, document: object = None, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> ReadAnswer:
        """Ask a model as the connected user."""
        if body is None:
            body = json.dumps(question() if document is None else document).encode()
        return await self.ask("POST", "/v1/chat/completions", body=body, headers=headers or self.as_user())

    async def token(self, *, user: str = USER, secret: str | None = None, **more: object) -> str:
        """A session token."""
        answer = await self.ask(
            "POST",
            "/v1/sessions",
            document={"appUserId": user, **more},
            headers={"Authorization": f"Bearer {secret or self.secret}"},
        )
        assert answer.status == 200
        token = answer.document["token"]
        assert isinstance(token, str)
        return token

    async def raw(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send bytes on a connection that the gateway must close; return status, lower-case headers, body."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(PATIENCE_SECONDS):
                answer = await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        head, _, rest = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(first.split(" ")[1]), headers, rest

    async def quiet(self) -> None:
        """Wait until no request is open and each was settled, voided or handed over."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.gateway.inflight) or self.gateway.services.store.pending:
                await asyncio.sleep(0)

    async def standing(self, user: str = USER, mode: str = "live") -> Standing:
        """What a budget is worth once all is quiet."""
        await self.quiet()
        return await self.gateway.services.ledger.standing(self.budget(user, mode))

    async def entries(self, user: str = USER, mode: str = "live") -> list[dict[str, str]]:
        """The ledger once all is quiet."""
        await self.quiet()
        return await self.gateway.services.ledger.entries(self.budget(user, mode))

    async def booked(self, user: str = USER, mode: str = "live", *, count: int = 1) -> list[dict[str, str]]:
        """Wait until the ledger has `count` entries and return them; reconciled entries are later than the answer."""
        stream = self.budget(user, mode).ledger
        async with asyncio.timeout(PATIENCE_SECONDS):
            seen = "0"
            for _ in range(count):
                found: Any = await self.redis.xread({stream: seen}, count=1, block=PATIENCE_SECONDS * 1000)
                assert found, "the ledger got no entry in time"
                seen = found[0][1][0][0].decode()
        return await self.entries(user, mode)

    async def nothing_is_lost(self, user: str = USER, mode: str = "live") -> bool:
        """Return whether no hold and no entry remains."""
        standing = await self.standing(user, mode)
        return standing.held_nano == 0 and standing.spent_nano == 0 and not await self.entries(user, mode)


async def revoke(stack: Stack) -> None:
    """End the usual user's connection."""
    await stack.gateway.services.connections.revoke(stack.budget())


async def pause(stack: Stack) -> None:
    """Pause it."""
    await stack.gateway.services.connections.pause(stack.budget())


async def close_app(stack: Stack) -> None:
    """Close its app."""
    await stack.gateway.services.apps.close(stack.app["appId"])


@contextlib.asynccontextmanager
async def listening(gateway: Gateway) -> AsyncIterator[int]:
    """Serve on a free loopback port; yields the port."""
    runner = web.ServerRunner(gateway.server, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def open_stack(settings: Settings, *, app: dict[str, str] | None = None) -> AsyncIterator[Stack]:
    """A gateway on a loopback port, with an app of its own unless one is given."""
    assert settings.redis_url is not None
    async with (
        open_gateway(settings) as gateway,
        listening(gateway) as port,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as session,
        open_async_client(settings.redis_url) as redis,
    ):
        known = app or await gateway.services.apps.create("Example", [ORIGIN])
        yield Stack(gateway, "127.0.0.1", port, session, known, redis)
