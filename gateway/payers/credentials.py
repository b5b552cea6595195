"""Error messages for a credential sent in the wrong place: they name its kind and say what belongs there.

Rule: no part of a credential is repeated in a message.
"""

import re

_PUBLISHABLE = re.compile(r"pk_(live|test)_(app[a-z2-7]{16})")
_OF_BACKEND = "a secret key, which stays with your backend"
_OF_PAGE = "a session token, which is for your pages and makes no model calls"
_KINDS = {
    "pk_": "a publishable key, which names the app on its pages and unlocks nothing",
    "sk_live_": _OF_BACKEND,
    "sk_test_": _OF_BACKEND,
    "gr_": "a grant token, which goes into the header x-wattfare-grant",
    "sk-or-": "an OpenRouter key, which the payer alone connects",
    "eyJ": _OF_PAGE,  # every JWT starts with {" in base64
}


def no_secret_key(authorization: str | None) -> str:
    """Return the error message for an `Authorization` that is no `Bearer sk_{mode}_{appId}_{secret}`."""
    kind = _kind(authorization)
    if kind in (None, _OF_BACKEND):
        return "Send your secret key as 'Authorization: Bearer sk_…'."
    return f"This is {kind}. Here your backend sends the app's secret key: 'Authorization: Bearer sk_…'."


def no_session_token(authorization: str | None) -> str:
    """Return the error message for an `Authorization` that is no `Bearer` with a valid session token."""
    kind = _kind(authorization)
    if kind in (None, _OF_PAGE):
        return "This session token is not valid or has expired. Ask your backend for a new one."
    return f"This is {kind}. Here a page sends a session token, which your backend gets from POST /v1/sessions."


def publishable(credential: str) -> tuple[str, str] | None:
    """Return the mode and app id of a publishable key, which authenticates nobody; None for anything else."""
    found = _PUBLISHABLE.fullmatch(credential)
    return (found[1], found[2]) if found else None


def _kind(authorization: str | None) -> str | None:
    credential = (authorization or "").rpartition(" ")[2]
    return next((kind for start, kind in _KINDS.items() if credential.startswith(start)), None)
