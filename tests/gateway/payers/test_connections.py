"""Connections: approve, lower, pause, resume, revoke; each keeps the spend."""

import pytest

from gateway import keys
from gateway.digest import sha256_hex
from gateway.errors import ConsentRequired, NotConnected
from gateway.keys import Budget
from gateway.payers.connections import Approval, By
from gateway.services import Services

pytestmark = pytest.mark.each_store

_ADA = Budget.of_user("live", "app0123456789abcdef", "ada")
_USD = 10**9


@pytest.fixture
async def services(services: Services) -> Services:
    """The stores on an empty Redis, with one connection of 5 USD."""
    await services.connections.approve(_ADA, Approval(5 * _USD, "sk-or-v1-ada"))
    return services


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
        await services.connections.lower(Budget.of_user("live", _ADA.app_id, "eve"), 1)
    assert (await services.ledger.standing(_ADA)).cap_nano == 2 * _USD
    await services.connections.set_cap(_ADA, 9 * _USD)
    assert (await services.ledger.standing(_ADA)).cap_nano == 9 * _USD


async def test_a_pause_can_be_undone_and_a_revocation_cannot(services: Services) -> None:
    """Only a new approval reopens a revoked connection; its funding key is deleted at once."""
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
    """Revoking is idempotent, also for a user who never connected."""
    eve = Budget.of_user("live", _ADA.app_id, "eve")
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


async def _history(services: Services, budget: Budget = _ADA) -> list[tuple[str, str]]:
    """Return actor and action of each receipt, oldest first."""
    return [(line["by"], line["event"]) for line in reversed(await services.connections.receipts(budget))]


async def test_each_change_leaves_one_receipt(services: Services) -> None:
    """A receipt names the actor; a repeat and a refused change leave none."""
    connections = services.connections
    for _ in range(2):
        await connections.lower(_ADA, 2 * _USD)
        await connections.set_cap(_ADA, 9 * _USD)
        await connections.lower(_ADA, 2 * _USD)
    with pytest.raises(ConsentRequired):
        await connections.lower(_ADA, 3 * _USD)
    for _ in range(2):
        await connections.pause(_ADA)
    for _ in range(2):
        await connections.resume(_ADA)
    for by in (By.APP, By.PAYER, By.OPERATOR):
        await connections.revoke(_ADA, by=by)
    await connections.bar(_ADA)
    assert await _history(services) == [
        ("operator", "approved"),
        ("app", "cap"),
        ("payer", "cap"),
        ("app", "cap"),
        ("payer", "cap"),
        ("app", "cap"),
        ("payer", "paused"),
        ("payer", "resumed"),
        ("app", "revoked"),
    ]
    assert (await connections.receipts(_ADA, most=4))[-1]["before_nano"] == str(9 * _USD)


async def test_an_approval_is_repeated_by_its_receipt(services: Services) -> None:
    """The second time changes nothing: not the cap that was lowered meanwhile, nor what was revoked."""
    yes = Approval(7 * _USD, "sk-or-v1-ada", "wallet", "https://acme.example", 0, By.PAYER, "Acme may …", "attempt")
    await services.connections.approve(_ADA, yes)
    await services.connections.lower(_ADA, _USD)
    await services.connections.approve(_ADA, yes)
    assert (await services.ledger.standing(_ADA)).cap_nano == _USD
    await services.connections.revoke(_ADA)
    with pytest.raises(NotConnected):
        await services.connections.approve(_ADA, yes)
    [_, _, receipt, _] = await services.connections.receipts(_ADA)
    assert int(receipt.pop("at_ms")) > 0
    assert receipt == {
        "event": "approved",
        "by": "payer",
        "cap_nano": str(7 * _USD),
        "origin": "https://acme.example",
        "text": "Acme may …",
        "sha256": sha256_hex("Acme may …"),
    }


async def test_an_app_that_lowers_often_hides_no_approval(services: Services) -> None:
    """After any number of later receipts an approval's repeat is recognised and does not raise the cap again."""
    yes = Approval(7 * _USD, "sk-or-v1-ada", "wallet", "https://acme.example", 0, By.PAYER, "Acme may …", "attempt")
    await services.connections.approve(_ADA, yes)
    for nano in range(20):
        await services.connections.lower(_ADA, _USD - nano)
    assert await services.connections.has_receipt(_ADA, "attempt")
    assert not await services.connections.has_receipt(_ADA, "another")
    await services.connections.approve(_ADA, yes)
    assert (await services.ledger.standing(_ADA)).cap_nano == _USD - 19


async def test_a_closed_app_ends_each_of_its_connections_once(services: Services) -> None:
    """Live and test alike; what had ended before, and another app's, are left alone."""
    eve, tess = Budget.of_user("live", _ADA.app_id, "eve"), Budget.of_user("test", _ADA.app_id, "tess")
    other = Budget.of_user("live", "app9999999999999999", "ada")
    for budget in (eve, tess, other):
        await services.connections.approve(budget, Approval(_USD, "sk-or-v1-eve"))
    await services.connections.revoke(eve, by=By.APP)
    for _ in range(2):
        await services.connections.end_all(_ADA.app_id)
    ends = [(await _history(services, budget))[1:] for budget in (_ADA, eve, tess, other)]
    assert ends == [[("operator", "closed")], [("app", "revoked")], [("operator", "closed")], []]
    assert "funding" not in (await services.ledger.standing(_ADA)).fields


async def test_an_older_receipt_is_still_read(services: Services) -> None:
    """Older receipts have JSON fields and only the payer as their actor."""
    body = '{"cap_nano": "5", "before_nano": "", "text": "yes"}'
    await services.store.call("XADD", _ADA.history, "*", "receipt", "", "event", "cap", "at_ms", 7, "body", body)
    [newest, _] = await services.connections.receipts(_ADA)
    assert newest == {
        "event": "cap",
        "by": "payer",
        "at_ms": "7",
        "cap_nano": "5",
        "before_nano": "",
        "text": "yes",
    }
