"""Wallets: cookies that die, keys that open only in their place (what a browser sees of it is in tests/consent_web)."""

import pytest

from gateway import keys
from gateway.keys import Budget
from gateway.payers.connections import Approval
from gateway.payers.wallets import OWNER, PAYER, Wallets
from gateway.sealing import SealBroken
from gateway.services import Services

KEY = "sk-or-v1-0123456789abcdef"
BUDGET = Budget.of_user("live", "appaaaaaaaaaaaaaaaa", "bob")


@pytest.fixture
def wallets(services: Services) -> Wallets:
    """The store of wallets."""
    return services.wallets


async def test_entering_again_kills_the_old_cookie(wallets: Wallets) -> None:
    """The same wallet, device and level under a new value; the old one opens nothing."""
    first = await wallets.enter(None)
    second = await wallets.enter(first)
    assert await wallets.visit(first.token) is None
    assert await wallets.visit(second.token) == second
    assert (second.wallet_id, second.device, second.level) == (first.wallet_id, first.device, OWNER)


async def test_no_cookie_value_is_stored(services: Services, wallets: Wallets) -> None:
    """Whoever reads the store cannot enter a wallet."""
    visit = await wallets.enter(None)
    names = [name async for name in services.store.each_key("*")]
    assert not [name for name in names if visit.token in name]
    assert await wallets.visit("") is None
    assert await wallets.visit("x") is None


async def test_a_funding_key_opens_only_in_its_own_wallet(services: Services, wallets: Wallets) -> None:
    """Copied to another wallet it stays sealed."""
    mine = await wallets.fund_by_key(None, KEY)
    assert await wallets.funding_key(mine.wallet_id) == KEY
    other = await wallets.enter(None)
    sealed = await services.store.call("HGET", keys.wallet(mine.wallet_id), "funding")
    await services.store.call("HSET", keys.wallet(other.wallet_id), "funding", sealed)
    with pytest.raises(SealBroken):
        await wallets.funding_key(other.wallet_id)


async def test_the_key_alone_makes_a_payer_not_an_owner(wallets: Wallets) -> None:
    """Without the cookie the same key enters the same wallet and sees nothing of it."""
    owner = await wallets.fund_by_key(None, KEY)
    await wallets.add(owner, BUDGET)
    payer = await wallets.fund_by_key(None, KEY)
    assert (payer.wallet_id, payer.level) == (owner.wallet_id, PAYER)
    assert await wallets.budgets(payer) == []
    assert await wallets.budgets(owner) == [BUDGET]


async def test_a_payer_does_not_change_the_funding(wallets: Wallets) -> None:
    """Another key that a payer pastes opens a wallet of its own."""
    owner = await wallets.fund_by_key(None, KEY)
    payer = await wallets.fund_by_key(None, KEY)
    moved = await wallets.fund_by_key(payer, "sk-or-v1-another-key-000")
    assert moved.wallet_id != owner.wallet_id
    assert await wallets.funding_key(owner.wallet_id) == KEY


async def test_another_account_does_not_enter_a_wallet_that_has_one(wallets: Wallets) -> None:
    """A second OpenRouter user in the same browser gets a wallet of their own; the first cookie is dead."""
    alice = await wallets.fund_by_account(None, KEY, "user_alice")
    bob = await wallets.fund_by_account(alice, "sk-or-v1-of-bob-00000000", "user_bob")
    assert bob.wallet_id != alice.wallet_id
    assert await wallets.visit(alice.token) is None
    assert await wallets.funding_key(alice.wallet_id) == KEY


async def test_an_account_without_an_id_still_funds(wallets: Wallets) -> None:
    """OpenRouter may leave `user_id` null: the wallet works, it is just not found again elsewhere."""
    first = await wallets.fund_by_account(None, KEY, None)
    second = await wallets.fund_by_account(None, KEY, None)
    assert first.wallet_id != second.wallet_id


async def test_a_revoked_connection_gets_no_new_key(services: Services, wallets: Wallets) -> None:
    """Replacing the funding never revives what was stopped."""
    visit = await wallets.fund_by_key(None, KEY)
    await wallets.add(visit, BUDGET)
    await services.connections.approve(BUDGET, Approval(10**9, KEY, visit.wallet_id))
    await services.connections.revoke(BUDGET)
    await wallets.fund_by_key(visit, "sk-or-v1-another-key-000")
    standing = await services.ledger.standing(BUDGET)
    assert standing.state == "revoked"
    assert not standing.fields.get("funding")


async def test_a_change_of_funding_leaves_one_receipt(services: Services, wallets: Wallets) -> None:
    """By the payer, for each living connection; taking away what is not there leaves none. Test mode gets no key."""
    tried = Budget.of_user("test", BUDGET.app_id, "bob")
    visit = await wallets.fund_by_key(None, KEY)
    for budget in (BUDGET, tried):
        await wallets.add(visit, budget)
        key = KEY if budget is BUDGET else None
        await services.connections.approve(budget, Approval(10**9, key, visit.wallet_id))
    await wallets.fund_by_key(visit, "sk-or-v1-another-key-000")
    for _ in range(2):
        await wallets.remove_funding(visit)
    receipts = await services.connections.receipts(BUDGET)
    assert [(line["event"], line["by"]) for line in receipts[:-1]] == [("unfunded", "payer"), ("funded", "payer")]
    assert len(await services.connections.receipts(tried)) == 1
    assert not (await services.ledger.standing(tried)).fields["funding"]


async def test_a_merged_wallet_s_connections_leave_one_receipt(services: Services, wallets: Wallets) -> None:
    """Two wallets of one account become one: what is told of it is the key that pays from now on."""
    await wallets.fund_by_account(None, "sk-or-v1-first-key-0000", "user_alice")
    visit = await wallets.fund_by_key(None, KEY)
    await wallets.add(visit, BUDGET)
    await services.connections.approve(BUDGET, Approval(10**9, KEY, visit.wallet_id))
    entered = await wallets.fund_by_account(visit, "sk-or-v1-second-key-000", "user_alice")
    assert (await services.connections.find(BUDGET)).wallet == entered.wallet_id != visit.wallet_id
    assert [line["event"] for line in await services.connections.receipts(BUDGET)] == ["funded", "approved"]
