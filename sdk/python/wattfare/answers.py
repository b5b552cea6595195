"""What Wattfare answers, as values: amounts are US dollars, moments unix seconds.

`to_json()` gives what the server sent, for a page that reads it with the JavaScript SDK's names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What the payer approved; `monthly_usd` None: no cap, in test mode only."""

    monthly_usd: float | None


@dataclass(frozen=True)
class Usage:
    """Settled spend in the rolling month."""

    monthly_usd: float


@dataclass(frozen=True)
class ConnectionStatus:
    """One user's connection: who never connected has `connected` False, which is no error.

    `remaining_usd` is never below 0; None: unlimited, in test mode only.
    """

    connected: bool
    limits: Limits | None
    usage: Usage
    remaining_usd: float | None
    _sent: Mapping[str, Any] = field(repr=False, compare=False)

    @staticmethod
    def read(sent: Mapping[str, Any]) -> "ConnectionStatus":
        """Return the value of an answer."""
        limits = sent["limits"]
        return ConnectionStatus(
            connected=sent["connected"],
            limits=None if limits is None else Limits(limits["monthlyUsd"]),
            usage=Usage(sent["usage"]["monthlyUsd"]),
            remaining_usd=sent["remainingUsd"],
            _sent=sent,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as the server sent it."""
        return dict(self._sent)


@dataclass(frozen=True)
class Session:
    """A session token for one user's page, good for ten minutes."""

    token: str = field(repr=False)
    expires_at: int

    @staticmethod
    def read(sent: Mapping[str, Any]) -> "Session":
        """Return the value of an answer."""
        return Session(sent["token"], sent["expiresAt"])

    def to_json(self) -> dict[str, Any]:
        """Return it as the page's SDK expects it."""
        return {"token": self.token, "expiresAt": self.expires_at}


@dataclass(frozen=True)
class GrantStatus:
    """What is left of a grant; `max_usd` None: no dollar cap of its own."""

    requests_remaining: int
    requests: int
    max_usd: float | None
    spent_usd: float
    expires_at: int
    active: bool

    @staticmethod
    def read(sent: Mapping[str, Any]) -> "GrantStatus":
        """Return the value of an answer."""
        return GrantStatus(
            requests_remaining=sent["requestsRemaining"],
            requests=sent["requests"],
            max_usd=sent["maxUsd"],
            spent_usd=sent["spentUsd"],
            expires_at=sent["expiresAt"],
            active=sent["active"],
        )
