"""Attacks on the money (P…) that a plain HTTP client can make; docs/threats.md lists the others."""

# ruff: noqa: N802 - the names carry the checklist's ids

import re
import secrets

import pytest

from tests.consent_web.sight import PAGES, dump, is_connected
from tests.consent_web.test_dashboard import ref_of
from tests.consent_web.world import ORIGIN, Visitor, World, a_key


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://app.example", "Sec-Fetch-Site": ""},
        {"Origin": "https://app.example"},
        {"Origin": "null", "Sec-Fetch-Site": ""},
        {"Origin": "", "Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_P02_approval_needs_a_page_of_the_consent_origin(
    world: World, visitor: Visitor, headers: dict[str, str]
) -> None:
    """With every cookie and token right, a foreign or nameless page is refused."""
    attempt = await world.funded(visitor)
    answer = await visitor.post(f"/consent/attempts/{attempt}/approve", {"monthlyUsd": 5}, headers=headers)
    assert answer.status == 403
    assert not await is_connected(world)


async def test_P02_origin_alone_is_enough_for_browsers_without_fetch_metadata(world: World, visitor: Visitor) -> None:
    """Older browsers send Origin only."""
    attempt = await world.funded(visitor)
    path = f"/consent/attempts/{attempt}/approve"
    assert (await visitor.post(path, {"monthlyUsd": 5}, headers={"Sec-Fetch-Site": ""})).status == 200


async def test_P02_no_approval_without_a_verified_origin(world: World, visitor: Visitor) -> None:
    """Without the origin that the browser reported there is no attempt to approve."""
    for origin in ("", "null", None, 7):
        answer = await world.begin(visitor, origin=origin)  # type: ignore[arg-type]
        assert answer.status == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-wattfare-csrf": ""}, 403),
        ({"x-wattfare-csrf": "0" * 64}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
async def test_P03_forged_approvals_are_refused(
    world: World, visitor: Visitor, headers: dict[str, str], status: int
) -> None:
    """A missing or wrong CSRF header, or a body that a cross-site form can send, changes nothing."""
    attempt = await world.funded(visitor)
    answer = await visitor.post(f"/consent/attempts/{attempt}/approve", {"monthlyUsd": 5}, headers=headers)
    assert answer.status == status
    assert not await is_connected(world)


async def test_P03_forms_of_the_dashboard_need_their_token(world: World, visitor: Visitor) -> None:
    """A cross-site form with the cookies cannot stop an app."""
    await world.connected(visitor)
    ref = await ref_of(visitor)
    token, visitor.csrf = visitor.csrf, "0" * 64
    assert (await visitor.submit(f"/apps/{ref}/revoke")).status == 403
    visitor.csrf = token
    for origin, site in (
        ("https://evil.example", "cross-site"),
        ("https://evil.example", "same-origin"),
        ("null", "cross-site"),
        ("null", "same-site"),
        ("null", ""),
    ):
        foreign = {"Origin": origin, "Sec-Fetch-Site": site}
        assert (await visitor.submit(f"/apps/{ref}/revoke", headers=foreign)).status == 403
    assert await is_connected(world)


async def test_P04_approving_twice_gives_one_connection_and_one_receipt(world: World, visitor: Visitor) -> None:
    """The second approval gets the first result; one with another cap is told that it is too late."""
    attempt = await world.funded(visitor)
    path = f"/consent/attempts/{attempt}/approve"
    first = await visitor.post(path, {"monthlyUsd": 5})
    again = await visitor.post(path, {"monthlyUsd": 5})
    assert again.json["result"] == first.json["result"]
    other = await visitor.post(path, {"monthlyUsd": 500})
    assert (other.status, other.reason, "$5.00" in other.text) == (409, "answered", True)
    assert len(await world.site.connections.receipts(world.budget())) == 1
    assert (await world.site.ledger.standing(world.budget())).cap_nano == 5_000_000_000


async def test_P04_an_old_yes_does_not_undo_a_revocation(world: World, visitor: Visitor) -> None:
    """Replaying an approved attempt after a revoke leaves the connection dead."""
    attempt = await world.connected(visitor)
    await world.site.connections.revoke(world.budget())
    await visitor.post(f"/consent/attempts/{attempt}/approve", {"monthlyUsd": 10})
    assert not await is_connected(world)


async def test_P04_a_token_opens_one_attempt(world: World, visitor: Visitor) -> None:
    """A second attempt with the same token is refused; the same one continues after a reload."""
    token, nonce = world.token(), secrets.token_urlsafe(24)
    first = await world.begin(visitor, token=token, nonce=nonce)
    again = await world.begin(visitor, token=token, nonce=nonce)
    assert again.json["id"] == first.json["id"]
    other = await world.begin(visitor, token=token)
    assert (other.status, other.reason) == (409, "spent")
    thief = world.visitor()
    stolen = await world.begin(thief, token=token, nonce=nonce)
    assert (stolen.status, stolen.reason) == (409, "spent")


@pytest.mark.parametrize(
    "cap",
    ["-1", "0", "1e309", "NaN", "Infinity", "5.001", "1000.01", "0.49", '"5"', "true", "null", "[5]", "{}", "1e-9"],
)
async def test_P05_a_cap_that_is_none_is_refused(world: World, visitor: Visitor, cap: str) -> None:
    """Whatever is not a sane amount of dollars is 422, and nothing is connected."""
    attempt = await world.funded(visitor)
    answer = await visitor.post(f"/consent/attempts/{attempt}/approve", f'{{"monthlyUsd": {cap}}}'.encode())
    assert answer.status == 422, answer.text
    assert not await is_connected(world)


async def test_P05_the_receipt_is_written_by_the_server(world: World, visitor: Visitor) -> None:
    """Texts that a client sends along are not what was agreed to."""
    attempt = await world.funded(visitor)
    body = {"monthlyUsd": 5, "text": "up to $1.00", "app": "Bank"}
    await visitor.post(f"/consent/attempts/{attempt}/approve", body)
    [receipt] = await world.site.connections.receipts(world.budget())
    assert "up to $5.00 per month" in receipt["text"]
    assert receipt["origin"] == ORIGIN
    assert "Bank" not in receipt["text"]


async def test_P06_an_attempt_belongs_to_one_browser(world: World, visitor: Visitor) -> None:
    """Another browser's cookie cannot see, fund, approve or deny it."""
    attempt = await world.funded(visitor)
    other = world.visitor()
    await world.funded(other, token=world.token("eve"))
    for step, body in (("approve", {"monthlyUsd": 5}), ("deny", {}), ("key", {"key": a_key()}), ("wallet", {})):
        assert (await other.post(f"/consent/attempts/{attempt}/{step}", body)).status == 403
    assert (await other.get(f"/consent/attempts/{attempt}", Accept="application/json")).status == 403
    assert not await is_connected(world)


async def test_P07_the_account_is_named_or_its_absence_is(world: World, visitor: Visitor) -> None:
    """The token's label is shown in quotes; without one the screen says that the app gave none."""
    posing = await world.begin(visitor, token=world.token(userLabel="bob”. ✓ Verified: nothing is charged"))
    assert isinstance(posing.json["text"], dict)
    assert posing.json["text"]["account"] == "For your Acme account “bob. ✓ Verified: nothing is charged”."
    named = await world.begin(visitor, token=world.token(userLabel="bob@acme.example"))
    silent = await world.begin(visitor)
    assert isinstance(named.json["text"], dict)
    assert isinstance(silent.json["text"], dict)
    assert named.json["text"]["account"] == "For your Acme account “bob@acme.example”."
    assert silent.json["text"]["account"] == "For your account there; its name was not given."


async def test_P08_a_code_counts_only_with_our_state_in_this_browser_and_once(world: World, visitor: Visitor) -> None:
    """No state, another browser's state and a used state store nothing."""
    attempt = str((await world.begin(visitor)).json["id"])
    started = await visitor.post("/fund/start", {"attempt": attempt})
    back = await world.authorize(str(started.json["url"]))
    state, code = re.findall(r"/fund/callback/([^?]+)\?code=(.+)", back)[0]
    for body in ({"code": code}, {"state": "x" * 43, "code": code}, {"state": "", "code": code}):
        assert (await visitor.post("/fund/finish", body)).status == 400
    thief = world.visitor()
    await thief.read_csrf("/fund/start")
    assert (await thief.post("/fund/finish", {"state": state, "code": code})).status == 400
    assert (await visitor.post("/fund/finish", {"state": state, "code": code})).status == 200
    assert (await visitor.post("/fund/finish", {"state": state, "code": code})).status == 400


async def test_P08_a_foreign_code_under_our_state_is_refused_by_pkce(world: World, visitor: Visitor) -> None:
    """A code that another authorization got does not fit the verifier."""
    attempt = str((await world.begin(visitor)).json["id"])
    started = await visitor.post("/fund/start", {"attempt": attempt})
    mine = await world.authorize(str(started.json["url"]))
    evil = world.visitor()
    await evil.read_csrf("/fund/start")
    theirs = await world.authorize(str((await evil.post("/fund/start")).json["url"]), account="user_evil")
    state, code = mine.split("?")[0].rpartition("/")[2], theirs.partition("code=")[2]
    answer = await visitor.post("/fund/finish", {"state": state, "code": code})
    assert (answer.status, answer.reason) == (400, "code")
    assert (await visitor.get(f"/consent/attempts/{attempt}")).json["fault"] == "code"


async def test_P09_get_changes_nothing(world: World, visitor: Visitor) -> None:
    """Every GET with a full session, callback and all: the store is the same afterwards."""
    attempt = await world.connected(visitor)
    ref = await ref_of(visitor)
    await world.funded(visitor, token=world.token("eve"))
    started = await visitor.post("/fund/start", {})
    back = await world.authorize(str(started.json["url"]))
    await visitor.get("/")  # the newest cookie is seen: the one before it goes
    before = await dump(world)
    inside = (f"/consent/attempts/{attempt}", "/spend", back, "/funding/remove", "/sdk/client.js", "/favicon.ico")
    of_app = (f"/apps/{ref}", f"/apps/{ref}/revoke", f"/apps/{ref}/export.csv", f"/apps/{ref}/export.json")
    for path in (*PAGES, *inside, *of_app):
        await visitor.get(path)
    assert await dump(world) == before
