"""The popup over HTTP: from a token to a connection, and every way it must not get there."""

from tests.consent_web.world import Visitor, World


async def test_a_pasted_key_and_a_yes_make_a_live_connection(world: World, visitor: Visitor) -> None:
    """Attempt, key, approval: the connection has the chosen cap and the app hears it."""
    attempt_id = await world.funded(visitor)
    answer = await visitor.post(f"/consent/attempts/{attempt_id}/approve", {"monthlyUsd": 5})
    assert answer.json["result"] == {
        "outcome": "approved",
        "status": {"connected": True, "limits": {"monthlyUsd": 5}, "usage": {"monthlyUsd": 0}, "remainingUsd": 5},
    }
    assert (await world.site.ledger.standing(world.budget())).cap_nano == 5_000_000_000


async def test_test_mode_takes_one_click_and_no_funding(world: World, visitor: Visitor) -> None:
    """A test token from a loopback page is approved without a key; without an asked cap there is none."""
    token = world.token(mode="test", limit_usd=None)
    begun = await world.begin(visitor, mode="test", token=token, origin="http://localhost:5173")
    answer = await visitor.post(f"/consent/attempts/{begun.json['id']}/approve", {})
    assert answer.json["state"] == "approved"
    status = await world.site.connections.status(world.budget(mode="test"))
    assert (status["connected"], status["limits"]) == (True, {"monthlyUsd": None})
