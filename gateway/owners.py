"""Who owns a budget: an app's user, whose connection it is, or a one-time grant.

Rule: an owner is told from every other by its tag alone, and the tag is what its keys in Redis share.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

_GRANT: Final = "grant:"


@dataclass(frozen=True, slots=True)
class User:
    """One app's user in one mode, by the app's own id: who a connection belongs to."""

    mode: str
    app_id: str
    user_id: str

    @property
    def tag(self) -> str:
        """What tells this owner from all others of its mode. An encoded user id holds no colon."""
        return f"{self.app_id}:{quote(self.user_id, safe='')}"

    @property
    def kind(self) -> str:
        """What the payer allowed."""
        return "connection"


@dataclass(frozen=True, slots=True)
class Grant:
    """One grant to an app in one mode. `digest`: SHA-256 of its token, in hexadecimal; the token itself is not kept."""

    mode: str
    app_id: str
    digest: str

    @property
    def tag(self) -> str:
        """What tells this owner from all others of its mode."""
        return f"{self.app_id}:{_GRANT}{self.digest}"

    @property
    def kind(self) -> str:
        """What the payer allowed."""
        return "grant"


Owner = User | Grant


def parse_owner(mode: str, tag: str) -> Owner:
    """Return the owner with that tag. Raises ValueError."""
    app_id, whose = tag.split(":", 1)
    if whose.startswith(_GRANT):
        return Grant(mode, app_id, whose.removeprefix(_GRANT))
    return User(mode, app_id, unquote(whose))
