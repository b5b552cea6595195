"""What a browser must bring before more may be spent than its payer allowed before.

Rule: a cookie alone adds nothing: approving, raising and funding need the secret that only our pages can read.
Rule: going beyond what was allowed before needs a fresh proof of who pays; an app's first caps up to the default need
none.
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
async def given(site: Site, visit: Visit, one: Connection, cap_nano: int) -> AsyncIterator[None]:
    """Let a payer allow `cap_nano` for a connection, which may be none yet, within the block.

    Without a fresh proof one at a time: of several at once each would be counted without the others.
    Raises ConsentRequired (its `reason` is `proof`), InvalidRequest 409 (`again`), Unavailable.
    """
    if not visit.is_trusted:
        raise needed(UNPROVED)
    if await site.logins.is_proved(visit):
        yield
        return
    if not await site.logins.take_turn(visit):
        raise InvalidRequest(
            "Another answer of yours is being carried out. Decide again.", status=409, fields={"reason": "again"}
        )
    try:
        before, now = await _allowed(site, visit, one)
        if before - now + cap_nano > max(site.default_cap_nano, before):
            raise needed("That is more than you have allowed this app before.")
        yield
    finally:
        # It goes by itself.
        with contextlib.suppress(Unavailable):
            await site.logins.end_turn(visit)


def needed(why: str) -> ConsentRequired:
    """Return the refusal that asks for a proof."""
    refused = ConsentRequired(f"{why} Prove it first: with OpenRouter, or with the key you first paid with.")
    refused.fields["reason"] = "proof"
    return refused


async def _allowed(site: Site, visit: Visit, wanted: Connection) -> tuple[int, int]:
    """Return what the payer allows an app by now, in nano-USD: in all, and for the one that is `wanted`.

    An app that asks for one user after the other adds up, be it connected or waiting for its page to come back. So do
    its grants, apart from those, until they end.
    """
    caps: dict[Owner, int] = {}
    for budget in await site.wallets.budgets(visit):
        if _is_alike(budget.owner, wanted.budget.owner):
            one = await site.connections.find(budget)
            if one.is_living and one.wallet in visit.wallet_ids:
                caps[budget.owner] = one.standing.cap_nano or 0
    for attempt in await waiting.held(site, visit):
        asker = attempt.asked.budget.owner
        if _is_alike(asker, wanted.budget.owner):
            caps[asker] = max(caps.get(asker, 0), int(attempt.decision["cap_nano"] or 0))
    return sum(caps.values()), caps.get(wanted.budget.owner, 0)


def _is_alike(one: Owner, wanted: Owner) -> bool:
    """Tell whether this is of the same app and kind, and costs something."""
    return (one.mode, one.app_id, one.kind) == ("live", wanted.app_id, wanted.kind)
