"""What an app asks of a payer, how that stands, and what the payer decided: values, no more.

Rule: what is asked names its budget, so that all who deal with an attempt deal with connections and grants alike.
"""

from dataclasses import dataclass

from gateway import keys
from gateway.keys import Budget
from gateway.payers.connections import Approval


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """What an app asks, frozen. `limit_nano`: the cap it suggests. `return_url`, `challenge`: redirect mode only.

    For a grant `user_id` is empty, and `limit_nano` its sum. Its token is made here and unlocks nothing before the yes;
    `token` holds it sealed, in base64, until the popup has handed it on.
    """

    mode: str
    app_id: str
    user_id: str
    nonce: str
    origin: str
    limit_nano: int | None
    label: str = ""
    return_url: str = ""
    challenge: str = ""
    app_name: str = ""
    requests: int = 0
    life_ms: int = 0
    digest: str = ""
    token: str = ""

    @property
    def is_grant(self) -> bool:
        """Whether it asks for a one-time grant."""
        return self.requests > 0

    @property
    def budget(self) -> Budget:
        """Who would pay."""
        if self.is_grant:
            return Budget.of_grant(self.mode, self.app_id, self.digest)
        return Budget.of_user(self.mode, self.app_id, self.user_id)

    @property
    def attempt_id(self) -> str:
        """The attempt's name."""
        return keys.attempt_id(self.mode, self.app_id, self.user_id, self.nonce)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt as it stands. `state`: pending, claimed, held (redirect mode: approved, not yet redeemed), approved,
    denied, expired. `fault`: why funding failed last, for the popup. `may_extend`: whether it can get more time.
    """

    asked: ConsentRequest
    state: str
    expires_ms: int
    fault: str
    decision: dict[str, str]
    may_extend: bool

    @property
    def attempt_id(self) -> str:
        """The attempt's name."""
        return self.asked.attempt_id


@dataclass(frozen=True, slots=True)
class Decision:
    """What the payer said yes to, and its exact text. `code`: redirect mode only, given to the app's page once."""

    approval: Approval
    text: str
    code: str = ""
