"""Where each app is told of events, and with which secrets that is signed.

Rule: a secret is shown once. It is kept sealed to its app, because it must be readable for signing. One that was
replaced goes on signing beside the new one until its end, so that an app can change over without losing an event.
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
# For an operator's eye; each event itself is kept as long as any.
_MOST_UNTOLD = 100


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an app is told of events. `secrets`: newest first, one or two, as `whsec_…`;
    none where the master key that sealed them is gone.

    `since_ms`: what happened before is told only when it is told again. `gone_ms`: when it answered 410 Gone, which
    switched it off; None: it did not.
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
        """Return where an app is told of events, None where it is not. Raises Unavailable.

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
        """Have an app told of events at `url` (as `register` gives it); return its secret if it had none.

        One that was switched off, or had none, is told of what happens from now on. Raises Unavailable.
        """
        secret = _new_secret()
        is_first = await self._store.run("set_endpoint", [keys.webhook(app_id)], [url, self._seal(app_id, secret)])
        return secret if is_first else None

    async def remove(self, app_id: str) -> None:
        """Tell an app of nothing any more, and drop its secrets. Raises Unavailable."""
        await self._store.call("DEL", keys.webhook(app_id))

    async def rotate(self, app_id: str, *, grace_seconds: int) -> str:
        """Return a new secret; the old one goes on signing too for so long. Raises KeyError (none), Unavailable."""
        key = keys.webhook(app_id)
        known = await self._store.call("HGET", key, "secret")
        if known is None:
            raise KeyError(app_id)
        secret = _new_secret()
        fields: list[str | int | bytes] = ["secret", self._seal(app_id, secret)]
        fields += ["old_secret", known, "old_ends_ms", _now_ms() + grace_seconds * 1000]
        await self._store.call("HSET", key, *fields)
        return secret

    async def switch_off(self, endpoint: Endpoint) -> None:
        """Note that an endpoint is gone for good: nothing more is sent until it is set anew. Raises Unavailable."""
        await self._store.call("HSET", keys.webhook(endpoint.app_id), "gone_ms", _now_ms())

    async def note_untold(self, app_id: str, said: dict[str, object]) -> None:
        """Keep for the operator that an event was given up. Raises Unavailable."""
        await self._store.call("LPUSH", keys.untold(app_id), orjson.dumps(said))
        await self._store.call("LTRIM", keys.untold(app_id), 0, _MOST_UNTOLD - 1)

    async def untold(self, app_id: str) -> list[dict[str, object]]:
        """Return the last events that were given up, newest first. Raises Unavailable."""
        return [orjson.loads(each) for each in await self._store.call("LRANGE", keys.untold(app_id), 0, -1)]

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
