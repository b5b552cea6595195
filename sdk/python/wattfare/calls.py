"""The calls of the HTTP API without I/O: what to send, and how to read the answer.

Rule: the sync and the async client both use these, so that each call is defined once.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from wattfare.answers import ConnectionStatus, GrantStatus, Session
from wattfare.errors import WattfareAuthError, WattfareError, to_wattfare_error

T = TypeVar("T")

DEFAULT_URL = "https://wattfare.com"
CALL_SECONDS = 15.0

USER_HEADER = "x-wattfare-user"
GRANT_HEADER = "x-wattfare-grant"

# In a header an ASCII id is sent as it is, unless it would be read as percent-encoded UTF-8 or trimmed by HTTP.
_MISREAD = re.compile(r"%[89a-f][0-9a-f]|^ | $", re.IGNORECASE)
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request below `/v1`, and the function that reads its answer's body."""

    method: str
    path: str
    read: Callable[[Any], T]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Access:
    """The gateway's URL and the app's secret key."""

    secret_key: str = field(repr=False)
    url: str

    @staticmethod
    def of(secret_key: str, base_url: str) -> "Access":
        """Return access to the gateway at `base_url`, with or without `/v1` or `/api/v1`.

        Raises WattfareAuthError unless the key starts with `sk_`.
        """
        if not str(secret_key).startswith("sk_"):
            raise WattfareAuthError("secret_key must start with sk_. It is your backend's: keep it out of pages.")
        return Access(secret_key, re.sub(r"(/api)?/v1$", "", base_url.rstrip("/")))

    def headers(self, call: Call[Any]) -> dict[str, str]:
        """Return the headers of a call."""
        return {"Authorization": f"Bearer {self.secret_key}", **call.headers}

    def place(self, call: Call[Any]) -> str:
        """Return the URL of a call, without its query."""
        return f"{self.url}/api/v1/{call.path}"

    def answer(self, call: Call[T], status: int, body: bytes) -> T:
        """Return the value of an answer. Raises WattfareError."""
        if status == 204:
            return call.read(None)
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if 200 <= status < 300 and isinstance(found, dict):
            return call.read(found)
        refused = to_wattfare_error(found)
        if refused is None:
            raise WattfareError(f"{self.url} answered {status}. Is base_url the gateway's?", status=status)
        refused.status = status
        raise refused


def status(user_id: str) -> Call[ConnectionStatus]:
    """Return the call for a user's connection."""
    return Call("GET", "status", ConnectionStatus.read, query={"appUserId": checked(user_id)})


def disconnect(user_id: str) -> Call[None]:
    """Return the call that ends a user's connection."""
    return Call("DELETE", "connections", lambda _: None, query={"appUserId": checked(user_id)})


def create_session(user_id: str, *, monthly_usd: float | None, user_label: str | None) -> Call[Session]:
    """Return the call for a session token."""
    body: dict[str, Any] = {"appUserId": checked(user_id)}
    if monthly_usd is not None:
        body["requestLimit"] = {"monthlyUsd": monthly_usd}
    if user_label is not None:
        body["userLabel"] = user_label
    return Call("POST", "sessions", Session.read, body=body)


def grant_status(grant_token: str) -> Call[GrantStatus]:
    """Return the call for a grant's state."""
    return Call("GET", "grants", GrantStatus.read, headers={GRANT_HEADER: grant_token})


def checked(user_id: object) -> str:
    """Return a valid user id unchanged. Raises WattfareError."""
    if not isinstance(user_id, str) or not user_id:
        raise WattfareError("user_id must be a str, your own id of the user.", code="invalid_request", status=422)
    return user_id


def in_header(user_id: str) -> str:
    """Return a user id encoded for `x-wattfare-user`. Raises WattfareError if the id is invalid."""
    if not (user_id.isascii() and user_id.isprintable()):
        return "".join(_escaped(character) for character in user_id)
    if _MISREAD.search(user_id):
        raise WattfareError(
            "A header cannot carry this user_id: it looks percent-encoded, or begins or ends with a blank.",
            code="invalid_request",
            status=422,
        )
    return user_id


def _escaped(character: str) -> str:
    if _UNRESERVED.fullmatch(character):
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode())
