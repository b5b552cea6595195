"""A consent site on a loopback socket, with a real store and the sandbox as OpenRouter, and browsers to visit it."""

import base64
import hashlib
import re
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import orjson
from aiohttp import web
from multidict import CIMultiDictProxy

from consent_web.server import create_app, make_runner, open_site
from consent_web.site import Site
from gateway.keys import Budget
from gateway.services import Services, open_services
from gateway.settings import Settings
from sandbox.server import create_app as create_sandbox
from sandbox.settings import SandboxSettings

ORIGIN = "https://acme.example"
RETURN_URL = f"{ORIGIN}/app?tab=1"
JsonObject = dict[str, object]


@dataclass
class Fetched:
    """An answer, read to its end."""

    status: int
    headers: CIMultiDictProxy[str]
    text: str

    @property
    def json(self) -> JsonObject:
        found: JsonObject = orjson.loads(self.text)
        return found

    @property
    def reason(self) -> object:
        error = self.json["error"]
        assert isinstance(error, dict)
        return error.get("reason", error["code"])

    def header(self, name: str) -> str:
        return str(self.headers.get(name, ""))


@dataclass
class Visitor:
    """A browser without script: it keeps cookies (Secure ones on loopback too) and sends what a browser sends."""

    base: str
    http: aiohttp.ClientSession
    cookies: dict[str, str] = field(default_factory=dict)
    csrf: str = ""
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    async def send(self, method: str, path: str, *, headers: dict[str, str] | None = None, **body: object) -> Fetched:
        sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()), **(headers or {})}
        async with self.http.request(
            method,
            self.base + path,
            headers={name: value for name, value in sent.items() if value},
            allow_redirects=False,
            **body,  # type: ignore[arg-type]
        ) as answer:
            for name, morsel in answer.cookies.items():
                if morsel.value and morsel["max-age"] != "0":
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)
            return Fetched(answer.status, answer.headers, await answer.text())

    async def get(self, path: str, **headers: str) -> Fetched:
        """GET a page or a script's resource; the secret is sent always, although only scripts would send it."""
        return await self.send("GET", path, headers={"x-wattfare-secret": self.secret, **headers})

    async def post(self, path: str, body: object = None, *, headers: dict[str, str] | None = None) -> Fetched:
        """Post JSON as a script of the site does. A header given as an empty text is left out."""
        own = {
            "Content-Type": "application/json",
            "Sec-Fetch-Site": "same-origin",
            "Origin": self.base,
            "x-wattfare-csrf": self.csrf,
            "x-wattfare-secret": self.secret,
        }
        raw = body if isinstance(body, bytes) else orjson.dumps({} if body is None else body)
        answer = await self.send("POST", path, headers={**own, **(headers or {})}, data=raw)
        if answer.text.startswith("{") and "csrf" in answer.json:
            self.csrf = str(answer.json["csrf"])
        return answer

    async def submit(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> Fetched:
        """Send a form as a page of the site does: its Referrer-Policy makes Chromium hide the origin."""
        own = {"Sec-Fetch-Site": "same-origin", "Origin": "null"}
        return await self.send(
            "POST", path, headers={**own, **(headers or {})}, data={"csrf": self.csrf, "secret": self.secret, **fields}
        )

    async def open(self) -> None:
        """Load a page, for its cookie."""
        await self.get("/consent")

    async def read_csrf(self, path: str = "/") -> Fetched:
        """Load a page with forms and take the token they carry."""
        answer = await self.get(path)
        found = re.search(r'name="csrf" (?:value|content)="([0-9a-f]+)"', answer.text)
        assert found, answer.text
        self.csrf = found[1]
        return answer


@dataclass
class World:
    """Everything a test may touch."""

    site: Site
    services: Services
    base: str
    openrouter: str
    http: aiohttp.ClientSession
    app_id: str
    secret_key: str

    def visitor(self) -> Visitor:
        return Visitor(self.base, self.http)

    def token(
        self,
        user: str = "bob",
        *,
        mode: str = "live",
        limit_usd: float | None = 10,
        app_id: str | None = None,
        **claims: object,
    ) -> str:
        limit = None if limit_usd is None else round(limit_usd * 1e9)
        token, _ = self.site.sessions.mint(app_id or self.app_id, user, mode, limit)
        if not claims:
            return token
        import jwt

        kid, key = self.site.sessions._ring.newest
        said = jwt.decode(token, options={"verify_signature": False})
        return jwt.encode({**said, **claims}, key, algorithm="HS256", headers={"kid": kid})

    def budget(self, user: str = "bob", mode: str = "live") -> Budget:
        return Budget.of_user(mode, self.app_id, user)

    async def begin(
        self,
        visitor: Visitor,
        *,
        token: str | None = None,
        mode: str = "live",
        origin: str = ORIGIN,
        nonce: str | None = None,
        app_id: str | None = None,
        **more: object,
    ) -> Fetched:
        """Open the popup and turn a token into an attempt."""
        if not visitor.cookies:
            await visitor.open()
        body = {
            "key": f"pk_{mode}_{app_id or self.app_id}",
            "session": self.token(mode=mode) if token is None else token,
            "nonce": nonce or secrets.token_urlsafe(24),
            "origin": origin,
            **more,
        }
        return await visitor.post("/consent/attempts", body)

    async def funded(self, visitor: Visitor, *, key: str | None = None, **more: object) -> str:
        """Begin an attempt and paste a key. Returns the attempt's id."""
        attempt_id = str((await self.begin(visitor, **more)).json["id"])  # type: ignore[arg-type]
        answer = await visitor.post(f"/consent/attempts/{attempt_id}/key", {"key": key or a_key()})
        assert answer.status == 200, answer.text
        return attempt_id

    async def connected(self, visitor: Visitor, user: str = "bob", *, usd: float = 10, key: str | None = None) -> str:
        """Connect a user in live mode. Returns the attempt's id."""
        attempt_id = await self.funded(visitor, key=key, token=self.token(user))
        answer = await visitor.post(f"/consent/attempts/{attempt_id}/approve", {"monthlyUsd": usd})
        assert answer.status == 200, answer.text
        return attempt_id

    async def authorize(self, url: str, account: str = "user_alice", decision: str = "authorize") -> str:
        """Authorize (or deny) at OpenRouter. Returns the path and query of its redirect."""
        fields = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        form = {**fields, "account": account, "limit": "25", "decision": decision}
        async with self.http.post(self.openrouter + "/auth", data=form, allow_redirects=False) as answer:
            assert answer.status == 303, await answer.text()
            back = urlsplit(answer.headers["Location"])
        assert f"{back.scheme}://{back.netloc}" == self.base
        return f"{back.path}?{back.query}"

    async def by_openrouter(self, visitor: Visitor, account: str = "user_alice", attempt: str = "") -> Fetched:
        """Fund by an authorization, from start to finish."""
        await visitor.read_csrf("/fund/start")
        started = await visitor.post("/fund/start", {"attempt": attempt} if attempt else {})
        back = urlsplit(await self.authorize(str(started.json["url"]), account))
        await visitor.get(f"{back.path}?{back.query}")
        body = {"state": back.path.rpartition("/")[2], "code": parse_qs(back.query)["code"][0]}
        return await visitor.post("/fund/finish", body)


def a_key() -> str:
    """Return an OpenRouter key with a limit, in the sandbox's form."""
    return f"sk-or-v1-limit50-{secrets.token_hex(16)}"


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a verifier."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@asynccontextmanager
async def a_world(redis_url: str, data_dir: Path, *, host: str = "127.0.0.1") -> AsyncIterator[World]:
    """Serve a site and a sandbox until the block ends; without a `redis_url` on an embedded store in `data_dir`.

    `host`: the loopback name that the site is known by.
    """
    listening, upstream = _socket(), _socket()
    base = f"http://{host}:{listening.getsockname()[1]}"
    openrouter = f"http://127.0.0.1:{upstream.getsockname()[1]}"
    environ = {
        "WATTFARE_DATA_DIR": str(data_dir),
        "REDIS_URL": redis_url,
        "OPENROUTER_BASE_URL": openrouter,
        "WATTFARE_CONSENT_URL": base,
        "WATTFARE_REDIS_DEADLINE_MS": "2000",
        "WATTFARE_OPERATOR_NAME": "Example Budgets",
        "WATTFARE_OPERATOR_SUPPORT_URL": "https://budgets.example/help",
        "WATTFARE_OPERATOR_TERMS_URL": "https://budgets.example/terms",
        "WATTFARE_OPERATOR_PRIVACY_URL": "https://budgets.example/privacy",
    }
    settings = Settings.load(environ, default_port=8081)
    async with (
        open_services(settings) as services,
        open_site(settings) as site,
        _serving(make_runner(create_app(site), drain_seconds=1), listening),
        _serving(web.AppRunner(create_sandbox(SandboxSettings()), shutdown_timeout=1), upstream),
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        keys = await site.apps.create("Acme", [ORIGIN], [RETURN_URL])
        yield World(site, services, base, openrouter, http, keys["appId"], keys["secretKey"])


@asynccontextmanager
async def _serving(runner: web.AppRunner, listening: socket.socket) -> AsyncIterator[None]:
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        yield
    finally:
        await runner.cleanup()


def _socket() -> socket.socket:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(128)
    return listening
