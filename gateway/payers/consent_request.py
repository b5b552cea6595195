"""Values of the consent flow: what an app requests, the state of the attempt, and what the payer decided.

Rule: a request names its budget, so that code which handles attempts treats connections and grants alike.
"""

from dataclasses import dataclass

from gateway import keys
from gateway.keys import Budget
from gateway.payers.connections import Approval


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """What an app requests of a payer. `limit_nano`: the suggested cap. `return_url`, `challenge`: redirect mode only.

    For a grant `user_id` is empty and `limit_nano` its total. A grant's token is made with the request and is invalid
    until the approval; `token` holds it sealed, in base64, until the popup has delivered it.
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
        """Whether it requests a one-time grant."""
        return self.requests > 0

    @property
    def budget(self) -> Budget:
        """The budget that would pay."""
        if self.is_grant:
            return Budget.of_grant(self.mode, self.app_id, self.digest)
        return Budget.of_user(self.mode, self.app_id, self.user_id)

    @property
    def attempt_id(self) -> str:
        """The attempt's id."""
        return keys.attempt_id(self.mode, self.app_id, self.user_id, self.nonce)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt's current state. `state`: pending, claimed (approval in progress), held (redirect mode: approved, not
    yet redeemed), approved, denied, expired. `fault`: why funding failed last, for the popup. `may_extend`: whether its
    time may be extended.
    """

    requested: ConsentRequest
    state: str
    expires_ms: int
    fault: str
    decision: dict[str, str]
    may_extend: bool

    @property
    def attempt_id(self) -> str:
        """The attempt's id."""
        return self.requested.attempt_id


@dataclass(frozen=True, slots=True)
class Decision:
    """What the payer approved, with the exact text shown. `code`: redirect mode only, given to the app's page once."""

    approval: Approval
    text: str
    code: str = ""
