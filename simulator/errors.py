"""What an error of a status is called: by OpenRouter on /responses, by Anthropic on /messages."""

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
    """Return OpenRouter's name."""
    return _NAMES.get(status, _ANY_OTHER)[0]


def type_name(status: int) -> str:
    """Return Anthropic's name."""
    return _NAMES.get(status, _ANY_OTHER)[1]
