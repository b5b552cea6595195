"""Redirect mode: an approval sleeps until the page that started it comes back for it."""

from urllib.parse import parse_qs, urlsplit

import pytest

from gateway import keys
from gateway.errors import AuthError, NotConnected
from tests.consent_web.world import RETURN_URL, Visitor, World, a_key, challenge_of

NONCE = "n" * 24
VERIFIER = "v" * 64


async def approved(world: World, visitor: Visitor) -> str:
    """Approve in redirect mode. Returns the code that goes back to the app."""
    begun = await world.begin(visitor, nonce=NONCE, returnUrl=RETURN_URL, challenge=challenge_of(VERIFIER))
    path = f"/consent/attempts/{begun.json['id']}"
    await visitor.post(f"{path}/key", {"key": a_key()})
    answer = await visitor.post(f"{path}/approve", {"monthlyUsd": 5})
    back = urlsplit(str(answer.json["redirect"]))
    assert (f"{back.scheme}://{back.netloc}{back.path}", "result" in answer.json) == ("https://acme.example/app", False)
    query = parse_qs(back.query)
    assert (query["tab"], query["wattfare_attempt"]) == (["1"], [NONCE])
    return query["wattfare_code"][0]


async def test_an_approval_is_inactive_until_it_is_redeemed(world: World, visitor: Visitor) -> None:
    """Pending for the app, no connection; then the starter's page brings code and verifier."""
    code = await approved(world, visitor)
    outcome = await world.site.attempts.outcome(world.app_id, "live", "bob", NONCE)
    assert outcome == {"state": "pending"}
    assert (await world.site.connections.status(world.budget()))["connected"] is False
    for _ in range(2):
        redeemed = await world.site.attempts.redeem(world.app_id, "live", "bob", NONCE, code=code, verifier=VERIFIER)
        assert redeemed["state"] == "approved"
    assert (await world.site.ledger.standing(world.budget())).cap_nano == 5_000_000_000
    assert len(await world.site.connections.receipts(world.budget())) == 1


@pytest.mark.parametrize("wrong", ["code", "verifier", "user", "app"])
async def test_a_mailed_link_never_activates_anything(world: World, visitor: Visitor, wrong: str) -> None:
    """Without the starter's verifier, the returned code and the right token nothing opens."""
    code = await approved(world, visitor)
    with pytest.raises(AuthError):
        await world.site.attempts.redeem(
            "app" + "a" * 16 if wrong == "app" else world.app_id,
            "live",
            "eve" if wrong == "user" else "bob",
            NONCE,
            code="x" if wrong == "code" else code,
            verifier="x" if wrong == "verifier" else VERIFIER,
        )
    assert (await world.site.connections.status(world.budget()))["connected"] is False


async def test_a_redeemed_approval_does_not_undo_a_revocation(world: World, visitor: Visitor) -> None:
    """Redeeming again after a revoke leaves the connection dead."""
    code = await approved(world, visitor)
    await world.site.attempts.redeem(world.app_id, "live", "bob", NONCE, code=code, verifier=VERIFIER)
    await world.site.connections.revoke(world.budget())
    await world.site.attempts.redeem(world.app_id, "live", "bob", NONCE, code=code, verifier=VERIFIER)
    assert (await world.site.connections.status(world.budget()))["connected"] is False


@pytest.mark.parametrize("path", ["/stop", "/funding/remove"])
async def test_what_was_stopped_before_it_was_redeemed_never_opens(world: World, visitor: Visitor, path: str) -> None:
    """The payer said yes, then stop: whoever comes back with the code is too late."""
    code = await approved(world, visitor)
    await visitor.read_csrf("/funding")
    assert (await visitor.submit(path)).status == 303
    with pytest.raises(NotConnected):
        await world.site.attempts.redeem(world.app_id, "live", "bob", NONCE, code=code, verifier=VERIFIER)
    assert (await world.site.connections.status(world.budget()))["connected"] is False


async def test_a_revoke_that_overtakes_a_redeemed_approval_holds(world: World, visitor: Visitor) -> None:
    """Two come with the code at once, the user revokes between them: the second opens nothing."""
    code = await approved(world, visitor)
    fields = await world.site.attempts._fields(keys.attempt_id("live", world.app_id, "bob", NONCE))
    held = await world.site.attempts._attempt(fields)
    await world.site.attempts.redeem(world.app_id, "live", "bob", NONCE, code=code, verifier=VERIFIER)
    await world.site.connections.revoke(world.budget())
    with pytest.raises(NotConnected):
        await world.site.attempts._connect(held)
    assert (await world.site.connections.status(world.budget()))["connected"] is False


async def test_a_no_goes_back_as_an_error(world: World, visitor: Visitor) -> None:
    """The app's page learns that it was denied, and nothing else."""
    begun = await world.begin(visitor, nonce=NONCE, returnUrl=RETURN_URL, challenge=challenge_of(VERIFIER))
    answer = await visitor.post(f"/consent/attempts/{begun.json['id']}/deny")
    assert str(answer.json["redirect"]).endswith(f"&wattfare_attempt={NONCE}&wattfare_error=denied")


async def test_popup_approvals_cannot_be_redeemed(world: World, visitor: Visitor) -> None:
    """An attempt without a challenge proves nothing by an empty verifier."""
    await world.begin(visitor, nonce=NONCE)
    with pytest.raises(AuthError):
        await world.site.attempts.redeem(world.app_id, "live", "bob", NONCE, code="", verifier="")
