"""The popup's JSON for an attempt.

Rule: all texts and amounts are composed on the server; the page's script only lays them out.
"""

import time

from consent_web import account, passkeys, texts
from consent_web.money_text import (
    MAX_CAP_NANO,
    NANO_PER_CENT,
    PRESETS_NANO,
    cap_range,
    cap_text,
    least_cap_nano,
    usd,
)
from consent_web.openrouter import KeyFacts
from consent_web.site import Site
from gateway.errors import FundingInvalid, UpstreamError
from gateway.money import NANO_PER_USD, usd_from_nano
from gateway.payers.connections import Connection
from gateway.payers.consent_request import Attempt, ConsentRequest
from gateway.payers.logins import Visit

_LOW_NANO = NANO_PER_USD  # one conversation may cost a dollar


async def attempt(site: Site, shown: Attempt, name: str, visit: Visit | None) -> dict[str, object]:
    """Return the popup's JSON for an attempt. Raises Unavailable."""
    requested = shown.requested
    now = await site.connections.find(requested.budget)
    mine = await account.connections(site, visit) if visit is not None and requested.mode == "live" else []
    paid = [one for one in mine if one.is_living and not one.is_test and one.budget != requested.budget]
    same_app = [one.standing.cap_nano or 0 for one in paid if one.budget.app_id == requested.app_id]
    body: dict[str, object] = {
        "id": shown.attempt_id,
        "nonce": requested.nonce,
        "state": shown.state,
        **left(shown),
        "mode": requested.mode,
        "app": {"name": name, "initial": name[:1].upper()},
        "origin": requested.origin,
        "isRedirect": bool(requested.challenge),
        "returnUrl": requested.return_url,
        "text": texts.parts(requested, name, site.host),
        "cap": None if requested.is_grant else cap_choice(requested, now, name, site.default_cap_nano),
        "grant": _grant(requested),
        "current": _current(now),
        "others": texts.others(name, same_app),
        "alsoPays": texts.also_pays(sorted({one.name for one in paid})),
        "fault": shown.fault,
        "hasPasskey": requested.mode == "live" and await passkeys.are_set_up(site, visit),
        "funding": None,
        "isLostByLeaving": False,
    }
    # A cookie alone may have been planted by an attacker, whose funding must not be offered to this person.
    if requested.mode == "live" and visit is not None and visit.is_trusted:
        body["funding"] = await funding(site, visit)
        body["isLostByLeaving"] = await account.is_lost_by_leaving(site, visit)
    return body


def _grant(requested: ConsentRequest) -> dict[str, object] | None:
    """Return a grant's lifetime and labels; None for a connection."""
    if not requested.is_grant:
        return None
    return {
        "lifeSeconds": requested.life_ms // 1000,
        "button": texts.grant_button(requested),
        "said": texts.granted(requested),
    }


def left(shown: Attempt) -> dict[str, object]:
    """Return the remaining time of an attempt, and whether it may be extended."""
    return {"leftSeconds": max(0, shown.expires_ms / 1000 - time.time()), "mayExtend": shown.may_extend}


def cap_choice(requested: ConsentRequest, now: Connection, name: str, default_nano: int) -> dict[str, object] | None:
    """Return the choices of the cap; None when test mode needs none.

    The present cap is preselected; else the app's suggestion, at most the default cap.
    """
    limit = None if requested.limit_nano is None else min(requested.limit_nano, MAX_CAP_NANO)
    if requested.mode == "test":
        return None if limit is None else {"chosen": _choice(limit), "choices": []}
    cap_nano = now.standing.cap_nano if now.is_living else None
    amounts = sorted({*PRESETS_NANO, default_nano, *([limit] if limit is not None else [])})
    chosen = cap_nano if cap_nano is not None else min(limit or default_nano, default_nano)
    least = least_cap_nano(limit)
    return {
        "chosen": _choice(chosen),
        "choices": [_choice(nano) for nano in amounts],
        "suggestion": texts.suggestion(requested, name),
        "leastUsd": usd_from_nano(least),
        "mostUsd": usd_from_nano(MAX_CAP_NANO),
        "range": f"From {cap_range(limit, 'to')}, in US dollars.",
    }


def _choice(nano: int) -> dict[str, object]:
    whole = nano % NANO_PER_USD == 0
    return {
        "usd": usd_from_nano(nano),
        "text": cap_text(nano),
        "short": f"${nano // NANO_PER_USD:,}" if whole else cap_text(nano),
    }


def _current(now: Connection) -> dict[str, object] | None:
    if not now.is_living:
        return None
    standing, cap = now.standing, now.standing.cap_nano
    capped = "no cap" if cap is None else cap_text(cap)
    return {"cap": capped, "text": texts.standing(standing.state, capped, usd(standing.spent_nano))}


async def funding(site: Site, visit: Visit) -> dict[str, object] | None:
    """Return the wallet's funding and its key's remaining limit; None without funding."""
    held = await site.wallets.funding(visit.wallet_id)
    key = await site.wallets.funding_key(visit.wallet_id) if held else None
    if held is None or key is None:
        return None
    shown: dict[str, object] = {"last4": held.last4, "source": held.source, "works": True}
    shown |= {"left": "", "leftUsd": None, "warning": ""}
    try:
        facts = await site.openrouter.recent_facts(key)
    except FundingInvalid:
        return {**shown, "works": False, "warning": "refused"}
    except UpstreamError:
        return {**shown, "warning": "unchecked"}
    return {**shown, **describe(facts)}


def describe(facts: KeyFacts) -> dict[str, object]:
    """Return `left` (text), `leftUsd` (None: no limit), `warning` (unlimited, no_credit, low, free, or empty)."""
    left = facts.remaining_nano
    period = {"daily": " today", "weekly": " this week", "monthly": " this month"}.get(facts.reset, "")
    text = "" if left is None else f"{usd(left)} left{period}"
    warning = "unlimited" if facts.limit_nano is None else ""
    if left is not None and left < NANO_PER_CENT:
        warning = "no_credit"
    elif facts.is_free_tier:
        warning = "free"
    elif left is not None and left < _LOW_NANO:
        warning = "low"
    return {"left": text, "leftUsd": None if left is None else usd_from_nano(left), "warning": warning}


async def key_limit_usd(site: Site, visit: Visit | None, requested: ConsentRequest | None) -> int:
    """Return the key limit to propose at OpenRouter, in whole USD: the sum of the payer's caps, the new one included.

    It is a second barrier: a key without a limit would be protected by our caps only.
    """
    mine = await account.connections(site, visit) if visit is not None else []
    caps = [one.standing.cap_nano or 0 for one in mine if one.is_living and not one.is_test]
    wished = site.default_cap_nano if requested is None or requested.limit_nano is None else requested.limit_nano
    new = 0 if requested is None and caps else max(site.default_cap_nano, min(wished, MAX_CAP_NANO))
    return -(-(sum(caps) + new) // NANO_PER_USD)
