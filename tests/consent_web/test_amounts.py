"""What the popup says about money before the approval: the app's suggestion, existing caps, what a key pays for."""

from typing import cast
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.consent_web.world import JsonObject, Visitor, World, a_key


async def asked(world: World, visitor: Visitor, user: str = "bob", **more: object) -> JsonObject:
    """Open the popup for a user and return its JSON."""
    limit = cast("float | None", more.pop("limit_usd", 10))
    return (await world.begin(visitor, token=world.token(user, limit_usd=limit), **more)).json  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limit_usd", "chosen_usd", "said"),
    [
        (None, 10, ""),
        (5, 5, "$5.00 was suggested by Acme."),
        (10, 10, "$10.00 was suggested by Acme."),
        (20, 10, "$20.00 was suggested by Acme."),
        (5000, 10, "$5,000.00 was suggested by Acme, more than the $1,000.00 that one app may have."),
    ],
)
async def test_a_wish_is_told_as_one_and_preselected_up_to_the_default(
    world: World, visitor: Visitor, limit_usd: float | None, chosen_usd: float, said: str
) -> None:
    """An app that wishes for a thousand dollars does not find them on the button."""
    cap = cast("JsonObject", (await asked(world, visitor, limit_usd=limit_usd))["cap"])
    assert cast("JsonObject", cap["chosen"])["usd"] == chosen_usd
    assert cap["suggestion"] == said
    # It is there to be chosen all the same.
    assert min(limit_usd or chosen_usd, 1000) in [
        cast("JsonObject", one)["usd"] for one in cast("list[object]", cap["choices"])
    ]


async def test_what_the_payer_allows_the_app_already_is_said(world: World, visitor: Visitor) -> None:
    """Other accounts of the same app add up; a pause that a yes would end is named."""
    await world.connected(visitor, "bob", usd=5)
    assert (await asked(world, visitor, "eve"))["others"] == (
        "Acme may already spend up to $5.00 per month from you, for another account."
    )
    await world.connected(visitor, "eve", usd=5)
    await world.site.connections.pause(world.budget("eve"))
    again = await asked(world, visitor, "eve")
    assert "You paused this app." in str(cast("JsonObject", again["current"])["text"])
    assert (await asked(world, visitor, "mallory"))["others"] == (
        "Acme may already spend up to $10.00 per month from you, for 2 other accounts."
    )
    assert (await asked(world, world.visitor(), "stranger"))["others"] == ""


async def test_a_key_says_what_else_it_pays_for_before_it_does(world: World, visitor: Visitor) -> None:
    """Before pasting a key the payer reads for which apps it will pay; a first-time payer has nothing to read."""
    assert (await asked(world, visitor))["alsoPays"] == ""
    await world.connected(visitor)
    other = await world.site.apps.create("Paper Reader", ["https://acme.example"])
    token = world.token("ann", app_id=other["appId"])
    begun = await world.begin(visitor, token=token, app_id=other["appId"])
    assert begun.json["alsoPays"] == "It pays at once for Acme too."


async def test_what_is_left_on_the_key_comes_with_it(world: World, visitor: Visitor) -> None:
    """So that the page can warn when a cap exceeds it."""
    attempt_id = await world.funded(visitor, key=a_key().replace("limit50", "limit3"))
    funding = cast("JsonObject", (await visitor.get(f"/consent/attempts/{attempt_id}")).json["funding"])
    assert (funding["left"], funding["leftUsd"]) == ("$3.00 left", 3)


@pytest.mark.parametrize(("limit_usd", "wanted"), [(None, "10"), (5, "10"), (40, "40")])
async def test_openrouter_is_asked_for_a_key_with_a_limit(
    world: World, visitor: Visitor, limit_usd: float | None, wanted: str
) -> None:
    """As much as the payer's caps come to with this one, so that our cap is not the only wall."""
    attempt_id = str((await asked(world, visitor, limit_usd=limit_usd))["id"])
    started = await visitor.post("/fund/start", {"attempt": attempt_id})
    query = parse_qs(urlsplit(str(started.json["url"])).query)
    assert (query["limit"], query["usage_limit_type"]) == ([wanted], ["monthly"])
