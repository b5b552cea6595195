"""Wattfare's answers as values: amounts in US dollars, times in unix seconds.

`to_json()` returns the server's JSON, for a page with the JavaScript SDK.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Limits:
    """The approved cap; `monthly_usd` None: no cap (test mode only)."""

    monthly_usd: float | None


@dataclass(frozen=True)
class Usage:
    """Settled spend in the rolling month."""

    monthly_usd: float


@dataclass(frozen=True)
class ConnectionStatus:
    """One user's connection; for a user who never connected, `connected` is False.

    `remaining_usd` is never below 0; None: unlimited (test mode only).
    """

    connected: bool
    limits: Limits | None
    usage: Usage
    remaining_usd: float | None
    _sent: Mapping[str, Any] = field(repr=False, compare=False)

    @staticmethod
    def read(sent: Mapping[str, Any]) -> "ConnectionStatus":
        """Parse the server's JSON."""
        limits = sent["limits"]
        return ConnectionStatus(
            connected=sent["connected"],
            limits=None if limits is None else Limits(limits["monthlyUsd"]),
            usage=Usage(sent["usage"]["monthlyUsd"]),
            remaining_usd=sent["remainingUsd"],
            _sent=sent,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the server's JSON."""
        return dict(self._sent)


@dataclass(frozen=True)
class Session:
    """A session token for one user's page, valid for ten minutes."""

    token: str = field(repr=False)
    expires_at: int

    @staticmethod
    def read(sent: Mapping[str, Any]) -> "Session":
        """Parse the server's JSON."""
        return Session(sent["token"], sent["expiresAt"])

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that the page's SDK expects."""
        return {"token": self.token, "expiresAt": self.expires_at}


@dataclass(frozen=True)
class GrantStatus:
    """The state of a grant; `max_usd` None: no cap (test mode only)."""

    requests_remaining: int
    requests: int
    max_usd: float | None
    spent_usd: float
    expires_at: int
    active: bool

    @staticmethod
    def read(sent: Mapping[str, Any]) -> "GrantStatus":
        """Parse the server's JSON."""
        return GrantStatus(
            requests_remaining=sent["requestsRemaining"],
            requests=sent["requests"],
            max_usd=sent["maxUsd"],
            spent_usd=sent["spentUsd"],
            expires_at=sent["expiresAt"],
            active=sent["active"],
        )
