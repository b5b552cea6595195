"""Registered apps: their secret keys, allowed origins and return URLs; authenticates callers.

Rule: only a secret's SHA-256 is stored. A process may cache an app's record for a second; a rotation or closing clears
that cache in every process (`broadcast`) before it is answered.
"""

import base64
import hmac
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson
from aiohttp.hdrs import AUTHORIZATION

from gateway import keys
from gateway.digest import sha256_hex
from gateway.errors import AuthError
from gateway.payers import return_urls
from gateway.payers.credentials import no_secret_key
from gateway.payers.origins import is_loopback
from gateway.store.broadcast import Broadcast, Cut
from gateway.store.store import Store

# Bounds how long a process that missed a cut uses an old record; long enough to save Redis a read per request.
_CACHE_SECONDS = 1.0
_LONGEST_KEPT = 128  # an Authorization header with a secret key has about 95 characters
# About 10 MB. A larger cache is cleared as a whole, which is simpler than evicting: it refills within a second.
_CACHE_APPS = 10_000
_APP_ID_BYTES = 10  # 16 base32 characters
_SECRET_BYTES = 32  # 256 bits cannot be found by search, so an unsalted SHA-256 of it may be stored
MODES = ("live", "test")


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret key: its mode, its SHA-256 in hex, and when it expires (unix milliseconds; None: never)."""

    mode: str
    digest: str
    expires_ms: int | None


@dataclass(frozen=True, slots=True)
class App:
    """A registered app."""

    app_id: str
    name: str
    origins: frozenset[str]
    secrets: tuple[Secret, ...]
    is_closed: bool
    return_urls: frozenset[str] = frozenset()

    def allows_origin(self, origin: str, mode: str) -> bool:
        """Return whether a page on `origin` may act for this app. Test mode also allows every loopback origin."""
        return origin in self.origins or (mode == "test" and is_loopback(origin))

    def returns_to(self, url: str, mode: str) -> bool:
        """Return whether redirect mode may return to `url`. Test mode also allows every loopback URL."""
        return return_urls.allows(self.return_urls, url, mode)


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated app, and the mode of its secret key."""

    app: App
    mode: str


class Apps:
    """The store of apps."""

    def __init__(self, store: Store, broadcast: Broadcast) -> None:
        self._store = store
        self._broadcast = broadcast
        self._cache: dict[str, tuple[float, App | None]] = {}
        self._callers: dict[str | None, tuple[float, Caller]] = {}
        self._forgotten = 0

    async def create(self, name: str, origins: Iterable[str], return_urls: Iterable[str] = ()) -> dict[str, str]:
        """Register an app; return its id and keys; the secrets are never available again. Raises Unavailable.

        `origins`, `return_urls`: as returned by `register` of origins.py and return_urls.py.
        """
        app_id = "app" + base64.b32encode(secrets.token_bytes(_APP_ID_BYTES)).decode().lower()
        fields: list[str | int] = ["name", name, "created_ms", _now_ms()]
        fields += ["origins", _listed(origins), "return_urls", _listed(return_urls)]
        issued = {mode: secrets.token_hex(_SECRET_BYTES) for mode in MODES}
        for mode, secret in issued.items():
            fields += [f"secret:{mode}:{sha256_hex(secret)}", ""]
        await self._store.call("HSET", keys.app(app_id), *fields)
        await self._store.call("SADD", keys.APPS, app_id)
        return {
            "appId": app_id,
            "publishableKey": f"pk_live_{app_id}",
            "secretKey": f"sk_live_{app_id}_{issued['live']}",
            "testPublishableKey": f"pk_test_{app_id}",
            "testSecretKey": f"sk_test_{app_id}_{issued['test']}",
        }

    async def update(
        self,
        app_id: str,
        *,
        name: str | None = None,
        origins: Iterable[str] | None = None,
        return_urls: Iterable[str] | None = None,
    ) -> None:
        """Change the given fields of an app; its keys stay valid. Every process uses the change before this returns.

        Raises KeyError (no such app), Unavailable.
        """
        await self._known(app_id)
        fields: list[str] = []
        fields += [] if name is None else ["name", name]
        fields += [] if origins is None else ["origins", _listed(origins)]
        fields += [] if return_urls is None else ["return_urls", _listed(return_urls)]
        if fields:
            await self._store.call("HSET", keys.app(app_id), *fields)
            await self._broadcast.send(Cut("secrets", app_id))

    async def rotate(self, app_id: str, mode: str, *, grace_seconds: int) -> str:
        """Return a new secret key, valid at once; the old ones expire now or after `grace_seconds`.

        Raises KeyError (no such app), Unavailable.
        """
        known = await self._known(app_id)
        secret = secrets.token_hex(_SECRET_BYTES)
        await self._store.call("HSET", keys.app(app_id), f"secret:{mode}:{sha256_hex(secret)}", "")
        for old in known.secrets:
            if old.mode != mode:
                continue
            field = f"secret:{mode}:{old.digest}"
            if grace_seconds > 0:
                end_ms = min(_now_ms() + grace_seconds * 1000, old.expires_ms or 2**62)
                await self._store.call("HSET", keys.app(app_id), field, end_ms)
            else:
                await self._store.call("HDEL", keys.app(app_id), field)
        await self._broadcast.send(Cut("secrets", app_id))
        return f"sk_{mode}_{app_id}_{secret}"

    async def close(self, app_id: str) -> None:
        """Refuse an app's keys from now on and end its open streams. Idempotent.

        Raises KeyError (no such app), Unavailable.
        """
        await self._known(app_id)
        await self._store.call("HSET", keys.app(app_id), "closed_ms", _now_ms())
        await self._broadcast.send(Cut("app", app_id))

    async def find(self, app_id: str) -> App | None:
        """Return the app, None when there is none. Raises Unavailable.

        The record may be cached for up to a second, but is read from Redis while this process may have missed a cut.
        """
        now = time.monotonic()
        cached = self._cache.get(app_id) if self.receives_cuts else None
        if cached is not None and now - cached[0] < _CACHE_SECONDS:
            return cached[1]
        forgotten = self._forgotten
        found = await self._load(app_id)
        while forgotten != self._forgotten:
            # A cut arrived during the read, which may have happened before the change that it announces: read again.
            forgotten = self._forgotten
            found = await self._load(app_id)
        if len(self._cache) > _CACHE_APPS:
            self._cache.clear()
            self._callers.clear()
        self._cache[app_id] = (now, found)
        return found

    async def every(self) -> list[App]:
        """Return every app, closed ones too, sorted by name. Raises Unavailable."""
        names = await self._store.call("SMEMBERS", keys.APPS)
        found = [await self._load(name.decode()) for name in names]
        return sorted((app for app in found if app is not None), key=lambda app: (app.name, app.app_id))

    async def authenticate(self, authorization: str | None) -> Caller:
        """Return the caller, by `Bearer sk_{mode}_{appId}_{secret}`. Raises AuthError, Unavailable."""
        if (proven := self.proven(authorization)) is not None:
            return proven
        scheme, _, token = (authorization or "").partition(" ")
        parts = token.strip().split("_")
        if scheme.lower() != "bearer" or len(parts) != 4 or parts[0] != "sk" or parts[1] not in MODES:
            raise AuthError(no_secret_key(authorization))
        _, mode, app_id, secret = parts
        app = await self.find(app_id) if _is_app_id(app_id) else None
        digest, now_ms = sha256_hex(secret), _now_ms()
        matches = False
        for known in app.secrets if app is not None else ():
            alive = known.mode == mode and (known.expires_ms is None or known.expires_ms > now_ms)
            matches |= hmac.compare_digest(known.digest, digest) and alive
        if app is None or app.is_closed or not matches:
            raise AuthError("This secret key is not valid. Check it, or rotate it and use the new one.")
        caller = Caller(app, mode)
        self._keep(authorization, caller)
        return caller

    def proven(self, authorization: str | None) -> Caller | None:
        """Return the caller of a header authenticated less than a second ago without a cut since; else None."""
        found = self._callers.get(authorization)
        return found[1] if found is not None and time.monotonic() < found[0] and self._broadcast.hears else None

    def _keep(self, authorization: str | None, caller: Caller) -> None:
        """Cache a header's caller for as long as the app's record, unless one of the app's secrets will expire."""
        cached = self._cache.get(caller.app.app_id)
        # A padded header is not cached: each padding would take one more entry.
        is_short = len(authorization or "") <= _LONGEST_KEPT
        if is_short and cached is not None and all(secret.expires_ms is None for secret in caller.app.secrets):
            self._callers[authorization] = (cached[0] + _CACHE_SECONDS, caller)

    @property
    def receives_cuts(self) -> bool:
        """Whether this process has acted on every rotation, closing and revocation answered by any process."""
        return self._broadcast.hears

    async def is_closed(self, app_id: str) -> bool:
        """Return whether an app is closed or missing, read from Redis past the cache. Raises Unavailable."""
        app = await self._load(app_id)
        return app is None or app.is_closed

    def forget_all(self) -> None:
        """Clear this process's cache of all apps."""
        self._forgotten += 1
        self._cache.clear()
        self._callers.clear()

    def forget(self, app_id: str) -> None:
        """Clear this process's cache of one app."""
        self._forgotten += 1
        self._cache.pop(app_id, None)
        self._callers.clear()

    async def _known(self, app_id: str) -> App:
        app = await self._load(app_id)
        if app is None:
            raise KeyError(app_id)
        return app

    async def _load(self, app_id: str) -> App | None:
        fields: dict[bytes, bytes] = await self._store.call("HGETALL", keys.app(app_id))
        if not fields:
            return None
        found = []
        for field, expires in fields.items():
            if field.startswith(b"secret:"):
                _, mode, digest = field.decode().split(":")
                found.append(Secret(mode, digest, int(expires) if expires else None))
        return App(
            app_id,
            fields[b"name"].decode(),
            frozenset(orjson.loads(fields[b"origins"])),
            tuple(found),
            is_closed=b"closed_ms" in fields,
            return_urls=frozenset(orjson.loads(fields.get(b"return_urls", b"[]"))),
        )


def authorization_of(headers: Mapping[str, str]) -> str | None:
    """Return a call's Authorization, or `Bearer` and its `x-api-key`, which Anthropic's SDKs send instead.

    Raises AuthError when x-api-key is a publishable key.
    """
    authorization = headers.get(AUTHORIZATION)
    if authorization is not None or (key := headers.get("x-api-key")) is None:
        return authorization
    if key.strip().startswith("pk_"):
        raise AuthError("x-api-key holds a publishable key (pk_…). Send your secret key (sk_…), from your backend.")
    return f"Bearer {key}"


def _listed(texts: Iterable[str]) -> str:
    return orjson.dumps(sorted(set(texts))).decode()


def _is_app_id(text: str) -> bool:
    return len(text) == 19 and text.startswith("app") and text.isascii() and text.isalnum()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
