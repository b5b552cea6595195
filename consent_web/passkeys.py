"""Passkeys: set up on the dashboard, and used instead of OpenRouter or the key where a proof is asked for.

Rule: offered, never demanded. Setting one up needs a proof of the last ten minutes: it proves for good.
"""

import time
from dataclasses import replace
from urllib.parse import urlsplit

import orjson
import webauthn
from aiohttp import web
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from consent_web import account, guard, proof
from consent_web.site import SITE, Site
from gateway.errors import InvalidRequest
from gateway.payers.logins import Visit
from gateway.payers.origins import is_address
from gateway.payers.passkeys import MOST, Passkey

_CREATE, _GET = "create", "get"
_VERIFIED = UserVerificationRequirement.REQUIRED
# What webauthn raises beside its own errors for an answer whose CBOR is well-formed and holds something else.
_NO_PASSKEY = (WebAuthnException, ValueError, TypeError, LookupError, AttributeError)


def routes() -> list[web.RouteDef]:
    """Return the paths of passkeys."""
    return [
        web.get("/passkeys", show),
        web.post("/passkeys/options", options),
        web.post("/passkeys/create", create),
        web.post("/passkeys/get", prove),
        web.post("/passkeys/{credential}/remove", remove),
    ]


def is_possible(site: Site) -> bool:
    """Tell whether browsers make passkeys for this site: for a host name, never for an address."""
    return not is_address(site.origin)


async def are_set_up(site: Site, visit: Visit | None) -> bool:
    """Tell whether the wallet of a visit can be proved by a passkey. Raises Unavailable."""
    return visit is not None and is_possible(site) and bool(await site.passkeys.all(visit))


async def show(request: web.Request) -> web.Response:
    """Answer `GET /passkeys`."""
    site, visit = request.app[SITE], await account.owner(request)
    shown = {
        "csrf": guard.known_browser(request).csrf,
        "passkeys": await site.passkeys.all(visit),
        "is_possible": is_possible(site),
    }
    return guard.page(request, "passkeys.html", shown)


async def options(request: web.Request) -> web.Response:
    """Answer `POST /passkeys/options`: `{purpose: create|get}` → what the browser's authenticator is asked."""
    site = request.app[SITE]
    _, body = await guard.json_post(request)
    visit = await account.owner(request)
    known = [
        PublicKeyCredentialDescriptor(base64url_to_bytes(one.credential_id)) for one in await site.passkeys.all(visit)
    ]
    if body.get("purpose") == _CREATE:
        await _may_set_up(site, visit, len(known))
        asked = webauthn.options_to_json(
            webauthn.generate_registration_options(
                rp_id=_host(site),
                rp_name=site.host,
                user_name=f"AI budget ({time.strftime('%b %Y', time.gmtime())})",
                challenge=await site.passkeys.challenge(visit, _CREATE),
                authenticator_selection=AuthenticatorSelectionCriteria(
                    resident_key=ResidentKeyRequirement.PREFERRED, user_verification=_VERIFIED
                ),
                exclude_credentials=known,
            )
        )
    elif not known:
        raise _refused()
    else:
        asked = webauthn.options_to_json(
            webauthn.generate_authentication_options(
                rp_id=_host(site),
                challenge=await site.passkeys.challenge(visit, _GET),
                allow_credentials=known,
                user_verification=_VERIFIED,
            )
        )
    return guard.json_response(orjson.loads(asked))


async def create(request: web.Request) -> web.Response:
    """Answer `POST /passkeys/create`: `{credential}` → `{}`."""
    site = request.app[SITE]
    _, body = await guard.json_post(request)
    visit = await account.owner(request)
    await _may_set_up(site, visit, len(await site.passkeys.all(visit)))
    challenge = await site.passkeys.take_challenge(visit, _CREATE)
    try:
        made = webauthn.verify_registration_response(
            credential=_credential(body),
            expected_challenge=challenge or b"",
            expected_rp_id=_host(site),
            expected_origin=site.origin,
            require_user_verification=True,
        )
    except _NO_PASSKEY:
        raise _refused() from None
    if challenge is None:
        raise _refused()
    passkey = Passkey(
        bytes_to_base64url(made.credential_id),
        bytes_to_base64url(made.credential_public_key),
        made.sign_count,
        guard.guest(request).label,
        time.time_ns() // 1_000_000,
        await site.logins.bound_to(visit),
    )
    await site.passkeys.put(visit, passkey)
    return guard.json_response({})


async def prove(request: web.Request) -> web.Response:
    """Answer `POST /passkeys/get`: `{credential}` → `{}`. A browser that lost its secret is let in again by it."""
    site = request.app[SITE]
    _, body = await guard.json_post(request)
    visit = await account.owner(request)
    if not guard.guest(request).secret_sha256:
        raise proof.needed("This page did not prove that it is ours.")
    used = await _used(site, visit, _credential(body))
    await site.passkeys.put(visit, used)
    if not visit.is_trusted:
        visit = await site.logins.begin(
            visit.wallet_id, guard.guest(request), instead=visit, key_sha256=used.key_sha256
        )
        guard.remember(request, visit)
    await site.logins.prove(visit)
    return guard.json_response({})


async def remove(request: web.Request) -> web.StreamResponse:
    """Answer `POST /passkeys/{credential}/remove`."""
    site = request.app[SITE]
    await guard.form_post(request)
    visit = await account.owner(request)
    if not visit.is_trusted:
        raise proof.needed(proof.UNPROVED)
    await site.passkeys.remove(visit, request.match_info["credential"])
    return web.Response(status=303, headers={"Location": "/passkeys"})


async def _used(site: Site, visit: Visit, credential: dict[str, object]) -> Passkey:
    """Return the passkey that answered the challenge of a visit. Raises InvalidRequest."""
    known = next((one for one in await site.passkeys.all(visit) if one.credential_id == credential.get("id")), None)
    challenge = await site.passkeys.take_challenge(visit, _GET)
    if known is None or challenge is None:
        raise _refused()
    try:
        answered = webauthn.verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=_host(site),
            expected_origin=site.origin,
            credential_public_key=base64url_to_bytes(known.public_key),
            credential_current_sign_count=known.sign_count,
            require_user_verification=True,
        )
    except _NO_PASSKEY:
        raise _refused() from None
    return replace(known, sign_count=answered.new_sign_count)


async def _may_set_up(site: Site, visit: Visit, known: int) -> None:
    """Raise unless a visit may set up one more passkey: ConsentRequired (`proof`), InvalidRequest."""
    if not is_possible(site):
        raise InvalidRequest("Browsers make passkeys for host names alone, and this site is at an address.")
    if not visit.is_trusted or not await site.logins.is_proved(visit):
        raise proof.needed("A passkey can prove for good that the AI budget is yours.")
    if known >= MOST:
        raise InvalidRequest(f"There are {MOST} passkeys already. Remove one first.", status=409)


def _credential(body: dict[str, object]) -> dict[str, object]:
    credential = body.get("credential")
    if not isinstance(credential, dict):
        raise _refused()
    return credential


def _refused() -> InvalidRequest:
    return InvalidRequest(
        "The passkey was not accepted. Try again, or prove it another way.", status=403, fields={"reason": "passkey"}
    )


def _host(site: Site) -> str:
    return urlsplit(site.origin).hostname or ""
