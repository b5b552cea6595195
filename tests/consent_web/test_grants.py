"""Grants over HTTP: from a publishable key to a token, what the payer sees of it, and every way to end it."""

# ruff: noqa: N802 - the names carry the checklist's ids

import secrets

import pytest

from gateway import keys
from gateway.errors import GrantInvalid
from gateway.ledger.outcomes import Settlement
from gateway.ledger.worst_case import WorstCase
from gateway.payers import limits
from gateway.payers.grants import grant_of
from gateway.payers.limits import GRANTS_A_BROWSER
from tests.consent_web.world import ORIGIN, Fetched, JsonObject, Visitor, World, a_key

THREE = {"requests": 3, "maxUsd": 0.5}


async def begin(
    world: World, visitor: Visitor, grant: object = THREE, *, mode: str = "live", **more: object
) -> Fetched:
    """Open the popup of a page that has nothing but a publishable key."""
    if not visitor.cookies:
        await visitor.open()
    body = {"key": f"pk_{mode}_{world.app_id}", "nonce": secrets.token_urlsafe(24), "origin": ORIGIN, "grant": grant}
    return await visitor.post("/consent/attempts", body | more)


async def granted(world: World, visitor: Visitor, grant: object = THREE, *, key: str | None = None) -> tuple[str, str]:
    """Open and approve a grant; return the attempt's id and the token."""
    attempt_id = str((await begin(world, visitor, grant)).json["id"])
    paid = await visitor.post(f"/consent/attempts/{attempt_id}/key", {"key": key or a_key()})
    assert paid.status == 200, paid.text
    answer = await visitor.post(f"/consent/attempts/{attempt_id}/approve", {})
    assert answer.status == 200, answer.text
    result = answer.json["result"]
    assert isinstance(result, dict)
    return attempt_id, str(result["grantToken"])


def of(answer: Fetched, name: str) -> JsonObject:
    found = answer.json[name]
    assert isinstance(found, dict)
    return found


async def test_a_yes_makes_a_grant_with_a_key_of_its_own(world: World, visitor: Visitor) -> None:
    """The key is sealed for the grant; the receipt has the screen's text, and there is no connection."""
    begun = await begin(world, visitor)
    assert of(begun, "text")["sentence"] == "{app} may run up to 3 requests paid by you, at most $0.50, until {until}."
    assert of(begun, "grant")["button"] == "Allow up to $0.50"
    _, token = await granted(world, world.visitor(), key="sk-or-v1-limit20-its-own")
    budget = grant_of(token, "live", world.app_id)
    found = await world.site.connections.find(budget)
    assert (found.standing.uses, found.standing.cap_nano, found.origin) == (3, 500_000_000, ORIGIN)
    sealed = found.standing.fields["funding"]
    assert budget.place.startswith("grant:")
    assert world.services.sealer.open(sealed, place=budget.place) == "sk-or-v1-limit20-its-own"
    [receipt] = await world.site.connections.receipts(budget)
    assert "Acme may run up to 3 requests paid by you, at most $0.50, until" in receipt["text"]
    assert await world.site.connections.members("live", world.app_id) == []


async def test_without_a_sum_the_screen_says_what_it_comes_to(world: World, visitor: Visitor) -> None:
    """N times the operator's ceiling; one request is one."""
    begun = await begin(world, visitor, {"requests": 1})
    assert "up to 1 request paid by you, at most $1.00, until" in str(of(begun, "text")["sentence"])


@pytest.mark.parametrize(
    "grant",
    [
        {},
        {"requests": 0},
        {"requests": 1000},
        {"requests": 3, "maxUsd": 0.001},
        {"requests": 3, "maxUsd": 101},
        {"requests": 3, "maxUsd": None},
        [3],
        3,
    ],
)
async def test_P10_a_grant_out_of_bounds_is_refused(world: World, visitor: Visitor, grant: object) -> None:
    """Before anything is shown."""
    assert (await begin(world, visitor, grant)).status in {400, 422}


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", None, f"{ORIGIN}/"])
async def test_P10_no_grant_without_the_verified_origin(world: World, visitor: Visitor, origin: object) -> None:
    """The origin is the only proof of the app: the publishable key alone opens nothing on other pages."""
    answer = await begin(world, visitor, origin=origin)
    assert (answer.status, answer.reason) == (403, "origin")


async def test_the_token_is_told_until_it_was_handed_on(world: World, visitor: Visitor) -> None:
    """The same browser can repeat a lost answer; after the delivery the token is stored nowhere."""
    attempt_id, token = await granted(world, visitor)
    path = f"/consent/attempts/{attempt_id}"
    again = of(await visitor.post(f"{path}/approve", {}), "result")
    assert again["grantToken"] == token
    other = world.visitor()
    await other.open()
    assert (await other.get(path)).status == 403
    assert (await visitor.post(f"{path}/handed-on")).status == 200
    assert set(of(await visitor.get(path), "result")) == {"outcome", "expiresAt"}
    assert (await visitor.post(f"{path}/handed-on")).status == 200
    dumped = await world.services.store.call("HGETALL", keys.attempt(attempt_id))
    assert token.encode() not in b"".join(dumped.values())


async def test_P10_the_app_hears_of_a_yes_but_not_the_token(world: World, visitor: Visitor) -> None:
    """`GET /v1/attempts/{nonce}` with a publishable key: the state alone, and nothing under another app or mode."""
    nonce = secrets.token_urlsafe(24)
    attempt_id = str((await begin(world, visitor, nonce=nonce)).json["id"])
    outcome = world.site.attempts.outcome
    assert await outcome(world.app_id, "live", "", nonce) == {"state": "pending"}
    await visitor.post(f"/consent/attempts/{attempt_id}/key", {"key": a_key()})
    await visitor.post(f"/consent/attempts/{attempt_id}/approve", {})
    told = await outcome(world.app_id, "live", "", nonce)
    assert (told["state"], set(told)) == ("approved", {"state", "expiresAt"})
    assert await outcome(world.app_id, "test", "", nonce) == {"state": "unknown"}


async def test_a_no_makes_nothing(world: World, visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """And two of them in a minute start the cooldown."""
    monkeypatch.setattr(world.site.limits, "_cools_down", True)
    for _ in range(2):
        attempt_id = (await begin(world, visitor)).json["id"]
        denied = await visitor.post(f"/consent/attempts/{attempt_id}/deny")
        assert denied.json["result"] == {"outcome": "denied"}
    assert (await begin(world, visitor)).reason == "cooldown"
    assert await world.site.connections.grants("live", world.app_id) == []


async def test_P10_asking_again_and_again_is_stopped(
    world: World, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows closed without an answer count too; other browsers are not affected."""
    monkeypatch.setattr(world.site.limits, "_cools_down", True)
    for _ in range(GRANTS_A_BROWSER):
        assert (await begin(world, visitor)).status == 200
    assert (await begin(world, visitor)).reason == "cooldown"
    assert (await begin(world, world.visitor())).status == 200


async def test_P10_made_up_requests_are_counted_for_the_app_they_name(
    world: World, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody with the publishable key can invent browsers; other apps are not affected."""
    monkeypatch.setattr(limits, "GRANTS_AN_APP", 2)
    for _ in range(2):
        assert (await begin(world, world.visitor())).status == 200
    assert (await begin(world, visitor)).status == 429
    other = await world.site.apps.create("Other", [ORIGIN])
    assert (await begin(world, visitor, key=other["publishableKey"])).status == 200


async def test_a_test_key_needs_no_funding(world: World, visitor: Visitor) -> None:
    """The page approves by itself; nothing of it can cost."""
    begun = await begin(world, visitor, mode="test", origin="http://localhost:5173")
    assert begun.json["funding"] is None
    answer = await visitor.post(f"/consent/attempts/{begun.json['id']}/approve", {})
    assert str(of(answer, "result")["grantToken"]).startswith("gr_test_")


async def test_the_dashboard_shows_a_grant_while_it_lives_and_after(world: World, visitor: Visitor) -> None:
    """What is left, what it spent, until when; and an end in two clicks, before the answer."""
    _, token = await granted(world, visitor)
    budget = grant_of(token, "live", world.app_id)
    ledger = world.site.ledger
    await ledger.admit(budget, "req_a", WorstCase(1000, 0, 1), model="m", estimate_nano=0)
    await ledger.settle(budget, "req_a", Settlement("settled", 120_000_000))
    page = await visitor.read_csrf()
    assert "One-time" in page.text
    assert "1 of 3 requests" in page.text
    ref = world.site.connections.account(budget)
    assert "$0.12" in page.text
    detail = await visitor.get(f"/apps/{ref}")
    assert detail.status == 200
    assert "Monthly cap" not in detail.text
    assert "/pause" not in detail.text
    ended = await visitor.submit(f"/apps/{ref}/revoke")
    assert ended.status == 303
    assert (await ledger.standing(budget)).end == "ended"
    with pytest.raises(GrantInvalid):
        await ledger.admit(budget, "req_b", WorstCase(1000, 0, 1), model="m", estimate_nano=0)
    after = await visitor.get("/")
    assert "Ended" in after.text
    assert "$0.12" in after.text


async def test_a_grants_cap_is_not_to_be_changed(world: World, visitor: Visitor) -> None:
    """Nor is it paused: it is ended."""
    _, token = await granted(world, visitor)
    ref = world.site.connections.account(grant_of(token, "live", world.app_id))
    await visitor.read_csrf()
    assert (await visitor.submit(f"/apps/{ref}/cap", monthly_usd="0.60")).status == 404
    assert (await visitor.submit(f"/apps/{ref}/pause")).status == 404


async def test_stop_everything_stops_grants(world: World, visitor: Visitor) -> None:
    """And what was approved and not opened yet never opens."""
    _, token = await granted(world, visitor)
    await visitor.read_csrf()
    asked = await visitor.get("/stop")
    assert "One-time" in asked.text
    assert (await visitor.submit("/stop")).status == 303
    assert (await world.site.ledger.standing(grant_of(token, "live", world.app_id))).end == "ended"


async def test_another_key_pays_for_living_grants_too(world: World, visitor: Visitor) -> None:
    """Replacing the wallet's key replaces the copy of an active grant; an ended one gets none."""
    _, living = await granted(world, visitor)
    _, over = await granted(world, visitor, {"requests": 1})
    ledger, opens = world.site.ledger, world.services.sealer.open
    budgets = [grant_of(token, "live", world.app_id) for token in (living, over)]
    await ledger.admit(budgets[1], "req_a", WorstCase(1000, 0, 1), model="m", estimate_nano=0)
    await ledger.settle(budgets[1], "req_a", Settlement("settled", 1))
    await visitor.read_csrf("/funding")
    assert (await visitor.post("/fund/key", {"key": "sk-or-v1-limit20-replaced"})).status == 200
    fields = [(await ledger.standing(budget)).fields for budget in budgets]
    assert opens(fields[0]["funding"], place=budgets[0].place) == "sk-or-v1-limit20-replaced"
    assert "funding" not in fields[1]
