"""The words a payer says yes to. The server alone composes them, on the screen and in the receipt alike.

`{cap}` stands for the cap until it is chosen, `{until}` for the moment a grant ends: the screen says it by the payer's
own clock, the receipt in UTC.
Rule: a name that an app gave itself is hostile: it is shown as plain text, short, without characters that reverse or
hide what stands beside them.
"""

import time
import unicodedata
from datetime import UTC, datetime

from consent_web.money_text import cap_text
from gateway.payers.app_names import INVISIBLE
from gateway.payers.asked import Asked

# A new wording gets a new version; each receipt names the one that was shown.
TEXT_VERSION = "2026-11"
# What fits on two lines of the popup at its smallest width.
_MOST_NAME = 48
_MOST_LABEL = 80


def app_name(name: str) -> str:
    """Return an app's name as it may be shown."""
    return _tame(name, _MOST_NAME) or "An app without a name"


def user_label(label: str) -> str:
    """Return the account that the app says it asks for, as it may be shown."""
    return _tame(label, _MOST_LABEL)


def parts(asked: Asked, name: str, host: str) -> dict[str, str]:
    """Return the sentences of the consent, in the order of the screen."""
    if asked.is_grant:
        return _grant_parts(asked, name, host)
    if asked.mode == "test":
        sentence = "{app} may run test requests. They never reach a model and cost nothing"
        sentence += "; its test cap is {cap}." if asked.limit_nano is not None else "."
    else:
        sentence = "{app} may run AI requests paid by you, up to {cap} per month."
    label = user_label(asked.label)
    return {
        "sentence": sentence,
        "account": f"For your {name} account {label}." if label else f"{name} did not say for which account.",
        "can": "send prompts through your key to models it chooses.",
        "cannot": "see your key, spend above the cap or see other apps.",
        "stop": f"Stop any time at {host}: spend stops at once.",
        "month": "Rolling 30 days, UTC.",
    }


def grant_button(asked: Asked) -> str:
    """Return what the button that allows a grant says: the sum, if it can cost one."""
    return "Allow test requests" if asked.mode == "test" else f"Allow up to {_sum(asked)}"


def granted(asked: Asked) -> str:
    """Return what is told after the yes."""
    bound = _requests(asked, "test ") if asked.mode == "test" else f"{_requests(asked)}, at most {_sum(asked)}"
    return f"Up to {bound}, until {{until}}."


def _grant_parts(asked: Asked, name: str, host: str) -> dict[str, str]:
    if asked.mode == "test":
        sentence = f"{{app}} may run up to {_requests(asked, 'test ')}, until {{until}}. They cost nothing."
    else:
        sentence = f"{{app}} may run up to {_requests(asked)} paid by you, at most {_sum(asked)}, until {{until}}."
    return {
        "sentence": sentence,
        "account": f"Once only: {name} is not connected to your budget.",
        "can": "send prompts through your key to models it chooses.",
        "cannot": "see your key, send or spend more, or see other apps.",
        "stop": f"End it any time at {host}: it stops at once.",
        "month": "",
    }


def _requests(asked: Asked, kind: str = "") -> str:
    return f"{asked.requests} {kind}request{'' if asked.requests == 1 else 's'}"


def _sum(asked: Asked) -> str:
    return cap_text(asked.limit_nano or 0)


def receipt(asked: Asked, name: str, host: str, cap_nano: int | None) -> str:
    """Return the whole text as it stood on the screen when the payer said yes."""
    cap = "no cap" if cap_nano is None else cap_text(cap_nano)
    said = parts(asked, name, host)
    until = datetime.fromtimestamp(time.time() + asked.life_ms / 1000, UTC).strftime("%-d %b %Y, %H:%M UTC")
    sentence = said["sentence"].replace("{cap}", cap).replace("{until}", until).replace("{app}", name)
    lines = [
        f"{name}, asked by {asked.return_url or asked.origin}.",
        sentence,
        said["account"],
        f"It can {said['can']}",
        f"It cannot {said['cannot']}",
        said["stop"],
    ]
    if said["month"] and cap_nano is not None:
        lines.append(said["month"])
    return " ".join([*lines, f"[{TEXT_VERSION}]"])


def _tame(text: str, most: int) -> str:
    """Drop invisible and direction-changing characters, fold white space, cut to `most` characters."""
    seen = "".join(
        " " if unicodedata.category(character).startswith("Z") else character
        for character in unicodedata.normalize("NFC", text)
        if not unicodedata.category(character).startswith("C") and character not in INVISIBLE
    )
    folded = " ".join(seen.split())
    return folded if len(folded) <= most else folded[: most - 1] + "…"
