"""An attempt as JSON for the popup.

Rule: every word and amount is composed here; the page's script only lays them out.
"""

import time

from consent_web import texts
from consent_web.money_text import (
    DEFAULT_CAP_NANO,
    MAX_CAP_NANO,
    NANO_PER_CENT,
    PRESETS_NANO,
    cap_range,
    cap_text,
    exact,
    least_cap_nano,
    usd,
)
from consent_web.openrouter import KeyFacts
from consent_web.site import Site
from gateway.errors import FundingInvalid, UpstreamError
from gateway.money import NANO_PER_USD, usd_from_nano
from gateway.payers.asked import Asked, Attempt
from gateway.payers.connections import Connection
from gateway.payers.stays import Visit

_LOW_NANO = NANO_PER_USD  # a dollar may be gone within one conversation


async def attempt(site: Site, shown: Attempt, name: str, visit: Visit | None) -> dict[str, object]:
    """Return the popup's JSON for an attempt. Raises Unavailable."""
    asked = shown.asked
    now = await site.connections.find(asked.budget)
    body: dict[str, object] = {
        "id": shown.attempt_id,
        "nonce": asked.nonce,
        "state": shown.state,
        **left(shown),
        "mode": asked.mode,
        "app": {"name": name, "initial": name[:1].upper()},
        "origin": asked.origin,
        "isRedirect": bool(asked.challenge),
        "returnUrl": asked.return_url,
        "text": texts.parts(asked, name, site.host),
        "cap": None if asked.is_grant else cap_choice(asked, now),
        "grant": _grant(asked),
        "current": _current(now),
        "fault": shown.fault,
        "funding": None,
    }
    # A cookie alone may have been planted: what it pays with is not this person's to allow.
    if asked.mode == "live" and visit is not None and visit.is_trusted:
        body["funding"] = await funding(site, visit)
    return body


def _grant(asked: Asked) -> dict[str, object] | None:
    """Return what a grant's screen needs beside its text; None for a connection."""
    if not asked.is_grant:
        return None
    return {"lifeSeconds": asked.life_ms // 1000, "button": texts.grant_button(asked), "said": texts.granted(asked)}


def left(shown: Attempt) -> dict[str, object]:
    """Return how long an attempt may still be decided, and whether it can get more time."""
    return {"leftSeconds": max(0, shown.expires_ms / 1000 - time.time()), "mayExtend": shown.may_extend}


def cap_choice(asked: Asked, now: Connection) -> dict[str, object] | None:
    """Return what the cap may be, amounts in whole USD or cents; None when test mode asks for none."""
    limit = None if asked.limit_nano is None else min(asked.limit_nano, MAX_CAP_NANO)
    if asked.mode == "test":
        return None if limit is None else {"chosen": _choice(limit, suggested=True), "choices": []}
    cap_nano = now.standing.cap_nano if now.is_living else None
    amounts = sorted({*PRESETS_NANO, *([limit] if limit is not None else [])})
    chosen = cap_nano if cap_nano is not None else limit if limit is not None else DEFAULT_CAP_NANO
    least = least_cap_nano(limit)
    return {
        "chosen": _choice(chosen, suggested=chosen == limit),
        "choices": [_choice(nano, suggested=nano == limit) for nano in amounts],
        "leastUsd": usd_from_nano(least),
        "mostUsd": usd_from_nano(MAX_CAP_NANO),
        "range": f"From {cap_range(limit, 'to')}, in US dollars.",
    }


def _choice(nano: int, *, suggested: bool) -> dict[str, object]:
    whole = nano % NANO_PER_USD == 0
    return {
        "usd": usd_from_nano(nano),
        "text": cap_text(nano),
        "short": f"${nano // NANO_PER_USD:,}" if whole else cap_text(nano),
        "suggested": suggested,
    }


def _current(now: Connection) -> dict[str, object] | None:
    if not now.is_living:
        return None
    standing, cap = now.standing, now.standing.cap_nano
    return {
        "state": standing.state,
        "cap": "no cap" if cap is None else cap_text(cap),
        "spent": usd(standing.spent_nano),
        "spentExact": exact(standing.spent_nano),
    }


async def funding(site: Site, visit: Visit) -> dict[str, object] | None:
    """Return how this browser's wallet pays and what its key has left; None when it has no funding."""
    held = await site.wallets.funding(visit.wallet_id)
    key = await site.wallets.funding_key(visit.wallet_id) if held else None
    if held is None or key is None:
        return None
    shown: dict[str, object] = {"last4": held.last4, "source": held.source, "left": "", "warning": "", "works": True}
    try:
        facts = await site.openrouter.recent_facts(key)
    except FundingInvalid:
        return {**shown, "works": False, "warning": "refused"}
    except UpstreamError:
        return {**shown, "warning": "unchecked"}
    return {**shown, **describe(facts)}


def describe(facts: KeyFacts) -> dict[str, object]:
    """Return `left` for a person and `warning`: empty, unlimited, no_credit, low, free."""
    left = facts.remaining_nano
    period = {"daily": " today", "weekly": " this week", "monthly": " this month"}.get(facts.reset, "")
    text = "" if left is None else f"{usd(left)} left{period}"
    if left is not None and left < NANO_PER_CENT:
        return {"left": text, "warning": "no_credit"}
    if facts.is_free_tier:
        return {"left": text, "warning": "free"}
    if left is not None and left < _LOW_NANO:
        return {"left": text, "warning": "low"}
    return {"left": text, "warning": "unlimited" if facts.limit_nano is None else ""}
