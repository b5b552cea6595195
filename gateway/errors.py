"""Every error that a client can receive: one class tree, with a code and status each, and one envelope.

Rule: a message says what to do next, and never contains a key, a prompt or the payer's OpenRouter account id.
Rule: foreign exceptions are translated into this tree once, where the foreign library is called.
"""

from collections.abc import Mapping
from typing import ClassVar

# OpenAI's and Anthropic's SDKs give this header precedence over the status.
_SHOULD_RETRY = "x-should-retry"


class WattfareError(Exception):
    """A failure with its place in the contract: `code`, `status` and `type` (for OpenAI clients).

    `fields` are added to the envelope's error object, `headers` to the response, `retry_after_seconds` to both.
    """

    code: ClassVar[str] = "unknown"
    type: ClassVar[str] = "server_error"
    default_status: ClassVar[int] = 500

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        fields: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or self.default_status
        self.fields = dict(fields or {})
        self.headers = dict(headers or {})
        if retry_after_seconds is not None:
            self.fields["retryAfter"] = retry_after_seconds
            self.headers["Retry-After"] = str(retry_after_seconds)

    def error_object(self, request_id: str) -> dict[str, object]:
        """Return the members of the error object."""
        return {
            "code": self.code,
            "message": self.message,
            "type": self.type,
            "requestId": request_id,
            **self.fields,
        }

    def envelope(self, request_id: str) -> dict[str, object]:
        """Return the JSON body of this failure."""
        return {"error": self.error_object(request_id)}


class AuthError(WattfareError):
    """401: the secret key or session token is missing, malformed, wrong, expired or revoked."""

    code, type, default_status = "auth", "authentication_error", 401


class NotConnected(WattfareError):
    """402: no active connection for this user."""

    code, type, default_status = "not_connected", "billing_error", 402

    def __init__(self, message: str = "This user has not connected a budget to this app. Ask them to connect.") -> None:
        super().__init__(message)


class BudgetExceeded(WattfareError):
    """402: the cap is spent, or the remainder is too small for this request.

    `limit`: what refused it: `cap`, `in_flight` (requests in flight hold the rest; `retry_after_seconds` is set then),
    `credit` (of the funding key). `fields`: the amounts behind the decision.
    """

    code, type, default_status = "budget_exceeded", "insufficient_quota", 402

    def __init__(
        self,
        message: str,
        *,
        limit: str,
        fields: Mapping[str, object] | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message, fields={"limit": limit, **(fields or {})}, retry_after_seconds=retry_after_seconds)
        if retry_after_seconds is not None:
            self.headers[_SHOULD_RETRY] = "true"


class FundingInvalid(WattfareError):
    """402: OpenRouter refused the funding key, or its credit is too low."""

    code, type, default_status = "funding_invalid", "insufficient_quota", 402

    def __init__(
        self, message: str = "OpenRouter refuses this user's funding key or its credit. Ask them to connect again."
    ) -> None:
        super().__init__(message)


_GRANT_REASONS = {
    "unknown": "This app was given no such grant in this key's mode, or it is older than the ledger.",
    "ended": "The user has ended this grant.",
    "used_up": "All requests of this grant are used.",
    "expired": "This grant has expired.",
    "over_budget": "What is left of this grant's dollars cannot carry this request.",
}


class GrantInvalid(WattfareError):
    """402: the grant is unknown, of another app, expired, used up or over its dollar cap."""

    code, type, default_status = "grant_invalid", "insufficient_quota", 402

    def __init__(self, message: str = "This grant cannot be used. Ask the user for a new one.") -> None:
        super().__init__(message)

    @classmethod
    def because(cls, reason: str) -> "GrantInvalid":
        """Return the refusal for `unknown`, `ended` (by the payer), `used_up`, `expired` or `over_budget`.

        A grant of another app or mode is `unknown`, like one that never existed.
        """
        refused = cls(f"{_GRANT_REASONS[reason]} Ask the user for a new one.")
        refused.fields["reason"] = reason
        return refused


class RateLimited(WattfareError):
    """429: too many requests, here or at OpenRouter.

    `limit`: which of our limits refused a metered call: `app`, `user` (rates) or `open` (the user's open requests).
    """

    code, type, default_status = "rate_limited", "rate_limit_error", 429

    def __init__(self, message: str, *, retry_after_seconds: int, limit: str = "") -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds, fields={"limit": limit} if limit else None)


class InvalidRequest(WattfareError):
    """The request is wrong: 400, 404, 405, 408, 413, 415 or 422; a 4xx of OpenRouter keeps its status."""

    code, type, default_status = "invalid_request", "invalid_request_error", 400


class UpstreamError(WattfareError):
    """502 or 504: OpenRouter failed or timed out."""

    code, type, default_status = "upstream", "api_error", 502

    def note_bill(self) -> None:
        """Add that the request was sent and may be billed, and tell clients not to retry it by themselves."""
        message = self.message.removesuffix("Try again.").rstrip()
        self.message = f"{message} The request had left and may be billed: GET /v1/usage/{{requestId}} tells."
        self.headers[_SHOULD_RETRY] = "false"


class ConsentRequired(WattfareError):
    """403: only the payer may approve or raise a cap, on the consent site."""

    code, type, default_status = "consent_required", "permission_error", 403

    def __init__(
        self,
        message: str = "Only the payer can approve or raise a cap. Open the consent popup with connect().",
    ) -> None:
        super().__init__(message)


class Unavailable(WattfareError):
    """503: Redis is unreachable, or the key ring lacks a key. Nothing was spent."""

    code, type, default_status = "unavailable", "api_error", 503

    def __init__(
        self,
        message: str = "The service cannot reach its store. Nothing was spent. Try again shortly.",
        *,
        retry_after_seconds: int = 1,
    ) -> None:
        super().__init__(message, headers={_SHOULD_RETRY: "true"}, retry_after_seconds=retry_after_seconds)
