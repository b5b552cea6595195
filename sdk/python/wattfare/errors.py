"""What can go wrong, as typed errors, and how to find them inside what other libraries raise.

Rule: nothing of another library is imported: an error is known by what it carries.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

# How deep one error may be wrapped in others: a retry of a framework of a client is three.
_DEEPEST = 6


class WattfareError(Exception):
    """Something that Wattfare refused, or that failed on the way to it.

    `code` is the contract's word, `status` the HTTP status (0: no server answered), `message` says what to do,
    `retry_after` is in seconds, `details` holds every member of the server's error.
    """

    code: str = "unknown"
    status: int = 0

    def __init__(
        self, message: str, *, code: str | None = None, status: int = 0, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.status = status
        self.details: dict[str, Any] = dict(details or {})

    @property
    def request_id(self) -> str | None:
        """The id for `/v1/usage/{requestId}` and for whoever runs the gateway."""
        found = self.details.get("requestId")
        return found if isinstance(found, str) else None

    @property
    def retry_after(self) -> float | None:
        """Seconds after which asking again may help; None: waiting does not help, or nobody knows."""
        found = self.details.get("retryAfter")
        return found if isinstance(found, int | float) else None

    def to_json(self) -> dict[str, Any]:
        """Return the envelope that a server sends, to pass on with `status or 502`."""
        return {"error": {**self.details, "code": self.code, "message": self.message}}


class WattfareNotConnectedError(WattfareError):
    """This user has no active budget: show the connect button."""

    code = "not_connected"


class WattfareBudgetExceededError(WattfareError):
    """The cap is spent, or cannot carry this request: show what is used, link to the payer's dashboard."""

    code = "budget_exceeded"


class WattfareFundingError(WattfareError):
    """OpenRouter refuses the user's key or its credit: ask the user to connect again."""

    code = "funding_invalid"


class WattfareGrantError(WattfareError):
    """The grant is unknown, expired, used up or over its dollars: ask for another."""

    code = "grant_invalid"


class WattfareRateLimitError(WattfareError):
    """Too many requests: wait `retry_after` seconds."""

    code = "rate_limited"


class WattfareAuthError(WattfareError):
    """The secret key is missing, malformed, wrong or revoked: a fault of the app, not of its user."""

    code = "auth"


class WattfareNetworkError(WattfareError):
    """No server answered: `status` is 0."""

    code = "network"


_KINDS: dict[str, type[WattfareError]] = {kind.code: kind for kind in WattfareError.__subclasses__()}
_NEVER_SENT = {"network"}
# A foreign error with another code, such as OpenAI's own `insufficient_quota`, is not ours.
_SENT = {*_KINDS, "invalid_request", "upstream", "consent_required", "unavailable", "unknown"} - _NEVER_SENT


def from_answer(error: Mapping[str, Any], status: int) -> WattfareError:
    """Return the error of the right kind for the `error` member of an envelope."""
    code = str(error.get("code"))
    kind = _KINDS.get(code, WattfareError)
    return kind(str(error.get("message")), code=code, status=status, details=error)


def to_wattfare_error(error: object) -> WattfareError | None:
    """Return the Wattfare error inside what a library raised or a server answered, or None.

    Looks through `openai.APIStatusError`, `anthropic.APIStatusError`, `httpx.HTTPStatusError`, causes, groups and
    retries (tenacity), and reads decoded and raw JSON bodies.
    """
    return _unwrap(error, 0, _DEEPEST)


def is_budget_exceeded(error: object) -> bool:
    """Whether the cap is spent or cannot carry the request."""
    found = to_wattfare_error(error)
    return found is not None and found.code == "budget_exceeded"


def is_not_connected(error: object) -> bool:
    """Whether connecting mends it: also true of a refused funding key."""
    found = to_wattfare_error(error)
    return found is not None and found.code in {"not_connected", "funding_invalid"}


def _unwrap(error: object, status: int, depth: int) -> WattfareError | None:
    if isinstance(error, WattfareError):
        return error
    if error is None or depth == 0:
        return None
    if isinstance(error, str | bytes):
        return _unwrap(_parsed(error), status, depth - 1)
    own = _status(error) or status
    if isinstance(error, Mapping):
        if error.get("code") in _SENT and isinstance(error.get("message"), str):
            return from_answer(error, own)
        return _unwrap(error.get("error"), own, depth - 1)
    for inner in _inside(error):
        found = _unwrap(inner, own, depth - 1)
        if found is not None:
            return found
    return None


def _inside(error: object) -> Iterator[object]:
    """Yield what may hold the error: the body first, then what it was raised from."""
    yield getattr(error, "body", None)
    yield _body_of(getattr(error, "response", None))
    yield from getattr(error, "exceptions", None) or ()
    attempt = getattr(error, "last_attempt", None)
    if attempt is not None and callable(getattr(attempt, "exception", None)):
        yield attempt.exception()
    if isinstance(error, BaseException):
        yield error.__cause__
        yield error.__context__


def _status(error: object) -> int:
    found = getattr(error, "status_code", None) or getattr(error, "status", None)
    return found if isinstance(found, int) else 0


def _body_of(response: object) -> str | None:
    try:
        text = getattr(response, "text", None)
    except Exception:  # a stream that nobody has read has no text
        return None
    return text if isinstance(text, str) else None


def _parsed(text: str | bytes) -> object:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
