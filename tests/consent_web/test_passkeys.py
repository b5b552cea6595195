"""Passkeys: a proof like the account's or the key's, for the wallet, the site and the moment it was made for."""

# ruff: noqa: N802 - the names carry the checklist's ids

import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import cbor2
import pytest
from webauthn.helpers import bytes_to_base64url

from tests.consent_web.authenticator import Authenticator
from tests.consent_web.payers import forget_proofs, raise_to, same_browser
from tests.consent_web.test_dashboard import ref_of
from tests.consent_web.world import Fetched, Visitor, World, a_key, a_world


@pytest.fixture
async def world(redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """The site under a host name: an address has no passkeys."""
    async with a_world(redis_url, tmp_path, host="localhost") as made:
        yield made


@pytest.fixture
def key(world: World) -> Authenticator:
    """The payer's authenticator."""
    return Authenticator("localhost", world.base)


async def set_up(visitor: Visitor, key: Authenticator) -> Fetched:
    """Set a passkey up."""
    asked = await visitor.post("/passkeys/options", {"purpose": "create"})
    if asked.status != 200:
        return asked
    return await visitor.post("/passkeys/create", {"credential": key.create(asked.json["challenge"])})


async def prove(visitor: Visitor, key: Authenticator) -> Fetched:
    """Prove by a passkey."""
    asked = await visitor.post("/passkeys/options", {"purpose": "get"})
    if asked.status != 200:
        return asked
    return await visitor.post("/passkeys/get", {"credential": key.get(asked.json["challenge"])})


async def ready(world: World, visitor: Visitor, key: Authenticator) -> str:
    """Connect an app, register a passkey, and let the proof expire. Returns the app's id in our URLs."""
    await world.connected(visitor, usd=5)
    assert (await set_up(visitor, key)).status == 200
    await forget_proofs(world)
    return await ref_of(visitor)


async def test_W08_a_passkey_is_a_proof(world: World, visitor: Visitor, key: Authenticator) -> None:
    """It raises beyond the default where nothing else was proved, and is on the dashboard until it is removed."""
    ref = await ready(world, visitor, key)
    refused = await raise_to(visitor, ref, 50)
    assert (refused.status, "Use your passkey" in refused.text) == (403, True)
    assert (await prove(visitor, key)).status == 200
    assert (await raise_to(visitor, ref, 50)).status == 303
    page = await visitor.read_csrf("/passkeys")
    (path,) = re.findall(r'action="(/passkeys/[A-Za-z0-9_-]+/remove)"', page.text)
    assert (await visitor.submit(path)).status == 303
    assert (await prove(visitor, key)).reason == "passkey"


async def test_W07_a_passkey_lets_a_browser_in_again_that_lost_its_secret(
    world: World, visitor: Visitor, key: Authenticator
) -> None:
    """Cookie and passkey together are the owner; the popup offers it where it shows no Allow."""
    ref = await ready(world, visitor, key)
    bare = same_browser(visitor, secret=secrets.token_urlsafe(32))
    seen = (await world.begin(bare, token=world.token("eve"))).json
    assert (seen["funding"], seen["hasPasskey"]) == (None, True)
    assert (await prove(bare, key)).status == 200
    assert (await raise_to(bare, ref, 50)).status == 303
    assert (await visitor.get("/funding")).status == 200


async def test_W08_setting_a_passkey_up_takes_a_proof(world: World, visitor: Visitor, key: Authenticator) -> None:
    """A thief with the browser's profile cannot register a permanent credential, nor can a cookie alone."""
    await ready(world, visitor, key)
    other = Authenticator("localhost", world.base)
    bare = same_browser(visitor, secret="")
    for thief in (visitor, bare):
        assert (await set_up(thief, other)).reason == "proof"
    assert (await prove(bare, key)).reason == "proof"
    assert (await prove(visitor, other)).reason == "passkey"


@pytest.mark.parametrize("wrong", ["origin", "rp_id", "verified", "challenge", "wallet", "signature"])
async def test_W08_a_passkey_counts_here_now_and_for_its_wallet(
    world: World, visitor: Visitor, key: Authenticator, wrong: str
) -> None:
    """Refused: signed for another site, without user verification, for an older challenge, by another wallet's key."""
    await ready(world, visitor, key)
    made = replace(
        key,
        origin="https://evil.example" if wrong == "origin" else key.origin,
        rp_id="evil.example" if wrong == "rp_id" else key.rp_id,
        is_verifying=wrong != "verified",
        key=Authenticator("", "").key if wrong == "signature" else key.key,
    )
    who = visitor
    if wrong == "wallet":
        who = world.visitor()
        await world.connected(who, "eve")
    if wrong == "challenge":
        asked = await visitor.post("/passkeys/options", {"purpose": "get"})
        await visitor.post("/passkeys/options", {"purpose": "get"})
        answer = await who.post("/passkeys/get", {"credential": made.get(asked.json["challenge"])})
    else:
        answer = await prove(who, made)
    assert (answer.status, answer.reason) == (403, "passkey")


async def test_W08_a_passkey_answer_counts_once(world: World, visitor: Visitor, key: Authenticator) -> None:
    """What was sent once is of no use again, for setting up neither."""
    await ready(world, visitor, key)
    asked = await visitor.post("/passkeys/options", {"purpose": "get"})
    body = {"credential": key.get(asked.json["challenge"])}
    assert [(await visitor.post("/passkeys/get", body)).status for _ in range(2)] == [200, 403]
    asked = await visitor.post("/passkeys/options", {"purpose": "create"})
    body = {"credential": Authenticator("localhost", world.base).create(asked.json["challenge"])}
    assert [(await visitor.post("/passkeys/create", body)).status for _ in range(2)] == [200, 403]


@pytest.mark.parametrize(
    "body", [{}, {"credential": 7}, {"credential": {}}, {"credential": {"id": "x", "response": 1}}]
)
async def test_what_is_no_passkey_is_refused(
    world: World, visitor: Visitor, key: Authenticator, body: dict[str, object]
) -> None:
    """Whatever its shape."""
    await world.connected(visitor)
    await set_up(visitor, key)
    for path in ("/passkeys/create", "/passkeys/get"):
        for purpose in ("create", "get"):
            await visitor.post("/passkeys/options", {"purpose": purpose})
        assert (await visitor.post(path, body)).reason == "passkey"


@pytest.mark.parametrize("key_said", [{}, {1: 2}, [], 5, {1: 2, 3: -7, -1: 99, -2: b"x", -3: 7}])
async def test_a_passkey_whose_key_is_none_is_refused(
    world: World, visitor: Visitor, key: Authenticator, key_said: object
) -> None:
    """Well-formed CBOR with something else in it, at the setting up or, where that does not look, at the use."""
    await world.connected(visitor)
    asked = await visitor.post("/passkeys/options", {"purpose": "create"})
    made = key.create(asked.json["challenge"])
    head = hashlib.sha256(b"localhost").digest() + b"\x45" + bytes(4) + bytes(16)
    data = head + len(key.credential).to_bytes(2, "big") + key.credential + cbor2.dumps(key_said)
    said = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
    response = {**cast("dict[str, object]", made["response"]), "attestationObject": bytes_to_base64url(said)}
    answer = await visitor.post("/passkeys/create", {"credential": {**made, "response": response}})
    if answer.status == 200:
        answer = await prove(visitor, key)
    assert (answer.status, answer.reason) == (403, "passkey")


async def test_W02_what_a_leaked_key_set_up_ends_with_it(world: World, visitor: Visitor, key: Authenticator) -> None:
    """A thief with cookie and key registers a passkey or another key; the payer's next key ends both."""
    leaked = a_key()
    await world.connected(visitor, usd=5, key=leaked)
    thief = same_browser(visitor, secret=secrets.token_urlsafe(32))
    await thief.read_csrf("/funding")
    assert (await thief.post("/fund/key", {"key": leaked})).status == 200
    assert (await set_up(thief, key)).status == 200
    assert (await prove(thief, key)).status == 200
    assert (await thief.post("/fund/key", {"key": a_key()})).status == 200
    await visitor.read_csrf()
    assert (await visitor.post("/fund/key", {"key": a_key()})).status == 200
    assert (await thief.get("/funding")).status == 404
    again = same_browser(visitor, secret=thief.secret)
    assert (await prove(again, key)).reason == "passkey"
