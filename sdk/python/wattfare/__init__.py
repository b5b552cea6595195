"""Let the person who uses your app bring the AI budget: the Python half of Wattfare for an app's backend."""

from wattfare.errors import (
    WattfareAuthError,
    WattfareBudgetExceededError,
    WattfareError,
    WattfareFundingError,
    WattfareGrantError,
    WattfareNetworkError,
    WattfareNotConnectedError,
    WattfareRateLimitError,
    is_budget_exceeded,
    is_not_connected,
    to_wattfare_error,
)

__all__ = [
    "WattfareAuthError",
    "WattfareBudgetExceededError",
    "WattfareError",
    "WattfareFundingError",
    "WattfareGrantError",
    "WattfareNetworkError",
    "WattfareNotConnectedError",
    "WattfareRateLimitError",
    "is_budget_exceeded",
    "is_not_connected",
    "to_wattfare_error",
]
