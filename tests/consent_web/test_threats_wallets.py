"""Attacks and faults on wallets, keys and answers (W…): what is connected is on the dashboard, and can be stopped."""

# ruff: noqa: N802 - the names carry the checklist's ids

import asyncio
import secrets

import aiohttp
import pytest

from tests.consent_web.faults import StoreFault, failing
from tests.consent_web.payers import agrees, approve, return_as, same_browser, shown, stop, wallets_of
from tests.consent_web.sight import is_connected
from tests.consent_web.test_dashboard import ref_of
from tests.consent_web.world import Visitor, World, a_key


@pytest.mark.parametrize("mode", ["live", "test"])
async def test_W01_an_answer_that_never_arrives_loses_no_wallet(world: World, visitor: Visitor, mode: str) -> None:
    """The popup is closed within the round trip: the browser keeps the cookie it had, and that still works."""
    if mode == "live":
        attempt = await world.funded(visitor)
    else:
        attempt = str((await world.begin(visitor, mode="test", token=world.token(mode="test"))).json["id"])
    for _ in range(3):
        await approve(same_browser(visitor), attempt)
    assert (await world.site.connections.status(world.budget(mode=mode)))["connected"] is True
    assert await shown(visitor) == 1
    await stop(visitor)
    assert (await world.site.connections.status(world.budget(mode=mode)))["connected"] is False


async def test_W01_two_tabs_at_once_lose_no_wallet(world: World, visitor: Visitor) -> None:
    """Whichever cookie the browser is left with leads to all that was allowed."""
    attempts = [await world.funded(visitor, token=world.token(user), key=a_key()) for user in ("bob", "eve")]
    tabs = [same_browser(visitor) for _ in attempts]
    await asyncio.gather(*(approve(tab, attempt, 4) for tab, attempt in zip(tabs, attempts, strict=True)))
    for tab in (visitor, *tabs):
        assert await shown(same_browser(tab)) == 2 or tab is visitor


async def test_W01_a_yes_and_a_no_in_quick_succession_lose_no_wallet(world: World) -> None:
    """One of the two counts, and the dashboard shows which."""
    for number in range(5):
        user, visitor = f"user{number}", world.visitor()
        attempt = await world.funded(visitor, token=world.token(user))
        no = same_browser(visitor)
        await asyncio.gather(approve(visitor, attempt), no.post(f"/consent/attempts/{attempt}/deny"))
        await agrees(world, same_browser(visitor), user)


@pytest.mark.parametrize("kind", ["lost", "late", "killed"])
async def test_W01_and_W03_a_store_that_fails_at_any_step_of_a_yes_leaves_a_way_out(world: World, kind: str) -> None:
    """Whatever step fails, then: shown is what is connected, the next number pressed is the one stored, stop works."""
    number = 0
    while True:
        user, visitor = f"user{number}", world.visitor()
        attempt = await world.funded(visitor, token=world.token(user))
        with failing(world.site.wallets._store, StoreFault(kind, number)) as fault:
            answer = await approve(visitor, attempt, 8)
        if not fault.was_met:
            break
        assert answer is None or answer.status in {200, 503}
        was_carried_out = await is_connected(world, user)
        assert await shown(same_browser(visitor)) == was_carried_out
        said = ""
        while said not in {"approved", "answered"}:
            answer = await approve(visitor, attempt, 5)
            assert answer is not None
            said = str(answer.json["state"] if answer.status == 200 else answer.reason)
            assert said in {"approved", "answered", "again"}
        cap_nano = (await world.site.ledger.standing(world.budget(user))).cap_nano
        # The last cap counts, or the payer is told that the first one did.
        assert (said, cap_nano) == (("answered", 8 * 10**9) if was_carried_out else ("approved", 5 * 10**9))
        assert await agrees(world, visitor, user)
        number += 1
    assert number > 8


@pytest.mark.parametrize("says", ["yes", "no"])
async def test_W03_what_a_frozen_store_carries_out_later_changes_nothing(world: World, says: str) -> None:
    """A delayed command of an earlier approval runs after the payer's next decision, which still counts."""
    number = 0
    while True:
        user, visitor = f"user{number}", world.visitor()
        attempt = await world.funded(visitor, token=world.token(user))
        with failing(world.site.wallets._store, StoreFault("frozen", number)) as fault:
            await approve(visitor, attempt, 8)
        if not fault.was_met:
            break
        was_carried_out = await is_connected(world, user)
        if says == "yes":
            answer = await approve(visitor, attempt, 5)
            while answer is not None and answer.status == 409 and answer.reason == "again":
                answer = await approve(visitor, attempt, 5)
        elif not was_carried_out:
            assert (await visitor.post(f"/consent/attempts/{attempt}/deny")).json["state"] == "denied"
        await fault.thaw()
        standing = await world.site.ledger.standing(world.budget(user))
        assert standing.is_connected == (says == "yes" or was_carried_out)
        if standing.is_connected:
            assert standing.cap_nano == (8 if was_carried_out else 5) * 1e9
        await agrees(world, visitor, user)
        number += 1
    assert number > 8


@pytest.mark.parametrize("kind", ["lost", "late", "killed"])
async def test_W03_no_is_always_possible(world: World, kind: str) -> None:
    """Whichever step of an approval failed, Don't allow ends it: nothing is connected, and the app gets `denied`."""
    number = 0
    while True:
        user, nonce, visitor = f"user{number}", secrets.token_urlsafe(24), world.visitor()
        attempt = await world.funded(visitor, token=world.token(user), nonce=nonce)
        with failing(world.site.wallets._store, StoreFault(kind, number)) as fault:
            answer = await approve(visitor, attempt, 8)
        if not fault.was_met:
            break
        if (await visitor.get(f"/consent/attempts/{attempt}")).json["state"] != "approved":
            denied = await visitor.post(f"/consent/attempts/{attempt}/deny")
            assert (denied.status, denied.json["state"]) == (200, "denied")
            assert not await is_connected(world, user)
            assert (await world.site.attempts.outcome(world.app_id, "live", user, nonce))["state"] == "denied"
        await agrees(world, visitor, user)
        number += 1
    assert answer is not None
    assert number > 8


async def test_W03_a_revocation_in_between_leaves_a_way_out(world: World, visitor: Visitor) -> None:
    """The app disconnects during the approval: the payer is told, and may decide again."""
    attempt = await world.funded(visitor)
    connect = world.site.connections.approve

    async def too_late(*args: object) -> None:
        world.site.connections.approve = connect  # type: ignore[method-assign]
        await world.site.connections.bar(world.budget())
        await connect(*args)  # type: ignore[arg-type]

    world.site.connections.approve = too_late  # type: ignore[method-assign, assignment]
    answer = await approve(visitor, attempt)
    assert answer is not None
    assert (answer.status, answer.reason) == (409, "again")
    assert not await is_connected(world)
    again = await approve(visitor, attempt, 7)
    assert again is not None
    assert again.json["state"] == "approved"
    assert (await world.site.ledger.standing(world.budget())).cap_nano == 7_000_000_000


@pytest.mark.parametrize("suggested", [None, 10])
@pytest.mark.parametrize("pressed", [0.5, 10, 1000])
@pytest.mark.parametrize("elsewhere", [None, 3])
async def test_W03_what_was_shown_is_what_binds(
    world: World, visitor: Visitor, suggested: int | None, pressed: float, elsewhere: int | None
) -> None:
    """Suggested, edited, reloaded or approved elsewhere: cap, answer and receipt have the button's number."""
    attempt = await world.funded(visitor, token=world.token(limit_usd=suggested))
    if elsewhere is not None:
        other = world.visitor()
        assert await approve(other, await world.funded(other), elsewhere)
    await visitor.get(f"/consent/attempts/{attempt}")
    answer = await approve(visitor, attempt, pressed)
    assert answer is not None
    result = answer.json["result"]
    assert isinstance(result, dict)
    assert result["status"]["limits"] == {"monthlyUsd": pressed}
    assert (await world.site.ledger.standing(world.budget())).cap_nano == pressed * 1e9
    receipt = (await world.site.connections.receipts(world.budget()))[0]
    assert (receipt["cap_nano"], f"up to ${pressed:,.2f} per month" in receipt["text"]) == (
        f"{pressed * 1e9:.0f}",
        True,
    )


@pytest.mark.parametrize("kind", ["lost", "late", "killed"])
async def test_W04_a_store_that_fails_while_a_key_is_replaced_loses_nothing(world: World, kind: str) -> None:
    """At every step: the cookie leads to the wallet, the app is seen, pays with one of the two keys, and stops."""
    number = 0
    while True:
        user, visitor, old, new = f"user{number}", world.visitor(), a_key(), a_key()
        await world.connected(visitor, user, key=old)
        await visitor.read_csrf("/funding")
        with failing(world.site.wallets._store, StoreFault(kind, number)) as fault:
            try:
                await same_browser(visitor).post("/fund/key", {"key": new})
            except aiohttp.ServerDisconnectedError:
                assert kind == "killed"
        budget = world.budget(user)
        sealed = (await world.site.ledger.standing(budget)).fields["funding"]
        assert world.services.sealer.open(sealed, place=budget.place) in {old, new}
        assert await agrees(world, visitor, user)
        if not fault.was_met:
            break
        number += 1
    assert number > 8


async def test_W02_a_replaced_key_cuts_off_who_held_the_old_one(world: World, visitor: Visitor) -> None:
    """A thief who pasted the leaked key pays only with that key, for past and later approvals."""
    leaked, fresh = a_key(), a_key()
    await world.connected(visitor, "owner", key=leaked)
    thief = world.visitor()
    await world.connected(thief, "evil", key=leaked)
    await visitor.read_csrf("/funding")
    assert (await visitor.post("/fund/key", {"key": fresh})).status == 200
    await stop(visitor)
    await world.connected(thief, "evil2", key=leaked)
    for user in ("evil", "evil2"):
        budget = world.budget(user)
        sealed = (await world.site.ledger.standing(budget)).fields["funding"]
        assert world.services.sealer.open(sealed, place=budget.place) == leaked


async def test_W02_who_pastes_a_shared_key_first_owns_nothing_of_later_payers(world: World, visitor: Visitor) -> None:
    """Neither sees the other's apps, raises their caps or changes their key."""
    shared = a_key()
    await world.connected(visitor, "first", key=shared)
    later = world.visitor()
    await world.connected(later, "later", key=shared)
    ref = await ref_of(later)
    await visitor.read_csrf()
    for path in (f"/apps/{ref}/cap", f"/apps/{ref}/revoke", f"/apps/{ref}/pause"):
        assert (await visitor.submit(path, monthly_usd="500")).status == 404
    await visitor.submit("/funding/remove")
    assert (await world.site.ledger.standing(world.budget("later"))).fields["funding"]


async def test_W04_replacing_the_key_by_another_account_asks_and_loses_nothing(world: World, visitor: Visitor) -> None:
    """OpenRouter is logged in with another account: both keys are named, and nothing changes before a choice."""
    await world.by_openrouter(visitor, "user_alice")
    begun = await world.begin(visitor)
    await approve(visitor, str(begun.json["id"]))
    old = (await world.site.wallets.funding(next(iter(await wallets_of(world, visitor))))) or None
    assert old is not None
    for way, apps in (("keep", 1), ("switch", 0)):
        state, asked = await return_as(world, visitor, "user_bob")
        assert (asked.status, asked.reason) == (409, "other_wallet")
        assert f"····{old.last4}" in asked.text or way == "switch"
        assert await shown(visitor) == 1
        assert (await visitor.post("/fund/choose", {"state": state, "way": way})).status == 200
        assert (await visitor.post("/fund/choose", {"state": state, "way": way})).status == 400
        assert await shown(visitor) == apps
    await world.by_openrouter(visitor, "user_alice")
    assert await agrees(world, visitor)


async def test_W04_proving_an_account_keeps_what_a_pasted_key_pays_for(world: World, visitor: Visitor) -> None:
    """The dashboard's advice, followed by a payer whose key another browser pasted before."""
    shared = a_key()
    await world.connected(world.visitor(), "other", key=shared)
    await world.connected(visitor, key=shared)
    await world.by_openrouter(visitor, "user_alice")
    assert await agrees(world, visitor)


@pytest.mark.parametrize("kind", ["lost", "late", "killed"])
async def test_W04_a_store_that_fails_while_two_wallets_become_one_loses_neither(world: World, kind: str) -> None:
    """At every step the browser sees its app, and the account's other browser sees its own."""
    number = 0
    while True:
        user, account, desk, phone = f"user{number}", f"user_alice{number}", world.visitor(), world.visitor()
        await world.by_openrouter(phone, account)
        await world.connected(desk, user)
        begun = await world.begin(phone, token=world.token(f"phone{number}"))
        await approve(phone, str(begun.json["id"]))
        await desk.read_csrf("/fund/start")
        started = await desk.post("/fund/start", {})
        back = await world.authorize(str(started.json["url"]), account)
        body = {"state": back.split("?")[0].rpartition("/")[2], "code": back.partition("code=")[2]}
        with failing(world.site.wallets._store, StoreFault(kind, number)) as fault:
            try:
                await same_browser(desk).post("/fund/finish", body)
            except aiohttp.ServerDisconnectedError:
                assert kind == "killed"
        assert await shown(desk) >= 1
        assert await shown(phone) >= 1
        await stop(desk)
        assert not await is_connected(world, user)
        if not fault.was_met:
            break
        number += 1
    assert number > 10
