"""A budget's consent history as sentences: what was approved, changed and ended, when, and by whom."""

from consent_web.account import Connected
from consent_web.money_text import cap_text
from consent_web.site import Site

_WHO = {"payer": "You", "app": "The app", "operator": "The operator"}
_WORDS = {
    "paused": "{who} paused it.",
    "resumed": "{who} resumed it.",
    "revoked": "{who} stopped it.",
    "closed": "{who} closed the app, which stopped it.",
    "funded": "{who} gave it another key to pay with.",
    "unfunded": "{who} took away the key that paid for it.",
}


async def read(site: Site, one: Connected) -> list[dict[str, str]]:
    """Return the receipts, newest first, each with its sentence in `words`. Raises Unavailable."""
    return [{**receipt, "words": words(receipt)} for receipt in await site.connections.receipts(one.budget)]


def words(receipt: dict[str, str]) -> str:
    """Return a receipt as a sentence: the exact text that the payer approved, or what was changed by whom."""
    event, who = receipt["event"], _WHO.get(receipt["by"], _WHO["payer"])
    if event == "approved":
        return receipt["text"] or f"{who} connected it with {_cap(receipt['cap_nano'])}."
    if event == "cap":
        before = f" from {_cap(receipt['before_nano'])}" if receipt["before_nano"] else ""
        return f"{who} changed the cap{before} to {_cap(receipt['cap_nano'])}."
    return _WORDS.get(event, event).format(who=who)


def _cap(nano: str) -> str:
    return cap_text(int(nano)) if nano else "no cap"
