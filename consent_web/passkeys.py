"""Passkeys: registered on the dashboard, and accepted as a proof of ownership like OpenRouter or the key.

Rule: a passkey is optional. Registering one needs a proof of the last ten minutes, since it is a permanent credential.
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
# webauthn raises the built-in ones for well-formed CBOR of an unexpected structure.
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
    """Return whether browsers create passkeys for this site: only for host names, not for IP addresses."""
    return not is_address(site.origin)


async def are_set_up(site: Site, visit: Visit | None) -> bool:
    """Return whether the visit's wallet has a usable passkey. Raises Unavailable."""
    return visit is not None and is_possible(site) and bool(await site.passkeys.all(visit))


async def show(request: web.Request) -> web.Response:
    """Answer `GET /passkeys`."""
    site, visit = request.app[SITE], await account.owner(request)
    shown = {
        "csrf": guard.ensure_browser(request).csrf,
        "passkeys": await site.passkeys.all(visit),
        "is_possible": is_possible(site),
    }
    return guard.page(request, "passkeys.html", shown)


async def options(request: web.Request) -> web.Response:
    """Answer `POST /passkeys/options`: `{purpose: create|get}` → the WebAuthn options with a new challenge."""
    site = request.app[SITE]
    _, body = await guard.json_post(request)
    visit = await account.owner(request)
    known = [
        PublicKeyCredentialDescriptor(base64url_to_bytes(one.credential_id)) for one in await site.passkeys.all(visit)
    ]
    if body.get("purpose") == _CREATE:
        await _may_set_up(site, visit, len(known))
        encoded = webauthn.options_to_json(
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
        encoded = webauthn.options_to_json(
            webauthn.generate_authentication_options(
                rp_id=_host(site),
                challenge=await site.passkeys.challenge(visit, _GET),
                allow_credentials=known,
                user_verification=_VERIFIED,
            )
        )
    return guard.json_response(orjson.loads(encoded))


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
    """Answer `POST /passkeys/get`: `{credential}` → `{}`. It also logs in a browser that lost its secret."""
    site = request.app[SITE]
    _, body = await guard.json_post(request)
    visit = await account.owner(request)
    if not guard.guest(request).secret_sha256:
        raise proof.proof_required("This page did not prove that it is ours.")
    used = await _used(site, visit, _credential(body))
    await site.passkeys.put(visit, used)
    if not visit.is_trusted:
        visit = await site.logins.begin(
            visit.wallet_id, guard.guest(request), instead=visit, key_sha256=used.key_sha256
        )
        guard.set_wallet_cookie(request, visit)
    await site.logins.prove(visit)
    return guard.json_response({})


async def remove(request: web.Request) -> web.StreamResponse:
    """Answer `POST /passkeys/{credential}/remove`."""
    site = request.app[SITE]
    await guard.form_post(request)
    visit = await account.owner(request)
    if not visit.is_trusted:
        raise proof.proof_required(proof.UNPROVED)
    await site.passkeys.remove(visit, request.match_info["credential"])
    return web.Response(status=303, headers={"Location": "/passkeys"})


async def _used(site: Site, visit: Visit, credential: dict[str, object]) -> Passkey:
    """Return the verified passkey, with its new sign count. Raises InvalidRequest."""
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
    """Raise unless a visit may register another passkey: ConsentRequired (`proof`), InvalidRequest."""
    if not is_possible(site):
        raise InvalidRequest("Browsers make passkeys for host names alone, and this site is at an address.")
    if not visit.is_trusted or not await site.logins.is_proved(visit):
        raise proof.proof_required("A passkey can prove for good that the AI budget is yours.")
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
