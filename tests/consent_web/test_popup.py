"""The popup over HTTP: from a token to a connection, and every case that must not lead to one."""

import pytest

from gateway import keys
from gateway.payers.attempts import KEPT_MS, MOST_EXTENSIONS
from tests.consent_web.world import Visitor, World


async def test_a_pasted_key_and_a_yes_make_a_live_connection(world: World, visitor: Visitor) -> None:
    """Attempt, key, approval: the connection has the chosen cap and the app is notified."""
    attempt_id = await world.funded(visitor)
    answer = await visitor.post(f"/consent/attempts/{attempt_id}/approve", {"monthlyUsd": 5})
    assert answer.json["result"] == {
        "outcome": "approved",
        "status": {"connected": True, "limits": {"monthlyUsd": 5}, "usage": {"monthlyUsd": 0}, "remainingUsd": 5},
    }
    assert (await world.site.ledger.standing(world.budget())).cap_nano == 5_000_000_000


async def test_test_mode_takes_one_click_and_no_funding(world: World, visitor: Visitor) -> None:
    """A test token from a loopback page is approved without a key; without a suggested cap there is no cap."""
    token = world.token(mode="test", limit_usd=None)
    begun = await world.begin(visitor, mode="test", token=token, origin="http://localhost:5173")
    answer = await visitor.post(f"/consent/attempts/{begun.json['id']}/approve", {})
    assert answer.json["state"] == "approved"
    status = await world.site.connections.status(world.budget(mode="test"))
    assert (status["connected"], status["limits"]) == (True, {"monthlyUsd": None})


async def test_a_payer_gets_more_time_ten_times(world: World, visitor: Visitor) -> None:
    """WCAG 2.2.1: each time as long as the first; the eleventh is refused and changes nothing."""
    begun = await world.begin(visitor)
    path = f"/consent/attempts/{begun.json['id']}"
    assert begun.json["mayExtend"] is True
    for number in range(MOST_EXTENSIONS):
        await world.services.store.call("HSET", keys.attempt(str(begun.json["id"])), "expires_ms", 10**13 + number)
        more = await visitor.post(f"{path}/extend")
        assert (more.status, more.json["mayExtend"]) == (200, number < MOST_EXTENSIONS - 1)
    assert (await visitor.post(f"{path}/extend")).status == 409
    assert (await visitor.get(path)).json["mayExtend"] is False


async def test_more_time_is_an_hour_from_now(world: World, visitor: Visitor) -> None:
    """Not an hour more: time cannot be piled up."""
    begun = await world.begin(visitor)
    for _ in range(3):
        more = await visitor.post(f"/consent/attempts/{begun.json['id']}/extend")
        left = more.json["leftSeconds"]
        assert isinstance(left, float)
        assert 3590 < left <= 3601


async def test_only_the_payers_own_page_gets_more_time(world: World, visitor: Visitor) -> None:
    """Another site, another browser, a missing CSRF token, an expired or an answered attempt: refused."""
    begun = await world.begin(visitor)
    path = f"/consent/attempts/{begun.json['id']}/extend"
    assert (await visitor.post(path, headers={"Sec-Fetch-Site": "cross-site"})).status == 403
    assert (await visitor.post(path, headers={"x-wattfare-csrf": ""})).status == 403
    other = world.visitor()
    await world.begin(other, token=world.token("eve"))
    assert (await other.post(path)).status == 403
    key = keys.attempt(str(begun.json["id"]))
    await world.services.store.call("HSET", key, "expires_ms", 1)
    await world.services.store.call("PEXPIRE", key, KEPT_MS - 1)
    assert (await visitor.post(path)).status == 410
    denied = await world.begin(other, token=world.token("eve2"))
    await other.post(f"/consent/attempts/{denied.json['id']}/deny")
    assert (await other.post(f"/consent/attempts/{denied.json['id']}/extend")).status == 409


async def test_a_page_and_a_backend_of_two_modes_are_told_so(world: World, visitor: Visitor) -> None:
    """`pk_live` on the page and `sk_test` in the backend, or the reverse: the message does not say "another app"."""
    for page, backend in (("live", "test"), ("test", "live")):
        answer = await world.begin(visitor, mode=page, token=world.token(mode=backend))
        assert (answer.status, answer.reason) == (401, "auth")
        assert '"detail":"modes"' in answer.text
        assert f"pk_{page}_" in answer.text
        assert f"sk_{backend}_" in answer.text


async def test_an_address_in_the_local_network_is_told_what_helps(world: World, visitor: Visitor) -> None:
    """It can be registered for no app; with its port it is named."""
    token = world.token(mode="test")
    answer = await world.begin(visitor, mode="test", token=token, origin="http://192.168.1.5:3000")
    assert (answer.status, answer.reason) == (403, "origin")
    assert "http://192.168.1.5:3000 is not" in answer.text
    assert "localhost" in answer.text


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (0.0005, "From $0.01 to $1,000.00, or $0.0005, in US dollars."),
        (0.1, "From $0.10 to $1,000.00, in US dollars."),
        (None, "From $0.50 to $1,000.00, in US dollars."),
    ],
)
async def test_a_wish_under_the_least_cap_gets_true_words(
    world: World, visitor: Visitor, wish: float | None, said: str
) -> None:
    """The range shown in the window is the one that the server accepts."""
    attempt_id = await world.funded(visitor, token=world.token(limit_usd=wish))
    shown = (await visitor.get(f"/consent/attempts/{attempt_id}")).json["cap"]
    assert isinstance(shown, dict)
    assert shown["range"] == said
    least = 0.01 if wish == 0.0005 else shown["leastUsd"]
    refused = await visitor.post(f"/consent/attempts/{attempt_id}/approve", {"monthlyUsd": 0.0001})
    assert said.removeprefix("From ").split(" to ")[0] in refused.text
    approved = await visitor.post(f"/consent/attempts/{attempt_id}/approve", {"monthlyUsd": least})
    assert approved.status == 200, approved.text
