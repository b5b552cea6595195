"""The shown amount is binding: the stored cap, the app's status and the receipt equal the number on the button."""

from decimal import Decimal

import pytest

from gateway.keys import Budget
from gateway.money import nano_from_usd, usd_from_nano
from gateway.payers.grants import grant_of
from tests.consent_web.test_grants import begin as begin_grant
from tests.consent_web.test_grants import of
from tests.consent_web.world import Visitor, World, a_key

Choice = dict[str, object]
# A fraction of a cent, less than the least cap, whole dollars, a fraction, more than the most; and no wish.
WISHES = [0.0005, 0.3, 5, 12.345, 5000, None]


def nano_of(text: object) -> int:
    """Read an amount as a person does."""
    return nano_from_usd(Decimal(str(text).removeprefix("$").replace(",", "")))


def shown_caps(cap: object) -> list[Choice]:
    """Every amount that the window offers, and two that a person types into its field: the least and one between."""
    assert isinstance(cap, dict)
    least = -(-nano_of(cap["leastUsd"]) // 10_000_000) * 10_000_000
    typed = [{"usd": usd_from_nano(nano), "text": f"${nano / 1e9:.2f}"} for nano in (least, 7_250_000_000)]
    return [cap["chosen"], *cap["choices"], *({**each, "short": each["text"]} for each in typed)]


async def check_bound(world: World, budget: Budget, choice: Choice, answer: dict[str, object]) -> None:
    """Compare the stored cap, the status and the receipt with the button's text."""
    nano = nano_of(choice["text"])
    assert nano_of(choice["short"]) == nano
    assert (await world.site.ledger.standing(budget)).cap_nano == nano
    result = answer["result"]
    assert isinstance(result, dict)
    assert nano_from_usd(Decimal(str(result["status"]["limits"]["monthlyUsd"]))) == nano
    receipt = (await world.site.connections.receipts(budget))[0]
    assert receipt["cap_nano"] == str(nano)
    assert f"up to {choice['text']} per month" in receipt["text"]


@pytest.mark.parametrize("wish", WISHES)
async def test_every_amount_that_is_offered_is_the_cap(world: World, wish: float | None) -> None:
    """Suggested, preset, typed; the popup reloaded before the answer shows the same amounts."""
    visitor = world.visitor()
    first = await world.begin(visitor, token=world.token("first", limit_usd=wish))
    await visitor.post(f"/consent/attempts/{first.json['id']}/key", {"key": a_key()})
    for number, choice in enumerate(shown_caps(first.json["cap"])):
        user = f"user-{number}"
        path = f"/consent/attempts/{(await world.begin(visitor, token=world.token(user, limit_usd=wish))).json['id']}"
        again = await visitor.get(path)
        assert shown_caps(again.json["cap"])[number] == choice
        answer = await visitor.post(f"{path}/approve", {"monthlyUsd": choice["usd"]})
        assert answer.status == 200, (choice, answer.text)
        await check_bound(world, world.budget(user), choice, answer.json)


async def test_the_last_button_binds_when_another_window_answered_first(world: World, visitor: Visitor) -> None:
    """Two windows of one user: each sets its own number, and one that is loaded again shows what holds by now."""
    early = f"/consent/attempts/{await world.funded(visitor, token=world.token(limit_usd=5))}"
    late = f"/consent/attempts/{(await world.begin(visitor, token=world.token(limit_usd=5))).json['id']}"
    assert (await visitor.post(f"{early}/approve", {"monthlyUsd": 8})).status == 200
    reloaded = (await visitor.get(late)).json
    assert isinstance(reloaded["cap"], dict)
    assert isinstance(reloaded["current"], dict)
    assert (reloaded["current"]["cap"], reloaded["cap"]["chosen"]["text"]) == ("$8.00", "$8.00")
    answer = await visitor.post(f"{late}/approve", {"monthlyUsd": 2})
    await check_bound(world, world.budget(), {"text": "$2.00", "short": "$2"}, answer.json)


async def test_one_window_binds_once(world: World, visitor: Visitor) -> None:
    """The same request in two tabs: the second button with another number is refused, and nothing changes."""
    path = f"/consent/attempts/{await world.funded(visitor)}"
    assert (await visitor.post(f"{path}/approve", {"monthlyUsd": 5})).status == 200
    refused = await visitor.post(f"{path}/approve", {"monthlyUsd": 20})
    assert (refused.status, refused.reason) == (409, "answered")
    repeated = await visitor.post(f"{path}/approve", {"monthlyUsd": 5})
    await check_bound(world, world.budget(), {"text": "$5.00", "short": "$5"}, repeated.json)


async def test_in_test_mode_the_wish_that_was_shown_is_the_cap(world: World, visitor: Visitor) -> None:
    """Also one beyond the most, with and without the number in the answer."""
    for user, body in (("ada", {}), ("eve", {"monthlyUsd": 1000})):
        begun = await world.begin(visitor, mode="test", token=world.token(user, mode="test", limit_usd=5000))
        assert isinstance(begun.json["cap"], dict)
        answer = await visitor.post(f"/consent/attempts/{begun.json['id']}/approve", body)
        assert answer.status == 200
        cap_nano = (await world.site.ledger.standing(world.budget(user, mode="test"))).cap_nano
        assert cap_nano == nano_of(begun.json["cap"]["chosen"]["text"]) == 1000 * 10**9


@pytest.mark.parametrize("grant", [{"requests": 3, "maxUsd": 0.5}, {"requests": 3}, {"requests": 1, "maxUsd": 0.0123}])
async def test_the_sum_on_a_grants_button_is_its_cap(world: World, visitor: Visitor, grant: object) -> None:
    """Given by the app, or N times the operator's amount; nothing in the approval's body changes it."""
    begun = await begin_grant(world, visitor, grant)
    path = f"/consent/attempts/{begun.json['id']}"
    await visitor.post(f"{path}/key", {"key": a_key()})
    answer = await visitor.post(f"{path}/approve", {"monthlyUsd": 900})
    result = answer.json["result"]
    assert isinstance(result, dict)
    standing = await world.site.ledger.standing(grant_of(str(result["grantToken"]), "live", world.app_id))
    shown = of(begun, "grant")["button"]
    assert standing.cap_nano == nano_of(str(shown).removeprefix("Allow up to "))


async def test_the_receipt_names_the_app_as_the_window_did(world: World, visitor: Visitor) -> None:
    """The operator renames it between the question and the yes."""
    attempt_id = await world.funded(visitor)
    await world.services.store.call("HSET", f"wf:app:{world.app_id}", "name", "Another")
    world.site.apps.forget_all()
    shown = await visitor.get(f"/consent/attempts/{attempt_id}")
    await visitor.post(f"/consent/attempts/{attempt_id}/approve", {"monthlyUsd": 5})
    [receipt] = await world.site.connections.receipts(world.budget())
    assert isinstance(shown.json["app"], dict)
    assert shown.json["app"]["name"] == "Acme"
    assert receipt["text"].startswith("Acme, asked by")
