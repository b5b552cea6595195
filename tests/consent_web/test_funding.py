"""Funding over HTTP: authorizations at OpenRouter, pasted keys, and the same payer again on another device."""

import gzip
import secrets

from tests.consent_web.test_dashboard import ref_of
from tests.consent_web.world import Visitor, World, a_key

MOST_PAGE_BYTES = 30_000


def funding_of(body: dict[str, object]) -> dict[str, object]:
    """Return the funding part of an answer."""
    found = body["funding"]
    assert isinstance(found, dict)
    return found


async def test_an_authorization_funds_the_attempt_that_started_it(world: World, visitor: Visitor) -> None:
    """The polling popup sees the key's limit and that the funding is done."""
    begun = await world.begin(visitor)
    assert begun.json["funding"] is None
    finished = await world.by_openrouter(visitor, attempt=str(begun.json["id"]))
    assert finished.json == {"attempt": begun.json["id"]}
    seen = (await visitor.get(f"/consent/attempts/{begun.json['id']}")).json
    assert seen["fault"] == "done"
    assert (funding_of(seen)["source"], funding_of(seen)["left"]) == ("oauth", "$25.00 left")


async def test_a_no_at_openrouter_is_told_to_the_popup(world: World, visitor: Visitor) -> None:
    """After a denial there nothing is stored, and the popup shows why."""
    begun = await world.begin(visitor)
    started = await visitor.post("/fund/start", {"attempt": begun.json["id"]})
    back = await world.authorize(str(started.json["url"]), decision="deny")
    state = back.split("?")[0].rpartition("/")[2]
    assert (await visitor.post("/fund/finish", {"state": state, "error": "denied"})).reason == "denied"
    assert (await visitor.get(f"/consent/attempts/{begun.json['id']}")).json["fault"] == "denied"


async def test_one_wallet_pays_for_many_apps(world: World, visitor: Visitor) -> None:
    """A returning payer's funding is known: one click plus the cap."""
    await world.connected(visitor)
    again = await world.begin(visitor, token=world.token("eve"))
    assert funding_of(again.json)["works"] is True
    answer = await visitor.post(f"/consent/attempts/{again.json['id']}/approve", {"monthlyUsd": 2})
    assert answer.json["state"] == "approved"


async def test_the_same_account_on_another_device_finds_the_wallet(world: World, visitor: Visitor) -> None:
    """After an authorization by the same OpenRouter user all apps are there; by another one, none is."""
    begun = await world.begin(visitor)
    await world.by_openrouter(visitor, "user_alice", str(begun.json["id"]))
    await visitor.post(f"/consent/attempts/{begun.json['id']}/approve", {"monthlyUsd": 2})
    phone, stranger = world.visitor(), world.visitor()
    await world.by_openrouter(phone, "user_alice")
    await world.by_openrouter(stranger, "user_mallory")
    assert "Acme" in (await phone.get("/")).text
    assert "Acme" not in (await stranger.get("/")).text


async def test_a_wallet_begun_with_a_pasted_key_joins_the_account_that_proves_itself(
    world: World, visitor: Visitor
) -> None:
    """Both proven in one browser: the connections of both are in one wallet."""
    phone = world.visitor()
    begun = await world.begin(phone, token=world.token("phone-user"))
    await world.by_openrouter(phone, "user_alice", str(begun.json["id"]))
    await phone.post(f"/consent/attempts/{begun.json['id']}/approve", {"monthlyUsd": 2})
    await world.connected(visitor, "desk-user")
    await world.by_openrouter(visitor, "user_alice")
    assert "Stop 2 apps" in (await phone.get("/stop")).text
    assert "Stop 2 apps" in (await visitor.get("/stop")).text


async def test_a_pasted_key_opens_nobody_elses_wallet(world: World, visitor: Visitor) -> None:
    """Each browser with the key pays from its own wallet; neither sees, stops or changes the other's."""
    key = a_key()
    await world.connected(visitor, "owner", key=key)
    ref = await ref_of(visitor)
    other = world.visitor()
    await world.connected(other, "guest", key=key)
    theirs = await ref_of(other)
    assert (await other.get(f"/apps/{ref}")).status == (await visitor.get(f"/apps/{theirs}")).status == 404
    for one in (visitor, other):
        assert "Stop 1 app now" in (await one.get("/stop")).text
    await other.read_csrf()
    assert (await other.submit("/funding/remove")).status == 303
    assert (await visitor.get("/spend")).status == 200
    assert (await world.site.ledger.standing(world.budget("owner"))).fields["funding"]


async def test_an_old_key_draws_nothing_from_the_one_that_replaced_it(world: World, visitor: Visitor) -> None:
    """After a replacement the old key opens a wallet of its own."""
    old, new = a_key(), a_key()
    await world.connected(visitor, "owner", key=old)
    await visitor.read_csrf("/funding")
    await visitor.post("/fund/key", {"key": new})
    other = world.visitor()
    begun = await world.begin(other, token=world.token("guest"))
    pasted = await other.post(f"/consent/attempts/{begun.json['id']}/key", {"key": old})
    assert funding_of(pasted.json)["last4"] == old[-4:]


async def test_not_you_leaves_the_wallet(world: World, visitor: Visitor) -> None:
    """On a shared computer the next person starts without funding."""
    await world.connected(visitor)
    begun = await world.begin(visitor, token=world.token("eve"))
    await visitor.post(f"/consent/attempts/{begun.json['id']}/wallet")
    seen = (await visitor.get(f"/consent/attempts/{begun.json['id']}")).json
    assert seen["funding"] is None


async def test_what_is_left_on_the_key_is_shown_with_its_warning(world: World, visitor: Visitor) -> None:
    """Unlimited, low, empty and never-funded keys each have a warning."""
    begun = await world.begin(visitor)
    path = f"/consent/attempts/{begun.json['id']}/key"
    secret = secrets.token_hex(8)
    wanted = {
        f"sk-or-v1-limit-{secret}": "unlimited",
        f"sk-or-v1-limit0.5-x-limit0.5-{secret}": "low",
        f"sk-or-v1-limit0-x-limit0-{secret}": "no_credit",
        f"sk-or-v1-nocredit-x-nocredit-{secret}": "free",
    }
    for key, warning in wanted.items():
        assert funding_of((await visitor.post(path, {"key": key})).json)["warning"] == warning, key


async def test_live_mode_needs_funding(world: World, visitor: Visitor) -> None:
    """An approval without funding is refused."""
    begun = await world.begin(visitor)
    answer = await visitor.post(f"/consent/attempts/{begun.json['id']}/approve", {"monthlyUsd": 2})
    assert answer.status == 402


async def test_the_popup_weighs_at_most_thirty_kilobytes(world: World, visitor: Visitor) -> None:
    """Page and every file it loads, compressed."""
    page = await visitor.get("/consent")
    names = [name for name in world.site.assets.own if f"/{name}" in page.text]
    assert "consent.js" in names
    parts = [page.text.encode(), *(world.site.assets.own[name].body for name in names)]
    assert sum(len(gzip.compress(part)) for part in parts) <= MOST_PAGE_BYTES


async def test_the_sdk_is_served_to_every_page(world: World, visitor: Visitor) -> None:
    """By its plain name for minutes, by its hash for ever; unknown files are not there."""
    plain = await visitor.get("/sdk/client.js")
    assert plain.status == 200
    assert (plain.header("Access-Control-Allow-Origin"), plain.header("Cross-Origin-Resource-Policy")) == (
        "*",
        "cross-origin",
    )
    for name in ("client.000000000000.js", "nothing.js", "..%2f..%2fpackage.json", "client.test.mjs", "nothing.d.ts"):
        assert (await visitor.get(f"/sdk/{name}")).status == 404
