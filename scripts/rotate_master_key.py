"""Reseal funding keys and webhook secrets under the newest master key: `python -m scripts.rotate_master_key`.

It is resumable. Put the new key first in WATTFARE_MASTER_KEYS everywhere, restart, run this, wait an hour (an open
consent popup may hold a key sealed under the old one), then remove the old key.
"""

import argparse
from collections.abc import Mapping

from gateway import keys
from gateway.keys import Budget
from gateway.ledger.record import read_hold
from gateway.logs import log
from gateway.sealing import SealBroken
from gateway.services import Services
from scripts.command import run

_FUNDING = ("funding",)
_SECRETS = ("secret", "old_secret")


async def rotate_master_key(services: Services, _: argparse.Namespace) -> Mapping[str, object]:
    """Reseal all funding keys and webhook secrets; return the numbers resealed, current and broken."""
    counts = {"resealed": 0, "current": 0, "broken": 0}
    for pattern in ("wf:*:budget", "wf:*:hold:*", "wf:wallet:*", "wf:webhook:*"):
        async for key in services.store.each_key(pattern):
            place = _place(key)
            if place is not None:
                for field in _fields(key):
                    counts[await _reseal(services, key, place, field)] += 1
    return {"ok": counts["broken"] == 0, **counts}


def _fields(key: str) -> tuple[str, ...]:
    """Return which fields of a key are sealed; "" stands for the end of a hold."""
    if key.startswith("wf:webhook:"):
        return _SECRETS
    return ("",) if ":hold:" in key else _FUNDING


def _place(key: str) -> str | None:
    if key.startswith("wf:wallet:"):
        wallet_id = key.removeprefix("wf:wallet:{").removesuffix("}")
        return None if ":" in wallet_id else keys.wallet_place(wallet_id)
    if key.startswith("wf:webhook:"):
        return keys.webhook_place(key.removeprefix("wf:webhook:"))
    name = key.rpartition(":hold:")[0] or key.removesuffix(":budget")
    return Budget.parse(name).place


async def _reseal(services: Services, key: str, place: str, field: str) -> str:
    """Reseal the value of a hash's `field`, or with an empty `field` a hold's funding key."""
    if field:
        sealed = await services.store.call("HGET", key, field)
    else:
        raw = await services.store.call("GET", key)
        sealed = read_hold(raw).funding if raw else b""
    if not sealed or services.sealer.is_newest(sealed):
        return "current"
    try:
        secret = services.sealer.open(sealed, place=place)
    except SealBroken as broken:
        log.error("seal_broken", key=key.rpartition("}")[2], reason=str(broken))
        return "broken"
    await services.store.run("replace", [key], [field, sealed, services.sealer.seal(secret, place=place)])
    return "resealed"


if __name__ == "__main__":
    run(
        argparse.ArgumentParser(prog="rotate_master_key", description="Seal every funding key anew."), rotate_master_key
    )
