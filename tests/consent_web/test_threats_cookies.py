"""Attacks on wallets (W…) with cookies that were made up, read or planted, or with a whole stolen profile."""

# ruff: noqa: N802 - the names carry the checklist's ids

import asyncio
import secrets

import pytest

from gateway.payers.limits import ATTEMPTS_A_USER, KEYS_A_PAYER
from tests.consent_web.payers import (
    approve,
    forget_proofs,
    raise_to,
    return_as,
    same_browser,
    shown,
    stop,
    wallets_of,
)
from tests.consent_web.test_dashboard import ref_of
from tests.consent_web.world import ORIGIN, RETURN_URL, Visitor, World, a_key, challenge_of


async def test_W06_one_token_locks_nobody_out(world: World, visitor: Visitor) -> None:
    """It is spent by its first use; later uses count against nobody."""
    token = world.token("evil")
    for _ in range(40):
        await world.begin(world.visitor(), token=token)
    assert (await world.begin(visitor)).status == 200


async def test_W06_popups_are_counted_for_each_user_of_an_app(world: World, visitor: Visitor) -> None:
    """Regardless of invented browsers, one user of an app does not use up another's limit."""
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
    resumed = await thief.submit(f"/apps/{ref}/resume", secret="")
    assert (resumed.status, (await world.site.ledger.standing(world.budget())).state) == (403, "paused")
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
    # Another key only replaces the one that pays; the key that paid first is a proof.
    await visitor.post("/fund/key", {"key": a_key()})
    assert (await raise_to(visitor, ref, 20)).status == 403
    await visitor.post("/fund/key", {"key": key})
    await visitor.post("/fund/key", {"key": key})
    assert (await raise_to(visitor, ref, 20)).status == 303
    assert (await visitor.submit(f"/apps/{ref}/cap", monthly_usd="1")).status == 303


@pytest.mark.parametrize("way", ["twice", "removed"])
async def test_W08_a_key_that_took_the_place_of_the_payers_is_no_proof(
    world: World, visitor: Visitor, way: str
) -> None:
    """A thief with the browser pastes their own key: twice, or after removing the payer's key."""
    own, foreign = a_key(), a_key()
    await world.connected(visitor, usd=5, key=own)
    await forget_proofs(world)
    ref = await ref_of(visitor)
    if way == "removed":
        assert (await visitor.submit("/funding/remove")).status == 303
    for _ in range(2):
        assert (await visitor.post("/fund/key", {"key": foreign})).status == 200
    assert (await raise_to(visitor, ref, 50)).status == 403
    assert (await visitor.post("/fund/key", {"key": own})).status == 200
    assert (await raise_to(visitor, ref, 50)).status == 303
    # A key stored after a fresh proof is the payer's own.
    assert (await visitor.post("/fund/key", {"key": foreign})).status == 200
    await forget_proofs(world)
    assert (await visitor.post("/fund/key", {"key": foreign})).status == 200
    assert (await raise_to(visitor, ref, 60)).status == 303


async def test_W08_no_account_takes_over_a_wallet_that_a_key_began(world: World, visitor: Visitor) -> None:
    """A thief at the browser logs in at OpenRouter with their own account: it proves nothing and gives no access."""
    own = a_key()
    await world.connected(visitor, usd=5, key=own)
    await forget_proofs(world)
    ref = await ref_of(visitor)
    state, asked = await return_as(world, visitor, "user_thief")
    assert (asked.status, asked.reason) == (409, "other_wallet")
    assert (await visitor.post("/fund/choose", {"state": state, "way": "keep"})).status == 200
    assert (await raise_to(visitor, ref, 50)).status == 403
    elsewhere = world.visitor()
    await world.by_openrouter(elsewhere, "user_thief")
    assert await shown(elsewhere) == 0
    # The payer, who has the wallet's first key, assigns the wallet to their account.
    assert (await visitor.post("/fund/key", {"key": own})).status == 200
    await world.by_openrouter(visitor, "user_alice")
    await world.by_openrouter(elsewhere, "user_alice")
    assert await shown(elsewhere) == await shown(visitor) == 1


async def test_W08_approvals_that_wait_count_as_allowed(world: World, visitor: Visitor) -> None:
    """In redirect mode, several pending approvals for one app add up like connections."""
    await world.connected(visitor, usd=5)
    await forget_proofs(world)
    statuses = []
    for user in ("eve", "mallory", "eve"):
        begun = await world.begin(
            visitor, token=world.token(user), returnUrl=RETURN_URL, challenge=challenge_of("v" * 64)
        )
        answer = await approve(visitor, str(begun.json["id"]), 5)
        statuses.append(None if answer is None else answer.status)
    # $5 connected and $5 pending are the default cap; another approval of the pending one only replaces it.
    assert statuses == [200, 403, 200]


async def test_W08_yeses_at_once_count_each_other(world: World, visitor: Visitor) -> None:
    """Each alone would be within the default cap; together they are beyond it."""
    await world.connected(visitor, usd=5)
    await forget_proofs(world)
    begun = [str((await world.begin(visitor, token=world.token(f"user{n}"))).json["id"]) for n in range(4)]
    answers = await asyncio.gather(*(approve(same_browser(visitor), attempt, 5) for attempt in begun))
    assert sum(answer is not None and answer.status == 200 for answer in answers) == 1
    assert await shown(visitor) == 2


async def test_W08_grants_add_up_until_they_end(world: World, visitor: Visitor) -> None:
    """Several grants in succession cannot exceed the default cap either."""
    await world.connected(visitor, usd=5)
    await forget_proofs(world)
    statuses = []
    for _ in range(3):
        body = {"key": f"pk_live_{world.app_id}", "nonce": secrets.token_urlsafe(24), "origin": ORIGIN}
        asked = await visitor.post("/consent/attempts", {**body, "grant": {"requests": 1, "maxUsd": 5}})
        answer = await visitor.post(f"/consent/attempts/{asked.json['id']}/approve")
        statuses.append(answer.status)
    assert statuses == [200, 200, 403]
