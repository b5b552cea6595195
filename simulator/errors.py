"""The names of errors by HTTP status: OpenRouter's codes on /responses, Anthropic's types on /messages."""

_NAMES = {
    400: ("invalid_request", "invalid_request_error"),
    401: ("authentication", "authentication_error"),
    402: ("payment_required", "billing_error"),
    403: ("permission_denied", "permission_error"),
    404: ("not_found", "not_found_error"),
    408: ("timeout", "timeout_error"),
    413: ("payload_too_large", "request_too_large"),
    422: ("invalid_request", "invalid_request_error"),
    429: ("rate_limit_exceeded", "rate_limit_error"),
    503: ("provider_unavailable", "api_error"),
    504: ("timeout", "timeout_error"),
    524: ("timeout", "timeout_error"),
    529: ("provider_overloaded", "overloaded_error"),
}
_ANY_OTHER = ("server_error", "api_error")


def code_name(status: int) -> str:
    """Return OpenRouter's error code on /responses."""
    return _NAMES.get(status, _ANY_OTHER)[0]


def type_name(status: int) -> str:
    """Return Anthropic's error type."""
    return _NAMES.get(status, _ANY_OTHER)[1]
