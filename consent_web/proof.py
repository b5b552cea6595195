"""Proofs of ownership that are required before possible spend is raised.

Rule: approving, raising and funding need the secret of the login, not only its cookie.
Rule: exceeding what an app was allowed before needs a fresh proof of ownership, except up to the default cap.
Rule: lowering, pausing and stopping need neither.
"""

import contextlib
from collections.abc import AsyncIterator

from consent_web import waiting
from consent_web.site import Site
from gateway.errors import ConsentRequired, InvalidRequest, Unavailable
from gateway.owners import Owner
from gateway.payers.connections import Connection
from gateway.payers.logins import Visit

UNPROVED = "This browser has not proved that the AI budget is yours."


@contextlib.asynccontextmanager
async def permit_raise(site: Site, visit: Visit, one: Connection, cap_nano: int) -> AsyncIterator[None]:
    """Permit setting the cap of `one` (possibly not connected yet) to `cap_nano` within the block.

    Without a fresh proof, under the wallet's lock: concurrent decisions would each be summed without the others.
    Raises ConsentRequired (`reason`: `proof`), InvalidRequest 409 (`again`: locked), Unavailable.
    """
    if not visit.is_trusted:
        raise proof_required(UNPROVED)
    if await site.logins.is_proved(visit):
        yield
        return
    if not await site.logins.take_turn(visit):
        raise InvalidRequest(
            "Another answer of yours is being carried out. Decide again.", status=409, fields={"reason": "again"}
        )
    try:
        before, now = await _allowed_nano(site, visit, one)
        if before - now + cap_nano > max(site.default_cap_nano, before):
            raise proof_required("That is more than you have allowed this app before.")
        yield
    finally:
        # If the release fails, the lock expires.
        with contextlib.suppress(Unavailable):
            await site.logins.end_turn(visit)


def proof_required(why: str) -> ConsentRequired:
    """Return the error that asks for a proof."""
    refused = ConsentRequired(f"{why} Prove it first: with OpenRouter, or with the key you first paid with.")
    refused.fields["reason"] = "proof"
    return refused


async def _allowed_nano(site: Site, visit: Visit, wanted: Connection) -> tuple[int, int]:
    """Return the sum of an app's present caps in nano-USD, and the present cap of `wanted`.

    The caps of all users of the app are summed, approvals that await redemption included, so that an app cannot evade
    the limit by requesting for one user after another. Grants are summed separately, until they end.
    """
    caps: dict[Owner, int] = {}
    for budget in await site.wallets.budgets(visit):
        if _is_alike(budget.owner, wanted.budget.owner):
            one = await site.connections.find(budget)
            if one.is_living and one.wallet in visit.wallet_ids:
                caps[budget.owner] = one.standing.cap_nano or 0
    for attempt in await waiting.held(site, visit):
        asker = attempt.requested.budget.owner
        if _is_alike(asker, wanted.budget.owner):
            caps[asker] = max(caps.get(asker, 0), int(attempt.decision["cap_nano"] or 0))
    return sum(caps.values()), caps.get(wanted.budget.owner, 0)


def _is_alike(one: Owner, wanted: Owner) -> bool:
    """Return whether both are of the same app and kind, in live mode."""
    return (one.mode, one.app_id, one.kind) == ("live", wanted.app_id, wanted.kind)
