"""What a browser must bring before more may be spent than its payer allowed before.

Rule: a cookie alone adds nothing: approving, raising and funding need the secret that only our pages can read.
Rule: going beyond what was allowed before needs a fresh proof of who pays; an app's first caps up to the default need
none.
Rule: lowering, pausing and stopping need neither.
"""

from consent_web.site import Site
from gateway.errors import ConsentRequired
from gateway.owners import User
from gateway.payers.connections import Connection
from gateway.payers.stays import Visit

UNPROVED = "This browser has not proved that the AI budget is yours."


async def check(site: Site, visit: Visit, one: Connection, cap_nano: int) -> None:
    """Let a payer allow `cap_nano` for a connection, which may be none yet.

    Raises ConsentRequired (its `reason` is `proof`), Unavailable.
    """
    if not visit.is_trusted:
        raise needed(UNPROVED)
    if await site.stays.is_proved(visit):
        return
    before, now = await _allowed(site, visit, one)
    if before - now + cap_nano > max(site.default_cap_nano, before):
        raise needed("That is more than you have allowed this app before.")


def needed(why: str) -> ConsentRequired:
    """Return the refusal that asks for a proof."""
    refused = ConsentRequired(f"{why} Prove it first: with OpenRouter, or with the key that pays.")
    refused.fields["reason"] = "proof"
    return refused


async def _allowed(site: Site, visit: Visit, wanted: Connection) -> tuple[int, int]:
    """Return what the payer allows an app by now, in nano-USD: in all, and for the connection that is `wanted`.

    An app that asks for one user after the other adds up. A grant ends by itself: it stands alone.
    """
    total = own = 0
    for listed in await site.wallets.budgets(visit) if isinstance(wanted.budget.owner, User) else ():
        same = (listed.mode, listed.app_id) == ("live", wanted.budget.app_id)
        if not same or not isinstance(listed.owner, User):
            continue
        one = await site.connections.find(listed)
        if one.is_living and one.wallet in visit.wallet_ids:
            cap_nano = one.standing.cap_nano or 0
            total += cap_nano
            own += cap_nano if listed == wanted.budget else 0
    return total, own
