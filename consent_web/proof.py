"""What a browser must bring before more may be spent than its payer allowed before.

Rule: a cookie alone adds nothing: approving, raising and funding need the secret that only our pages can read.
Rule: going beyond what was allowed before needs a fresh proof of who pays; an app's first caps up to the default need
none.
Rule: lowering, pausing and stopping need neither.
"""

from consent_web import waiting
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
    refused = ConsentRequired(f"{why} Prove it first: with OpenRouter, or with the key you first paid with.")
    refused.fields["reason"] = "proof"
    return refused


async def _allowed(site: Site, visit: Visit, wanted: Connection) -> tuple[int, int]:
    """Return what the payer allows an app by now, in nano-USD: in all, and for the connection that is `wanted`.

    An app that asks for one user after the other adds up, be it connected or waiting for its page to come back. A grant
    ends by itself: it stands alone.
    """
    owner = wanted.budget.owner
    if not isinstance(owner, User):
        return 0, 0
    caps: dict[User, int] = {}
    for budget in await site.wallets.budgets(visit):
        if isinstance(budget.owner, User) and _is_of(budget.owner, owner.app_id):
            one = await site.connections.find(budget)
            if one.is_living and one.wallet in visit.wallet_ids:
                caps[budget.owner] = one.standing.cap_nano or 0
    for attempt in await waiting.held(site, visit):
        asker = attempt.asked.budget.owner
        if isinstance(asker, User) and _is_of(asker, owner.app_id):
            caps[asker] = max(caps.get(asker, 0), int(attempt.decision["cap_nano"] or 0))
    return sum(caps.values()), caps.get(owner, 0)


def _is_of(user: User, app_id: str) -> bool:
    """Tell whether this is a user of an app whose requests cost something."""
    return (user.mode, user.app_id) == ("live", app_id)
