"""Connections: approve, lower, pause, resume, revoke; spend stays whatever happens."""

from collections.abc import AsyncIterator

import pytest

from gateway import keys
from gateway.errors import ConsentRequired, NotConnected
from gateway.keys import Budget
from gateway.payers.connections import Approval
from gateway.services import Services, open_services
from tests.gateway.stack import settings_for

pytestmark = pytest.mark.each_store

_ADA = Budget("live", "app0123456789abcdef", "ada")
_USD = 10**9


@pytest.fixture
async def services(redis_url: str) -> AsyncIterator[Services]:
    """The stores on an empty Redis, with one connection of 5 USD."""
    async with open_services(settings_for(redis_url, "http://127.0.0.1:1")) as opened:
        await opened.connections.approve(_ADA, Approval(5 * _USD, "sk-or-v1-ada"))
        yield opened


async def test_a_live_connection_needs_a_cap_and_a_key(services: Services) -> None:
    """There is no unlimited live connection."""
    for approval in (Approval(None, "sk-or-v1-x"), Approval(_USD, None)):
        with pytest.raises(ValueError, match="needs"):
            await services.connections.approve(_ADA, approval)


async def test_lowering_never_raises(services: Services) -> None:
    """The same or less is done; more, or a stranger's, needs consent."""
    await services.connections.lower(_ADA, 5 * _USD)
    await services.connections.lower(_ADA, 2 * _USD)
    with pytest.raises(ConsentRequired):
        await services.connections.lower(_ADA, 2 * _USD + 1)
    with pytest.raises(ConsentRequired):
        await services.connections.lower(Budget("live", _ADA.app_id, "eve"), 1)
    assert (await services.ledger.standing(_ADA)).cap_nano == 2 * _USD
    await services.connections.set_cap(_ADA, 9 * _USD)
    assert (await services.ledger.standing(_ADA)).cap_nano == 9 * _USD


async def test_a_pause_can_be_undone_and_a_revocation_cannot(services: Services) -> None:
    """Only a new approval opens a revoked connection; its funding key is gone at once."""
    await services.connections.pause(_ADA)
    assert not (await services.connections.status(_ADA))["connected"]
    await services.connections.resume(_ADA)
    assert (await services.connections.status(_ADA))["connected"]
    for _ in range(2):
        await services.connections.revoke(_ADA)
    assert "funding" not in (await services.ledger.standing(_ADA)).fields
    for change in (services.connections.pause, services.connections.resume):
        with pytest.raises(NotConnected):
            await change(_ADA)
    with pytest.raises(NotConnected):
        await services.connections.set_cap(_ADA, _USD)
    await services.connections.approve(_ADA, Approval(_USD, "sk-or-v1-ada"))
    assert (await services.connections.status(_ADA))["limits"] == {"monthlyUsd": 1}


async def test_revoking_a_stranger_leaves_nothing(services: Services) -> None:
    """Idempotent, also for who never connected."""
    eve = Budget("live", _ADA.app_id, "eve")
    await services.connections.revoke(eve)
    assert (await services.ledger.standing(eve)).fields == {}


async def test_the_key_is_sealed_to_its_place(services: Services) -> None:
    """Redis holds no key in clear, and a copy opens nowhere else."""
    sealed = await services.store.call("HGET", _ADA.budget, "funding")
    assert b"sk-or" not in sealed
    assert services.sealer.open(sealed, place=_ADA.place) == "sk-or-v1-ada"


async def test_a_request_id_finds_its_budget(services: Services) -> None:
    """By the account in it; unknown ids find none."""
    request_id = keys.request_id(_ADA.account(services.store.salt), bytes(12))
    assert await services.connections.budget_of(request_id) == _ADA
    assert await services.connections.budget_of("req_" + "a" * 32) is None
    assert await services.connections.budget_of("nonsense") is None
    assert await services.connections.members("live", _ADA.app_id) == [_ADA]
