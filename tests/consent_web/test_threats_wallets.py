"""Attacks and faults on wallets, keys and answers (W…): what is connected is on the dashboard, and can be stopped."""

# ruff: noqa: N802 - the names carry the checklist's ids

import asyncio
import re
import secrets
from dataclasses import replace

import aiohttp
import pytest

from gateway.payers.limits import ATTEMPTS_A_USER, KEYS_A_PAYER
from gateway.payers.stays import Guest
from tests.consent_web.faults import Fault, failing
from tests.consent_web.sight import is_connected
from tests.consent_web.test_dashboard import ref_of
from tests.consent_web.world import Fetched, Visitor, World, a_key

WALLET = "__Host-wattfare-wallet"


def same_browser(visitor: Visitor, **changed: object) -> Visitor:
    """Return the browser with its cookies as they are now."""
    return replace(visitor, cookies=dict(visitor.cookies), **changed)  # type: ignore[arg-type]


async def shown(visitor: Visitor) -> int:
    """Return how many living apps the dashboard shows."""
    return len(re.findall(r'href="/apps/[a-z0-9]+/revoke"', (await visitor.get("/")).text))


async def stop(visitor: Visitor) -> None:
    """Stop everything, as the dashboard does without script."""
    await visitor.read_csrf("/stop")
    assert (await visitor.submit("/stop", secret="")).status == 303


async def agrees(world: World, visitor: Visitor, user: str = "bob") -> bool:
    """Tell whether a user's app is connected; the dashboard shows it then and only then, and stops it."""
    connected = await is_connected(world, user)
    assert await shown(visitor) == connected
    if connected:
        await stop(visitor)
        assert not await is_connected(world, user)
    return connected


async def approve(visitor: Visitor, attempt: str, usd: float = 5) -> Fetched | None:
    """Press Allow; None when the answer never comes."""
    try:
        return await visitor.post(f"/consent/attempts/{attempt}/approve", {"monthlyUsd": usd})
    except aiohttp.ServerDisconnectedError:
        return None


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
    """One of the two counts, and the dashboard says which."""
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
        with failing(world.site.wallets._store, Fault(kind, number)) as fault:
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
        # The last number counts, or the payer is told that the first one did.
        assert (said, cap_nano) == (("answered", 8 * 10**9) if was_carried_out else ("approved", 5 * 10**9))
        assert await agrees(world, visitor, user)
        number += 1
    assert number > 8


@pytest.mark.parametrize("kind", ["lost", "late", "killed"])
async def test_W03_no_is_always_possible(world: World, kind: str) -> None:
    """Whatever step of a yes failed, Don't allow ends it: nothing is connected, and the app hears `denied`."""
    number = 0
    while True:
        user, nonce, visitor = f"user{number}", secrets.token_urlsafe(24), world.visitor()
        attempt = await world.funded(visitor, token=world.token(user), nonce=nonce)
        with failing(world.site.wallets._store, Fault(kind, number)) as fault:
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
    """The app disconnects while the payer says yes: the payer is told, and may decide again."""
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


async def test_W02_a_replaced_key_cuts_off_who_held_the_old_one(world: World, visitor: Visitor) -> None:
    """Who pasted the leaked key pays with that key alone: what they approved, and whatever they approve after it."""
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
    """Neither sees the other's apps, raises their caps or changes what pays for them."""
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
    """OpenRouter is logged in as somebody else: both keys are named, nothing changes until one way is chosen."""
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
    """The dashboard's own advice, for one who pays with a key that another browser pasted before."""
    shared = a_key()
    await world.connected(world.visitor(), "other", key=shared)
    await world.connected(visitor, key=shared)
    await world.by_openrouter(visitor, "user_alice")
    assert await agrees(world, visitor)


@pytest.mark.parametrize("kind", ["lost", "late", "killed"])
async def test_W04_a_store_that_fails_while_two_wallets_become_one_loses_neither(world: World, kind: str) -> None:
    """At every step the browser sees its app, and the account's own browser sees its own."""
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
        with failing(world.site.wallets._store, Fault(kind, number)) as fault:
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


async def test_W06_one_token_locks_nobody_out(world: World, visitor: Visitor) -> None:
    """It is spent by the first who brings it; what follows counts against nobody."""
    token = world.token("evil")
    for _ in range(40):
        await world.begin(world.visitor(), token=token)
    assert (await world.begin(visitor)).status == 200


async def test_W06_popups_are_counted_for_each_user_of_an_app(world: World, visitor: Visitor) -> None:
    """However many browsers somebody makes up, one user of an app uses up nobody else's."""
    answers = [
        (await world.begin(world.visitor(), token=world.token("evil"))).status for _ in range(ATTEMPTS_A_USER + 1)
    ]
    assert answers == [200] * ATTEMPTS_A_USER + [429]
    assert (await world.begin(visitor)).status == 200


async def test_W06_keys_are_not_tried_by_the_cookie(world: World) -> None:
    """Browsers are made up at will; the app's user and the wallet are not."""
    tries = []
    for number in range(KEYS_A_PAYER + 1):
        other = world.visitor()
        begun = await world.begin(other, token=world.token("evil"))
        key = f"sk-or-v1-revoked-{number:016}"
        tries.append((await other.post(f"/consent/attempts/{begun.json['id']}/key", {"key": key})).status)
    assert tries == [402] * KEYS_A_PAYER + [429]
    bare = world.visitor()
    await bare.read_csrf("/fund/start")
    assert (await bare.post("/fund/key", {"key": a_key()})).status == 404


async def test_W07_a_cookie_alone_only_takes_away(world: World, visitor: Visitor) -> None:
    """A page on another port of the host has every cookie: it lowers, pauses and stops, and adds nothing."""
    await world.connected(visitor, usd=8)
    ref = await ref_of(visitor)
    begun = await world.begin(visitor, token=world.token("eve"))
    thief = same_browser(visitor, secret=secrets.token_urlsafe(32))
    assert (await thief.get(f"/consent/attempts/{begun.json['id']}")).json["funding"] is None
    for secret in ("", thief.secret):
        thief.secret = secret
        refused = await approve(thief, str(begun.json["id"]), 1)
        assert refused is not None
        assert (refused.status, refused.reason) == (403, "proof")
        more = await thief.submit(f"/apps/{ref}/cap", monthly_usd="9", confirmed="9000000000", secret=secret)
        assert (more.status, "Prove that it is you" in more.text) == (403, True)
    assert (await thief.post("/fund/key", {"key": a_key()})).status == 409
    assert (await world.site.ledger.standing(world.budget())).cap_nano == 8_000_000_000
    assert (await thief.submit(f"/apps/{ref}/cap", monthly_usd="2", secret="")).status == 303
    assert (await thief.submit(f"/apps/{ref}/pause", secret="")).status == 303
    standing = await world.site.ledger.standing(world.budget())
    assert (standing.cap_nano, standing.state) == (2_000_000_000, "paused")
    await stop(thief)
    assert (await world.site.ledger.standing(world.budget())).state == "revoked"
    assert (await visitor.get("/funding")).status == 200


async def test_W07_a_planted_cookie_neither_takes_a_key_nor_a_wallet(world: World, visitor: Visitor) -> None:
    """Another port plants its own cookies: the payer's account, key and apps stay apart from its wallet."""
    evil = world.visitor()
    await world.connected(evil, "evil")
    await evil.read_csrf("/fund/start")
    started = await evil.post("/fund/start", {})
    back = await world.authorize(str(started.json["url"]), "user_victim")
    body = {"state": back.split("?")[0].rpartition("/")[2], "code": back.partition("code=")[2]}
    # The victim's browser with the attacker's cookies: its script has another secret.
    victim = same_browser(evil, secret=visitor.secret)
    assert (await victim.post("/fund/finish", body)).status == 400
    assert (await victim.post("/fund/key", {"key": a_key()})).reason == "other_wallet"
    state, asked = await return_as(world, victim, "user_victim")
    assert asked.reason == "other_wallet"
    assert (await victim.post("/fund/choose", {"state": state, "way": "keep"})).status == 409
    assert (await victim.post("/fund/choose", {"state": state, "way": "switch"})).status == 200
    assert await shown(victim) == 0
    assert await shown(evil) == 1
    key = await world.site.wallets.funding_key(next(iter(await wallets_of(world, evil))))
    assert key not in {await world.site.wallets.funding_key(one) for one in await wallets_of(world, victim)}


async def test_W08_a_raise_beyond_what_was_allowed_asks_for_a_proof(world: World, visitor: Visitor) -> None:
    """Cookie and secret allow an app's first caps up to the default; more needs the key or the account again."""
    key = a_key()
    await world.connected(visitor, usd=5, key=key)
    await forget_proofs(world)
    ref = await ref_of(visitor)
    # Within the default cap of the app.
    assert (await raise_to(visitor, ref, 9)).status == 303
    second = str((await world.begin(visitor, token=world.token("eve"))).json["id"])
    for user_cap, status in ((2, 403), (1, 200)):
        answer = await approve(visitor, second, user_cap)
        assert answer is not None
        assert answer.status == status
    assert (await raise_to(visitor, ref, 20)).status == 403
    # Another key only replaces the one that pays; the key that pays is a proof.
    await visitor.post("/fund/key", {"key": a_key()})
    assert (await raise_to(visitor, ref, 20)).status == 403
    await visitor.post("/fund/key", {"key": key})
    await visitor.post("/fund/key", {"key": key})
    assert (await raise_to(visitor, ref, 20)).status == 303
    assert (await visitor.submit(f"/apps/{ref}/cap", monthly_usd="1")).status == 303


async def raise_to(visitor: Visitor, ref: str, usd: int) -> Fetched:
    """Raise an app's cap, and confirm it."""
    return await visitor.submit(f"/apps/{ref}/cap", monthly_usd=str(usd), confirmed=f"{usd}000000000")


async def return_as(world: World, visitor: Visitor, account: str) -> tuple[str, Fetched]:
    """Authorize at OpenRouter as an account and come back. Returns the state and what was answered."""
    await visitor.read_csrf("/fund/start")
    started = await visitor.post("/fund/start", {})
    back = await world.authorize(str(started.json["url"]), account)
    state = back.split("?")[0].rpartition("/")[2]
    return state, await visitor.post("/fund/finish", {"state": state, "code": back.partition("code=")[2]})


async def wallets_of(world: World, visitor: Visitor) -> frozenset[str]:
    """Return the ids of the wallets that a browser's cookie leads to."""
    found = await world.site.stays.find(visitor.cookies[WALLET], Guest(""))
    return frozenset() if found is None else found.wallet_ids


async def forget_proofs(world: World) -> None:
    """Let ten minutes pass."""
    async for name in world.services.store.each_key("wf:wallet:*:proof:*"):
        await world.services.store.call("DEL", name)
