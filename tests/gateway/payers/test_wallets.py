"""Wallets: sealed keys bound to their wallet, and the apps that a key funds."""

import pytest

from gateway import keys
from gateway.keys import Budget
from gateway.payers.connections import Approval
from gateway.payers.logins import UNSEEN_SECONDS, Guest, Visit
from gateway.payers.wallets import KEEP, SWITCH, OtherWallet, Wallets
from gateway.sealing import SealBroken
from gateway.services import Services

KEY = "sk-or-v1-0123456789abcdef"
SECOND = "sk-or-v1-another-key-000"
BUDGET = Budget.of_user("live", "appaaaaaaaaaaaaaaaa", "bob")
THEIRS = Budget.of_user("live", "appbbbbbbbbbbbbbbbb", "eve")
MINE, OTHER = Guest("a" * 64), Guest("b" * 64)


@pytest.fixture
def wallets(services: Services) -> Wallets:
    """The store of wallets."""
    return services.wallets


async def connect(services: Services, visit: Visit, budget: Budget = BUDGET, key: str | None = KEY) -> None:
    """Approve a budget from a wallet."""
    await services.wallets.add(visit, budget)
    await services.connections.approve(budget, Approval(10**9, key, visit.wallet_id))


async def pays_with(services: Services, budget: Budget) -> str:
    """Return the key that a budget is paid with; empty for none."""
    sealed = (await services.ledger.standing(budget)).fields.get("funding")
    return services.sealer.open(sealed, place=budget.place) if sealed else ""


async def seen(services: Services, visit: Visit, guest: Guest) -> Visit | None:
    """Return what a browser's next request finds."""
    return await services.logins.find(visit.token, guest)


async def test_no_cookie_value_is_stored(services: Services, wallets: Wallets) -> None:
    """A reader of the store cannot open a wallet."""
    visit = await wallets.enter(MINE)
    names = [name async for name in services.store.each_key("*")]
    assert not [name for name in names if visit.token in name]
    assert await services.logins.find("", MINE) is None
    assert await services.logins.find("x", MINE) is None


async def test_a_funding_key_opens_only_in_its_own_wallet(services: Services, wallets: Wallets) -> None:
    """Copied to another wallet it cannot be opened."""
    mine = await wallets.fund_by_key(None, MINE, KEY)
    assert await wallets.funding_key(mine.wallet_id) == KEY
    other = await wallets.enter(MINE)
    sealed = await services.store.call("HGET", keys.wallet(mine.wallet_id), "funding")
    await services.store.call("HSET", keys.wallet(other.wallet_id), "funding", sealed)
    with pytest.raises(SealBroken):
        await wallets.funding_key(other.wallet_id)


async def test_a_pasted_key_opens_no_wallet(wallets: Wallets) -> None:
    """Without the cookie the same key creates a new wallet."""
    owner = await wallets.fund_by_key(None, MINE, KEY)
    await wallets.add(owner, BUDGET)
    payer = await wallets.fund_by_key(None, OTHER, KEY)
    assert payer.wallet_id != owner.wallet_id
    assert await wallets.budgets(payer) == []
    assert await wallets.budgets(owner) == [BUDGET]


async def test_the_key_that_pays_proves_a_browser_that_lost_its_secret(services: Services, wallets: Wallets) -> None:
    """Cookie and key together lead back; another key does not, and the error names both."""
    owner = await wallets.fund_by_key(None, MINE, KEY)
    await wallets.add(owner, BUDGET)
    bare = await seen(services, owner, OTHER)
    assert bare is not None
    with pytest.raises(OtherWallet, match=r"····cdef.*····-000") as refused:
        await wallets.fund_by_key(bare, OTHER, SECOND)
    assert refused.value.fields["ways"] == [SWITCH]
    back = await wallets.fund_by_key(bare, OTHER, KEY)
    assert (back.wallet_id, back.is_trusted, await wallets.budgets(back)) == (owner.wallet_id, True, [BUDGET])
    assert await services.logins.is_proved(back)


async def test_a_replaced_key_cuts_off_who_held_the_old_one(services: Services, wallets: Wallets) -> None:
    """A browser proved by the old key only is logged out; its approvals keep the old key."""
    owner = await wallets.fund_by_key(None, MINE, KEY)
    await connect(services, owner)
    bare = await seen(services, owner, OTHER)
    thief = await wallets.fund_by_key(bare, OTHER, KEY)
    await connect(services, thief, THEIRS)
    for key in (SECOND, "sk-or-v1-the-third-key"):
        owner = await wallets.fund_by_key(owner, MINE, key)
        assert (await pays_with(services, BUDGET), await pays_with(services, THEIRS)) == (key, KEY)
    assert await seen(services, thief, OTHER) is None
    assert await seen(services, owner, MINE) == owner
    assert set(await wallets.budgets(owner)) == {BUDGET, THEIRS}


async def test_removing_a_key_cuts_off_who_held_it(services: Services, wallets: Wallets) -> None:
    """So does taking it away: it pays for nothing of the owner's, and opens nothing."""
    owner = await wallets.fund_by_key(None, MINE, KEY)
    await connect(services, owner)
    thief = await wallets.fund_by_key(await seen(services, owner, OTHER), OTHER, KEY)
    await wallets.remove_funding(owner)
    assert await seen(services, thief, OTHER) is None
    assert await pays_with(services, BUDGET) == ""


async def test_another_account_is_asked_about(services: Services, wallets: Wallets) -> None:
    """A second OpenRouter user in the same browser: refused until one of the two is named."""
    alice = await wallets.fund_by_account(None, MINE, KEY, "user_alice")
    await connect(services, alice)
    with pytest.raises(OtherWallet, match=r"····cdef.*····-000") as refused:
        await wallets.fund_by_account(alice, MINE, SECOND, "user_bob")
    assert refused.value.fields["ways"] == [KEEP, SWITCH]
    assert await seen(services, alice, MINE) == alice
    assert await pays_with(services, BUDGET) == KEY
    kept = await wallets.fund_by_account(alice, MINE, SECOND, "user_bob", choice=KEEP)
    assert (kept.wallet_id, await pays_with(services, BUDGET)) == (alice.wallet_id, SECOND)
    bob = await wallets.fund_by_account(kept, MINE, SECOND, "user_bob", choice=SWITCH)
    assert bob.wallet_id != alice.wallet_id
    again = await wallets.fund_by_account(bob, MINE, KEY, "user_alice")
    assert (again.wallet_id, await wallets.budgets(again)) == (alice.wallet_id, [BUDGET])


async def test_a_kept_wallet_does_not_pass_to_the_other_account(services: Services, wallets: Wallets) -> None:
    """The account that funds a wallet is not thereby its owner: it neither proves nor finds the wallet."""
    alice = await wallets.fund_by_account(None, MINE, KEY, "user_alice")
    await connect(services, alice)
    await services.store.call("DEL", keys.login_proof(alice.wallet_id, alice.device))
    kept = await wallets.fund_by_account(alice, MINE, SECOND, "user_bob", choice=KEEP)
    assert not await services.logins.is_proved(kept)
    assert (await wallets.fund_by_account(None, OTHER, SECOND, "user_bob")).wallet_id != alice.wallet_id


@pytest.mark.parametrize("account", ["user_alice", None])
async def test_a_planted_cookie_merges_nothing(services: Services, wallets: Wallets, account: str | None) -> None:
    """A cookie without its secret: neither the account's wallet nor the cookie's becomes part of the other."""
    theirs = await wallets.fund_by_key(None, OTHER, KEY)
    await connect(services, theirs, THEIRS)
    planted = await seen(services, theirs, MINE)
    with pytest.raises(OtherWallet):
        await wallets.fund_by_account(planted, MINE, SECOND, account)
    mine = await wallets.fund_by_account(planted, MINE, SECOND, account, choice=SWITCH)
    assert (await wallets.budgets(mine), await pays_with(services, THEIRS)) == ([], KEY)
    assert mine.wallet_id != theirs.wallet_id


async def test_an_account_without_an_id_still_funds(wallets: Wallets) -> None:
    """OpenRouter may leave `user_id` null: the wallet works, it is just not found again elsewhere."""
    first = await wallets.fund_by_account(None, MINE, KEY, None)
    second = await wallets.fund_by_account(None, MINE, KEY, None)
    assert first.wallet_id != second.wallet_id
    assert (await wallets.fund_by_account(second, MINE, SECOND, None)).wallet_id == second.wallet_id


async def test_a_revoked_connection_gets_no_new_key(services: Services, wallets: Wallets) -> None:
    """Replacing the funding never revives what was stopped."""
    visit = await wallets.fund_by_key(None, MINE, KEY)
    await connect(services, visit)
    await services.connections.revoke(BUDGET)
    await wallets.fund_by_key(visit, MINE, SECOND)
    standing = await services.ledger.standing(BUDGET)
    assert standing.state == "revoked"
    assert not standing.fields.get("funding")


async def test_a_change_of_funding_leaves_one_receipt(services: Services, wallets: Wallets) -> None:
    """By the payer, for each living connection; taking away what is not there leaves none. Test mode gets no key."""
    tried = Budget.of_user("test", BUDGET.app_id, "bob")
    visit = await wallets.fund_by_key(None, MINE, KEY)
    for budget in (BUDGET, tried):
        await connect(services, visit, budget, KEY if budget is BUDGET else None)
    await wallets.fund_by_key(visit, MINE, SECOND)
    for _ in range(2):
        await wallets.remove_funding(visit)
    receipts = await services.connections.receipts(BUDGET)
    assert [(line["event"], line["by"]) for line in receipts[:-1]] == [("unfunded", "payer"), ("funded", "payer")]
    assert len(await services.connections.receipts(tried)) == 1
    assert not (await services.ledger.standing(tried)).fields["funding"]


async def test_a_merged_wallet_loses_nothing(services: Services, wallets: Wallets) -> None:
    """Two wallets of one account are merged: all cookies open it, one key funds it, a receipt records the merge."""
    account = await wallets.fund_by_account(None, OTHER, "sk-or-v1-first-key-0000", "user_alice")
    await connect(services, account, THEIRS, "sk-or-v1-first-key-0000")
    visit = await wallets.fund_by_key(None, MINE, KEY)
    await connect(services, visit)
    entered = await wallets.fund_by_account(visit, MINE, SECOND, "user_alice")
    for one, guest in ((visit, MINE), (entered, MINE), (account, OTHER)):
        found = await seen(services, one, guest)
        assert found is not None
        assert (found.wallet_id, set(await wallets.budgets(found))) == (account.wallet_id, {BUDGET, THEIRS})
        assert (await services.connections.find(BUDGET)).wallet in found.wallet_ids
    assert {await pays_with(services, budget) for budget in (BUDGET, THEIRS)} == {SECOND}
    assert [line["event"] for line in await services.connections.receipts(BUDGET)] == ["funded", "approved"]
    assert await wallets.funding_key(visit.wallet_id) is None


async def test_a_wallet_that_is_not_used_expires(services: Services, wallets: Wallets) -> None:
    """Within a day if its cookie was never returned; never after an approval."""
    visit = await wallets.enter(MINE)
    ttl = await services.store.call("TTL", keys.wallet(visit.wallet_id))
    assert UNSEEN_SECONDS - 9 < ttl <= UNSEEN_SECONDS
    await seen(services, visit, MINE)
    assert await services.store.call("TTL", keys.wallet(visit.wallet_id)) > UNSEEN_SECONDS
    await wallets.add(visit, BUDGET)
    await services.store.call("HSET", keys.login(visit.wallet_id, visit.device), "seen_ms", 0)
    await seen(services, visit, MINE)
    assert await services.store.call("TTL", keys.wallet(visit.wallet_id)) == -1


async def test_grants_are_listed_for_as_long_as_their_ledgers_stay(services: Services, wallets: Wallets) -> None:
    """A new grant removes entries older than a ledger's life; connections and recent grants are kept."""
    visit = await wallets.enter(MINE)
    await connect(services, visit)
    old, new, next_one = (Budget.of_grant("live", BUDGET.app_id, digit * 64) for digit in "123")
    for grant in (old, new):
        await wallets.add(visit, grant)
    await services.store.call("ZADD", keys.wallet_grants(visit.wallet_id), 1, old.name)
    await wallets.add(visit, next_one)
    assert set(await wallets.budgets(visit)) == {BUDGET, new, next_one}
