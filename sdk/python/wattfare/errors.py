"""Typed errors, and how to find them inside exceptions of other libraries.

Rule: no other library is imported: its exceptions are recognised by their attributes.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

# The greatest nesting of exceptions that is searched; a framework's retry of a client's error has depth three.
_DEEPEST = 6


class WattfareError(Exception):
    """A call that Wattfare refused, or that failed before an answer.

    `code`: the API's error code; `status`: the HTTP status (0: no answer); `message`: what to do; `retry_after`:
    seconds; `details`: all members of the server's error object.
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
        """The request id, for `/v1/usage/{requestId}` and for support."""
        found = self.details.get("requestId")
        return found if isinstance(found, str) else None

    @property
    def retry_after(self) -> float | None:
        """Seconds after which a retry may succeed; None: unknown, or a retry does not help."""
        found = self.details.get("retryAfter")
        return found if isinstance(found, int | float) else None

    def to_json(self) -> dict[str, Any]:
        """Return the error envelope, for your own response with the status `status or 502`."""
        return {"error": {**self.details, "code": self.code, "message": self.message}}


class WattfareNotConnectedError(WattfareError):
    """This user has no active budget: show the connect button."""

    code = "not_connected"


class WattfareBudgetExceededError(WattfareError):
    """The cap is spent or too low for this request: show the usage, and link to the payer's dashboard."""

    code = "budget_exceeded"


class WattfareFundingError(WattfareError):
    """OpenRouter refused the user's key, or its credit is too low: ask the user to connect again."""

    code = "funding_invalid"


class WattfareGrantError(WattfareError):
    """The grant is unknown, expired, used up or over its cap: request another one."""

    code = "grant_invalid"


class WattfareRateLimitError(WattfareError):
    """Too many requests: wait `retry_after` seconds."""

    code = "rate_limited"


class WattfareAuthError(WattfareError):
    """The secret key is missing, malformed, wrong or revoked: the app's fault, not its user's."""

    code = "auth"


class WattfareNetworkError(WattfareError):
    """No server answered: `status` is 0."""

    code = "network"


_KINDS: dict[str, type[WattfareError]] = {kind.code: kind for kind in WattfareError.__subclasses__()}
_NEVER_SENT = {"network"}
# Codes that the server sends. An error with another code, such as OpenAI's `insufficient_quota`, is not Wattfare's.
_SENT = {*_KINDS, "invalid_request", "upstream", "consent_required", "unavailable", "unknown"} - _NEVER_SENT


def from_answer(error: Mapping[str, Any], status: int) -> WattfareError:
    """Return the typed error for the `error` member of an envelope."""
    code = str(error.get("code"))
    kind = _KINDS.get(code, WattfareError)
    return kind(str(error.get("message")), code=code, status=status, details=error)


def to_wattfare_error(error: object) -> WattfareError | None:
    """Return the Wattfare error inside an exception of a library or an answer of a server, or None.

    Looks through `openai.APIStatusError`, `anthropic.APIStatusError`, `httpx.HTTPStatusError`, causes, groups and
    retries (tenacity), and reads decoded and raw JSON bodies.
    """
    return _unwrap(error, 0, _DEEPEST)


def is_budget_exceeded(error: object) -> bool:
    """Return whether the cap is spent or too low for the request."""
    found = to_wattfare_error(error)
    return found is not None and found.code == "budget_exceeded"


def is_not_connected(error: object) -> bool:
    """Return whether connecting solves it; also true for a refused funding key."""
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
    """Yield the objects that may contain the error: the body first, then the causes."""
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
    except Exception:  # httpx raises when the body of a stream was not read
        return None
    return text if isinstance(text, str) else None


def _parsed(text: str | bytes) -> object:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
