"""Owners of budgets: an app's user (a connection) or a one-time grant.

Rule: an owner's tag is unique within its mode, and is the hash tag of its keys in Redis.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

_GRANT: Final = "grant:"


@dataclass(frozen=True, slots=True)
class User:
    """An app's user in one mode, by the app's own user id."""

    mode: str
    app_id: str
    user_id: str

    @property
    def tag(self) -> str:
        """The owner's unique tag. The percent-encoded user id contains no colon, so it never reads as a grant."""
        return f"{self.app_id}:{quote(self.user_id, safe='')}"

    @property
    def kind(self) -> str:
        """The kind of the budget."""
        return "connection"


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant to an app in one mode. `digest`: the SHA-256 of its token, in hexadecimal."""

    mode: str
    app_id: str
    digest: str

    @property
    def tag(self) -> str:
        """The owner's unique tag."""
        return f"{self.app_id}:{_GRANT}{self.digest}"

    @property
    def kind(self) -> str:
        """The kind of the budget."""
        return "grant"


Owner = User | Grant


def parse_owner(mode: str, tag: str) -> Owner:
    """Return the owner with that tag. Raises ValueError."""
    app_id, whose = tag.split(":", 1)
    if whose.startswith(_GRANT):
        return Grant(mode, app_id, whose.removeprefix(_GRANT))
    return User(mode, app_id, unquote(whose))
