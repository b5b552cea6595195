"""Sealing anew under the newest master key."""

import argparse
import base64
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.keys import Budget
from gateway.ledger.outcomes import Settlement
from gateway.ledger.worst_case import WorstCase
from gateway.payers.connections import Approval, Term
from gateway.services import open_services
from gateway.settings import Settings
from scripts.rotate_master_key import rotate_master_key

pytestmark = pytest.mark.each_store

_OLD = "old:" + base64.b64encode(b"1" * 32).decode()
_NEW = "new:" + base64.b64encode(b"2" * 32).decode()
_USER = "a:b}{c/ü"


def _settings(redis_url: str, folder: Path, master_keys: str) -> Settings:
    return Settings.load(
        {
            "REDIS_URL": redis_url,
            "WATTFARE_DATA_DIR": str(folder),
            "WATTFARE_MASTER_KEYS": master_keys,
            "WATTFARE_REDIS_DEADLINE_MS": "2000",
        }
    )


@pytest.mark.parametrize(
    ("budget", "term"),
    [
        (Budget.of_user("live", "app0123456789abcdef", _USER), None),
        (Budget.of_grant("live", "app0123456789abcdef", "9" * 64), Term(9, 3_600_000)),
    ],
)
async def test_every_key_opens_without_the_old_master_key_afterwards(
    redis_url: str, tmp_path: Path, budget: Budget, term: Term | None
) -> None:
    """The old key can be removed from the ring, and a second run finds nothing to do."""
    async with open_services(_settings(redis_url, tmp_path, _OLD)) as services:
        await services.connections.approve(budget, Approval(10**9, "sk-or-v1-canary", term=term))
        for request_id in ("open", "closed"):
            await services.ledger.admit(budget, request_id, WorstCase(1000, 0, 1), model="m", estimate_nano=1)
        await services.ledger.settle(budget, "closed", Settlement("settled", 5))
        secrets = [await services.endpoints.set(budget.app_id, "https://hooks.example/")]
        secrets.insert(0, await services.endpoints.rotate(budget.app_id, grace_seconds=60))
        held = await services.ledger.hold(budget, "open")

    async with open_services(_settings(redis_url, tmp_path, f"{_NEW},{_OLD}")) as services:
        first = await rotate_master_key(services, argparse.Namespace())
        second = await rotate_master_key(services, argparse.Namespace())
    async with open_services(_settings(redis_url, tmp_path, _NEW)) as services:
        sealed = await services.store.call("HGET", budget.budget, "funding")
        hold = await services.ledger.hold(budget, "open")
        assert held is not None
        assert hold is not None
        assert hold == replace(held, funding=hold.funding)
        endpoint = await services.endpoints.find(budget.app_id)
        assert endpoint is not None
        assert list(endpoint.secrets) == secrets
        opened = [services.sealer.open(each, place=budget.place) for each in (sealed, hold.funding)]

    assert first == {"ok": True, "resealed": 4, "current": 1, "broken": 0}
    assert second == {"ok": True, "resealed": 0, "current": 5, "broken": 0}
    assert opened == ["sk-or-v1-canary"] * 2


async def test_a_key_that_no_ring_opens_is_told_and_left(redis_url: str, tmp_path: Path) -> None:
    """The command fails loudly: a connection would fail quietly later."""
    budget = Budget.of_user("live", "app0123456789abcdef", "user")
    async with open_services(_settings(redis_url, tmp_path, _OLD)) as services:
        await services.connections.approve(budget, Approval(10**9, "sk-or-v1-canary"))

    async with open_services(_settings(redis_url, tmp_path, _NEW)) as services:
        answer = await rotate_master_key(services, argparse.Namespace())

    assert answer == {"ok": False, "resealed": 0, "current": 0, "broken": 1}
