"""Redirect mode: an approval is held until the page that started it redeems it."""

# ruff: noqa: N802 - some names carry the checklist's ids

import re
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway import keys
from gateway.errors import AuthError, NotConnected
from tests.consent_web.world import RETURN_URL, Visitor, World, a_key, challenge_of

NONCE = "n" * 24
VERIFIER = "v" * 64


async def approved(world: World, visitor: Visitor) -> str:
    """Approve in redirect mode. Returns the code for the app."""
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
    """The payer approved, then stopped: redeeming the code is too late."""
    code = await approved(world, visitor)
    await visitor.read_csrf("/funding")
    assert (await visitor.submit(path)).status == 303
    told = await world.site.attempts.redeem(world.app_id, "live", "bob", NONCE, code=code, verifier=VERIFIER)
    assert told == {"state": "denied"}
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


async def test_W05_what_waits_is_on_the_dashboard_and_can_be_taken_back(world: World, visitor: Visitor) -> None:
    """With app, cap and the whole URL, without script or secret; the app then gets `denied`."""
    code = await approved(world, visitor)
    page = await visitor.read_csrf("/")
    for words in ("Acme", "$5.00", RETURN_URL):
        assert words in page.text
    (path,) = re.findall(r'action="(/waiting/[0-9a-f]{64}/end)"', page.text)
    stranger = world.visitor()
    await world.connected(stranger, "eve")
    await stranger.read_csrf()
    assert (await stranger.submit(path)).status == 404
    assert (await visitor.submit(path, secret="")).status == 303
    assert (await visitor.submit(path, secret="")).status == 404
    assert "/waiting/" not in (await visitor.get("/")).text
    redeem = world.site.attempts.redeem
    for _ in range(2):
        told = await redeem(world.app_id, "live", "bob", NONCE, code=code, verifier=VERIFIER)
        assert told == {"state": "denied"}
    assert not (await world.site.connections.status(world.budget()))["connected"]


async def test_W05_what_was_picked_up_does_not_wait_any_more(world: World, visitor: Visitor) -> None:
    """It is listed among the apps then, and only there."""
    code = await approved(world, visitor)
    await world.site.attempts.redeem(world.app_id, "live", "bob", NONCE, code=code, verifier=VERIFIER)
    page = await visitor.get("/")
    assert ("/waiting/" in page.text, 'href="/apps/' in page.text) == (False, True)


async def test_W05_the_screen_and_the_receipt_say_the_whole_address(world: World, visitor: Visitor) -> None:
    """Not its origin alone."""
    code = await approved(world, visitor)
    await world.site.attempts.redeem(world.app_id, "live", "bob", NONCE, code=code, verifier=VERIFIER)
    attempt = keys.attempt_id("live", world.app_id, "bob", NONCE)
    assert (await visitor.get(f"/consent/attempts/{attempt}")).json["returnUrl"] == RETURN_URL
    receipts = await world.site.connections.receipts(world.budget())
    assert RETURN_URL in receipts[0]["text"]


async def test_W05_a_return_url_that_was_taken_away_is_not_returned_to(world: World, visitor: Visitor) -> None:
    """What was opened before it cannot be approved any more."""
    begun = await world.begin(visitor, nonce=NONCE, returnUrl=RETURN_URL, challenge=challenge_of(VERIFIER))
    await visitor.post(f"/consent/attempts/{begun.json['id']}/key", {"key": a_key()})
    await world.site.apps.update(world.app_id, return_urls=["https://acme.example/other?*"])
    answer = await visitor.post(f"/consent/attempts/{begun.json['id']}/approve", {"monthlyUsd": 5})
    assert (answer.status, answer.reason) == (403, "return_url")
