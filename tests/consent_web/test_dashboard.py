"""The dashboard over HTTP, as used by a browser without scripts."""

import csv
import io
import re
from decimal import Decimal

from gateway.errors import NotConnected
from gateway.keys import request_id
from gateway.ledger.outcomes import Settlement
from gateway.ledger.worst_case import WorstCase
from tests.consent_web.world import Visitor, World, a_key

COSTS_NANO = (7_650_917, 123, 2_000_000_001)


async def spend(world: World, user: str = "bob", costs: tuple[int, ...] = COSTS_NANO) -> None:
    """Put settled requests into a budget's ledger, as the gateway does."""
    budget = world.budget(user)
    for number, cost in enumerate(costs):
        name = request_id(budget.account(world.services.store.salt), f"{user}-{number}".encode().ljust(12))
        worst = WorstCase(fixed_nano=cost, per_token_zepto=0, max_tokens=16)
        await world.site.ledger.admit(budget, name, worst, model="acme/model", estimate_nano=cost)
        settled = Settlement("settled", cost, f"gen-{number}", "acme/model", 10, 20, "works")
        await world.site.ledger.settle(budget, name, settled)


async def ref_of(visitor: Visitor) -> str:
    """Return the name that the first app has in our URLs."""
    page = await visitor.read_csrf()
    found = re.search(r'href="/apps/([a-z0-9]+)"', page.text)
    assert found, page.text
    return found[1]


async def test_a_stranger_sees_a_way_to_find_the_budget_and_nothing_else(world: World, visitor: Visitor) -> None:
    """Without a wallet there is one offer: prove the OpenRouter account."""
    page = await visitor.get("/")
    assert page.status == 200
    assert "Find my budget with OpenRouter" in page.text
    assert (await visitor.get("/funding")).status == 404


async def test_spend_is_the_ledger_to_the_nano_usd(world: World, visitor: Visitor) -> None:
    """Page, live numbers, CSV and JSON all equal the ledger."""
    await world.connected(visitor)
    await spend(world)
    total = sum(COSTS_NANO)
    shown = f"{Decimal(total).scaleb(-9)}"
    ref = await ref_of(visitor)
    assert f'title="${shown}"' in (await visitor.get("/")).text
    live = (await visitor.get("/spend")).json
    assert live["total"] == {"text": "$2.00", "exact": shown}
    rows = list(csv.DictReader(io.StringIO((await visitor.get(f"/apps/{ref}/export.csv")).text)))
    assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal(total).scaleb(-9)
    exported = (await visitor.get(f"/apps/{ref}/export.json")).json
    assert exported["spentUsd"] == shown
    assert isinstance(exported["days"], list)
    assert sum(Decimal(day["usd"]) for day in exported["days"]) == Decimal(shown)


async def test_a_cent_is_never_rounded_away(world: World, visitor: Visitor) -> None:
    """What is under a cent shows two digits, with all of them in the title."""
    await world.connected(visitor)
    await spend(world, costs=(123,))
    page = await visitor.get("/")
    assert 'title="$0.000000123">$0.00000012<' in page.text


async def test_apps_are_sorted_by_spend(world: World, visitor: Visitor) -> None:
    """The one that costs most comes first."""
    other = await world.site.apps.create("Zebra", ["https://zebra.example"])
    key = a_key()
    await world.connected(visitor, key=key)
    begun = await world.begin(
        visitor,
        app_id=other["appId"],
        token=world.token(app_id=other["appId"]),
        origin="https://zebra.example",
    )
    await visitor.post(f"/consent/attempts/{begun.json['id']}/approve", {"monthlyUsd": 3})
    await spend(world)
    page = (await visitor.get("/")).text
    assert page.index("Acme") < page.index("Zebra")


async def test_stopping_an_app_takes_two_clicks_and_is_done_before_the_answer(world: World, visitor: Visitor) -> None:
    """A link asks for confirmation, a form stops it; afterwards nothing is admitted."""
    await world.connected(visitor)
    ref = await ref_of(visitor)
    asked = await visitor.read_csrf(f"/apps/{ref}/revoke")
    assert "Stop Acme?" in asked.text
    done = await visitor.submit(f"/apps/{ref}/revoke")
    assert (done.status, done.header("Location")) == (303, f"/apps/{ref}")
    try:
        await spend(world)
    except NotConnected:
        pass
    else:
        raise AssertionError("a revoked connection must not spend")
    assert "cannot spend" in (await visitor.get(f"/apps/{ref}")).text


async def test_a_cap_is_lowered_at_once_and_raised_after_a_second_word(world: World, visitor: Visitor) -> None:
    """Raising shows what it means first; the confirmation carries the very amount."""
    await world.connected(visitor, usd=10)
    ref = await ref_of(visitor)
    assert (await visitor.submit(f"/apps/{ref}/cap", monthly_usd="4,50")).status == 303
    assert (await world.site.ledger.standing(world.budget())).cap_nano == 4_500_000_000
    asked = await visitor.submit(f"/apps/{ref}/cap", monthly_usd="20")
    assert "Raise the cap to $20.00?" in asked.text
    assert (await world.site.ledger.standing(world.budget())).cap_nano == 4_500_000_000
    assert (await visitor.submit(f"/apps/{ref}/cap", monthly_usd="20", confirmed="20000000000")).status == 303
    assert (await world.site.ledger.standing(world.budget())).cap_nano == 20_000_000_000
    history = await world.site.connections.receipts(world.budget())
    assert [line["event"] for line in history] == ["cap", "cap", "approved"]


async def test_a_cap_that_is_none_is_told_beside_the_field(world: World, visitor: Visitor) -> None:
    """The page is shown again with the typed text and what is wrong with it."""
    await world.connected(visitor)
    ref = await ref_of(visitor)
    page = await visitor.submit(f"/apps/{ref}/cap", monthly_usd="ten")
    assert page.status == 422
    assert 'value="ten"' in page.text
    assert 'aria-invalid="true"' in page.text


async def test_pause_and_resume(world: World, visitor: Visitor) -> None:
    """A paused app is not connected until it is resumed."""
    await world.connected(visitor)
    ref = await ref_of(visitor)
    await visitor.submit(f"/apps/{ref}/pause")
    assert (await world.site.connections.status(world.budget()))["connected"] is False
    await visitor.submit(f"/apps/{ref}/resume")
    assert (await world.site.connections.status(world.budget()))["connected"] is True


async def test_stop_everything_stops_every_app(world: World, visitor: Visitor) -> None:
    """One page names them, one post stops them all."""
    await world.connected(visitor, "bob")
    await world.connected(visitor, "eve")
    asked = await visitor.read_csrf("/stop")
    assert "Stop 2 apps now" in asked.text
    await visitor.submit("/stop")
    for user in ("bob", "eve"):
        assert (await world.site.connections.status(world.budget(user)))["connected"] is False


async def test_removing_the_key_says_who_stops_and_stops_them(world: World, visitor: Visitor) -> None:
    """The key is deleted from the wallet and from its connections."""
    await world.connected(visitor)
    asked = await visitor.read_csrf("/funding/remove")
    assert "Acme" in asked.text
    await visitor.submit("/funding/remove")
    assert not (await world.site.ledger.standing(world.budget())).fields["funding"]
    assert "No key" in (await visitor.get("/funding")).text
    assert "No funding" in (await visitor.get("/")).text


async def test_a_new_key_pays_for_every_app(world: World, visitor: Visitor) -> None:
    """Replacing the funding reaches the connections that are there."""
    await world.connected(visitor)
    key = a_key()
    await visitor.read_csrf("/funding")
    assert (await visitor.post("/fund/key", {"key": key})).status == 200
    budget = world.budget()
    sealed = (await world.site.ledger.standing(budget)).fields["funding"]
    assert world.site.wallets._sealer.open(sealed, place=budget.place) == key


async def test_a_stranger_cannot_touch_an_app_of_another_wallet(world: World, visitor: Visitor) -> None:
    """Its name in the URL opens nothing for another browser."""
    await world.connected(visitor)
    ref = await ref_of(visitor)
    other = world.visitor()
    await world.connected(other, "eve")
    await other.read_csrf("/")
    for path in (f"/apps/{ref}", f"/apps/{ref}/revoke", f"/apps/{ref}/export.csv", f"/apps/{ref}/history.csv"):
        assert (await other.get(path)).status == 404
    assert (await other.submit(f"/apps/{ref}/revoke")).status == 404
    assert (await world.site.connections.status(world.budget()))["connected"] is True


async def test_the_consent_history_shows_the_exact_text(world: World, visitor: Visitor) -> None:
    """What was agreed to is on the app's page, with the digest of it."""
    await world.connected(visitor, usd=7.5)
    ref = await ref_of(visitor)
    page = (await visitor.get(f"/apps/{ref}")).text
    assert "Acme may run AI requests paid by you, up to $7.50 per month." in page
    [receipt] = await world.site.connections.receipts(world.budget())
    assert receipt["sha256"] in page


async def test_leaving_signs_out_and_stops_nothing(world: World, visitor: Visitor) -> None:
    """The old cookie is dead; the app still spends."""
    await world.connected(visitor)
    await visitor.read_csrf()
    old = dict(visitor.cookies)
    await visitor.submit("/leave")
    visitor.cookies = old
    assert "Find my budget" in (await visitor.get("/")).text
    assert (await world.site.connections.status(world.budget()))["connected"] is True


async def test_the_history_says_who_changed_what(world: World, visitor: Visitor) -> None:
    """On the page, in the JSON and in its own CSV, as sentences: changes by the payer, the app and the operator."""
    connections, budget = world.site.connections, world.budget()
    await world.connected(visitor, usd=10)
    ref = await ref_of(visitor)
    await connections.lower(budget, 4_500_000_000)
    await visitor.submit(f"/apps/{ref}/cap", monthly_usd="3")
    await visitor.submit(f"/apps/{ref}/pause")
    await visitor.submit(f"/apps/{ref}/pause")
    await visitor.submit(f"/apps/{ref}/resume")
    await visitor.post("/fund/key", {"key": a_key()})
    await visitor.submit("/funding/remove")
    await connections.end_all(world.app_id)
    said = [
        "The operator closed the app, which stopped it.",
        "You took away the key that paid for it.",
        "You gave it another key to pay with.",
        "You resumed it.",
        "You paused it.",
        "You changed the cap from $4.50 to $3.00.",
        "The app changed the cap from $10.00 to $4.50.",
    ]
    page = (await visitor.get(f"/apps/{ref}")).text
    assert [page.index(words) for words in said] == sorted(page.index(words) for words in said)
    rows = list(csv.DictReader(io.StringIO((await visitor.get(f"/apps/{ref}/history.csv")).text)))
    assert [row["words"] for row in rows[:-1]] == said
    assert "up to $10.00 per month" in rows[-1]["words"]
    assert [row["by"] for row in rows] == ["operator", *["payer"] * 5, "app", "payer"]
    exported = (await visitor.get(f"/apps/{ref}/export.json")).json["history"]
    assert isinstance(exported, list)
    assert [line["words"] for line in exported] == [row["words"] for row in rows]


async def test_stopping_everything_leaves_one_receipt_each(world: World, visitor: Visitor) -> None:
    """Of the payer."""
    await world.connected(visitor, "bob")
    await world.connected(visitor, "eve")
    await visitor.read_csrf("/stop")
    for _ in range(2):
        await visitor.submit("/stop")
    for user in ("bob", "eve"):
        found = await world.site.connections.receipts(world.budget(user))
        assert [(line["event"], line["by"]) for line in found if line["event"] != "funded"] == [
            ("revoked", "payer"),
            ("approved", "payer"),
        ]
