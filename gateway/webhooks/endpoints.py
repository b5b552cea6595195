"""The webhook endpoint of each app: its URL and its signing secrets.

Rule: a secret is shown once, and stored sealed to its app: signing needs it in clear. A replaced secret signs beside
the new one until it expires, so that an app can switch without refusing an event.
"""

import base64
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson

from gateway import keys
from gateway.logs import log
from gateway.sealing import SealBroken, Sealer
from gateway.store.replies import by_name
from gateway.store.store import Store

# The specification recommends 24 to 64 bytes.
_SECRET_BYTES = 32
_PREFIX = "whsec_"
# A sample for the operator; the events themselves are in their budgets' streams.
_MOST_UNDELIVERED = 100


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An app's endpoint. `secrets`: newest first, one or two, as `whsec_…`; none if the master key that sealed them is
    gone.

    `since_ms`: older events are delivered by a replay only. `gone_ms`: when it answered 410 Gone, which disabled it;
    None: it did not.
    """

    app_id: str
    url: str
    secrets: tuple[str, ...]
    since_ms: int
    gone_ms: int | None = None


class Endpoints:
    """The store of endpoints. It caches nothing: each look reads Redis."""

    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    async def find(self, app_id: str) -> Endpoint | None:
        """Return the endpoint of an app, None without one. Raises Unavailable.

        A secret that does not open any more is left out.
        """
        fields = by_name(await self._store.call("HGETALL", keys.webhook(app_id)))
        if "url" not in fields:
            return None
        sealed = [fields["secret"]]
        if int(fields.get("old_ends_ms", 0)) > _now_ms():
            sealed.append(fields["old_secret"])
        return Endpoint(
            app_id,
            fields["url"].decode(),
            tuple(self._opened(app_id, sealed)),
            int(fields["since_ms"]),
            int(fields["gone_ms"]) if "gone_ms" in fields else None,
        )

    async def set(self, app_id: str, url: str) -> str | None:
        """Set the endpoint of an app to `url` (as `register` returns it); return its secret if it is a new one.

        An app without an endpoint, or whose endpoint was disabled, gets the events from now on. Raises Unavailable.
        """
        secret = _new_secret()
        is_first = await self._store.run("set_endpoint", [keys.webhook(app_id)], [url, self._seal(app_id, secret)])
        return secret if is_first else None

    async def remove(self, app_id: str) -> None:
        """Remove the endpoint of an app and its secrets. Raises Unavailable."""
        await self._store.call("DEL", keys.webhook(app_id))

    async def rotate(self, app_id: str, *, grace_seconds: int) -> str:
        """Return a new secret; the old one signs too for `grace_seconds`. Raises KeyError (no endpoint)."""
        key = keys.webhook(app_id)
        known = await self._store.call("HGET", key, "secret")
        if known is None:
            raise KeyError(app_id)
        secret = _new_secret()
        fields: list[str | int | bytes] = ["secret", self._seal(app_id, secret)]
        fields += ["old_secret", known, "old_ends_ms", _now_ms() + grace_seconds * 1000]
        await self._store.call("HSET", key, *fields)
        return secret

    async def disable(self, endpoint: Endpoint) -> None:
        """Disable an endpoint: nothing is sent until it is set again. One that was set meanwhile stays as it is.

        Raises Unavailable.
        """
        key = keys.webhook(endpoint.app_id)
        await self._store.run("disable_endpoint", [key], [endpoint.url, endpoint.since_ms])

    async def note_undelivered(self, app_id: str, said: dict[str, object]) -> None:
        """Record for the operator that the delivery of an event was given up. Raises Unavailable."""
        await self._store.call("LPUSH", keys.undelivered(app_id), orjson.dumps(said))
        await self._store.call("LTRIM", keys.undelivered(app_id), 0, _MOST_UNDELIVERED - 1)

    async def undelivered(self, app_id: str) -> list[dict[str, object]]:
        """Return the last events whose delivery was given up, newest first. Raises Unavailable."""
        return [orjson.loads(each) for each in await self._store.call("LRANGE", keys.undelivered(app_id), 0, -1)]

    def _opened(self, app_id: str, sealed: Iterable[bytes]) -> Iterator[str]:
        for each in sealed:
            try:
                yield self._sealer.open(each, place=keys.webhook_place(app_id))
            except SealBroken as broken:
                log.error("webhook_secret_broken", app_id=app_id, reason=str(broken))

    def _seal(self, app_id: str, secret: str) -> bytes:
        return self._sealer.seal(secret, place=keys.webhook_place(app_id))


def _new_secret() -> str:
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
