"""The consent text. Only the server composes it, for the screen and the receipt alike.

Placeholders: `{cap}` is the cap until one is chosen, `{until}` the end of a grant, which the screen shows in local time
and the receipt in UTC.
Rule: names given by an app are untrusted: they are shown as plain text, shortened, without characters that reverse or
hide their surroundings.
"""

import time
import unicodedata
from datetime import UTC, datetime

from consent_web.money_text import MAX_CAP_NANO, cap_text, usd
from gateway.payers.app_names import INVISIBLE
from gateway.payers.consent_request import ConsentRequest

# A new wording needs a new version; each receipt contains the version shown.
TEXT_VERSION = "2026-11c"
# Fits on two lines of the popup at its smallest width.
_MOST_NAME = 48
_MOST_LABEL = 80
_NO_QUOTES = str.maketrans("", "", '“”„‟"')
# The most names in one sentence; the dashboard lists all.
_MOST_LISTED = 3


def app_name(name: str) -> str:
    """Return an app's name, sanitised for display."""
    return _sanitize(name, _MOST_NAME) or "An app without a name"


def user_label(label: str) -> str:
    """Return the app's label of its user account, sanitised, without quotes that could end the surrounding ones."""
    return _sanitize(label.translate(_NO_QUOTES), _MOST_LABEL)


def parts(requested: ConsentRequest, name: str, host: str) -> dict[str, str]:
    """Return the sentences of the consent text by name. Empty ones are not shown."""
    if requested.is_grant:
        return _grant_parts(requested, name, host)
    label = user_label(requested.label)
    account = f"For your {name} account “{label}”." if label else "For your account there; its name was not given."
    sentences = {
        "want": "",
        "account": account,
        "can": "",
        "cannot": "",
        "stop": f"Stop any time at {host}: it stops at once.",
    }
    if requested.mode == "test":
        limit = "" if requested.limit_nano is None else " Its test cap is {cap} a month."
        # No sentence about caps or keys here, which would suggest that something is paid.
        return {**sentences, "sentence": "{app} may run test requests.", "month": f"They never reach a model.{limit}"}
    amount = "" if requested.limit_nano is None else f" up to {cap_text(requested.limit_nano)} a month of"
    return {
        **sentences,
        "want": f"{{app}} would like to use{amount} your AI budget.",
        "sentence": "{app} may run AI requests paid by you, up to {cap} per month.",
        "can": "send prompts through your key to models it chooses.",
        "cannot": "see your key, spend above the cap or see other apps.",
        "month": "Rolling 30 days, UTC.",
    }


def grant_button(requested: ConsentRequest) -> str:
    """Return the label of a grant's approve button, with the total unless in test mode."""
    return "Allow test requests" if requested.mode == "test" else f"Allow up to {_sum(requested)}"


def granted(requested: ConsentRequest) -> str:
    """Return the sentence shown after a grant's approval."""
    bound = (
        _requests(requested, "test ")
        if requested.mode == "test"
        else f"{_requests(requested)}, at most {_sum(requested)}"
    )
    return f"Up to {bound}, until {{until}}."


def _grant_parts(requested: ConsentRequest, name: str, host: str) -> dict[str, str]:
    sentences = {
        "want": "",
        "account": f"Once only: {name} is not connected to your budget.",
        "can": "",
        "cannot": "",
        "stop": f"End it any time at {host}: it stops at once.",
        "month": "",
    }
    if requested.mode == "test":
        sentence = f"{{app}} may run up to {_requests(requested, 'test ')}, until {{until}}."
        return {**sentences, "sentence": sentence, "month": "They never reach a model."}
    limits = f"up to {_requests(requested)} paid by you, at most {_sum(requested)}"
    return {
        **sentences,
        "want": f"{{app}} would like to use up to {_sum(requested)} of your AI budget, once.",
        "sentence": f"{{app}} may run {limits}, until {{until}}.",
        "can": "send prompts through your key to models it chooses.",
        "cannot": "see your key, send or spend more, or see other apps.",
    }


def _requests(requested: ConsentRequest, kind: str = "") -> str:
    return f"{requested.requests} {kind}request{'' if requested.requests == 1 else 's'}"


def _sum(requested: ConsentRequest) -> str:
    return cap_text(requested.limit_nano or 0)


def receipt(requested: ConsentRequest, name: str, host: str, cap_nano: int | None) -> str:
    """Return the whole consent text as it was on the screen at the approval."""
    cap = "no cap" if cap_nano is None else cap_text(cap_nano)
    sentences = parts(requested, name, host)
    until = datetime.fromtimestamp(time.time() + requested.life_ms / 1000, UTC).strftime("%-d %b %Y, %H:%M UTC")
    # Fill placeholders in our own sentences only: an app's name or label may contain the same braces.
    own = {
        line: sentences[line].replace("{cap}", cap).replace("{until}", until).replace("{app}", name)
        for line in ("sentence", "month")
    }
    lines = [
        f"{name}, asked by {requested.return_url or requested.origin}.",
        own["sentence"],
        sentences["account"],
        sentences["can"] and f"It can {sentences['can']}",
        sentences["cannot"] and f"It cannot {sentences['cannot']}",
        sentences["stop"],
        own["month"],
    ]
    return " ".join(line for line in [*lines, f"[{TEXT_VERSION}]"] if line)


def suggestion(requested: ConsentRequest, name: str) -> str:
    """Return a sentence on the app's suggested cap; empty without one."""
    if requested.limit_nano is None:
        return ""
    most = f", more than the {usd(MAX_CAP_NANO)} that one app may have" if requested.limit_nano > MAX_CAP_NANO else ""
    return f"{cap_text(requested.limit_nano)} was suggested by {name}{most}."


def others(name: str, caps_nano: list[int]) -> str:
    """Return a sentence on the same app's caps for the payer's other accounts there; empty without any."""
    if not caps_nano:
        return ""
    accounts = "another account" if len(caps_nano) == 1 else f"{len(caps_nano)} other accounts"
    return f"{name} may already spend up to {usd(sum(caps_nano))} per month from you, for {accounts}."


def standing(state: str, cap: str, spent: str) -> str:
    """Return a sentence on the present connection of the same account."""
    if state == "paused":
        return f"You paused this app. Allowing lets it spend again, up to the cap you choose here ({spent} spent)."
    return f"Connected now with {cap} per month, {spent} spent. Allowing replaces the cap."


def also_pays(names: list[str]) -> str:
    """Return a sentence on the apps that a new key would pay for immediately; empty without any."""
    if not names:
        return ""
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return f"It pays at once for {', '.join(names[:_MOST_LISTED])}{more} too."


def _sanitize(text: str, most: int) -> str:
    """Remove invisible and direction-changing characters, fold white space, shorten to `most` characters."""
    seen = "".join(
        " " if unicodedata.category(character).startswith("Z") else character
        for character in unicodedata.normalize("NFC", text)
        if not unicodedata.category(character).startswith("C") and character not in INVISIBLE
    )
    folded = " ".join(seen.split())
    return folded if len(folded) <= most else folded[: most - 1] + "…"
