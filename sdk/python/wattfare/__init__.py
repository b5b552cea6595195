"""Wattfare for an app's Python backend: AI requests that the app's users pay for."""

from wattfare.answers import ConnectionStatus, GrantStatus, Limits, Session, Usage
from wattfare.client import AsyncWattfare, Wattfare
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
from wattfare.session_handlers import SessionUser

__all__ = [
    "AsyncWattfare",
    "ConnectionStatus",
    "GrantStatus",
    "Limits",
    "Session",
    "SessionUser",
    "Usage",
    "Wattfare",
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
