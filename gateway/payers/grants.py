"""One-time grants: a number of requests, a total in dollars and a lifetime, without a user or session.

Rule: only the SHA-256 of a token is stored (beside its sealed copy until delivery). The grant is looked up under the
app and mode of the redeeming secret key, so with another app's key the token is unknown.
Rule: a grant is a budget like a connection's: the same scripts hold, settle, sweep and cut both.
"""

import re
import secrets
from dataclasses import dataclass
from decimal import Decimal

from gateway.digest import sha256_hex
from gateway.errors import GrantInvalid, InvalidRequest
from gateway.keys import Budget
from gateway.ledger.outcomes import Standing
from gateway.money import NANO_PER_USD, nano_from_usd, usd_from_nano, usd_text

_TOKEN_BYTES = 32  # 256 bits cannot be found by search, so an unsalted SHA-256 of it may be stored
_TOKEN = re.compile(r"gr_(live|test)_[0-9a-f]{64}")
# The contract's minimum: less than a cent buys no answer that is worth a consent popup.
_LEAST_NANO = NANO_PER_USD // 100


@dataclass(frozen=True, slots=True)
class GrantRequest:
    """What an app requests: the number of requests and their total cap."""

    requests: int
    cap_nano: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """The operator's maxima for a grant. `request_nano`: the cap per request when the app gives no `maxUsd`."""

    requests: int
    total_nano: int
    life_ms: int
    request_nano: int

    def parse(self, requests: object, max_usd: object) -> GrantRequest:
        """Return the validated request of an app; `max_usd` None: `request_nano` for each request.

        Raises InvalidRequest 422.
        """
        if isinstance(requests, bool) or not isinstance(requests, int) or not 1 <= requests <= self.requests:
            raise _refused(f"requests must be a whole number from 1 to {self.requests}.")
        if max_usd is None:
            return GrantRequest(requests, requests * self.request_nano)
        try:
            if isinstance(max_usd, bool) or not isinstance(max_usd, int | Decimal):
                raise ValueError("no amount")
            cap_nano = nano_from_usd(max_usd)
        except ValueError:
            cap_nano = 0
        if not _LEAST_NANO <= cap_nano <= self.total_nano:
            within = f"from {usd_text(_LEAST_NANO)} to {usd_text(self.total_nano)}"
            raise _refused(f"maxUsd must be a number of US dollars {within}.")
        return GrantRequest(requests, cap_nano)


def new_token(mode: str) -> str:
    """Return the token of a new grant."""
    return f"gr_{mode}_{secrets.token_hex(_TOKEN_BYTES)}"


def grant_of(token: str, mode: str, app_id: str) -> Budget:
    """Return the budget that a token denotes for a caller of that app and mode. Raises GrantInvalid.

    The grant may not exist; the ledger decides that. The look-up by digest leaks no timing about the token.
    """
    found = _TOKEN.fullmatch(token)
    if found is None or found[1] != mode:
        raise GrantInvalid.because("unknown")
    return Budget.of_grant(mode, app_id, sha256_hex(token))


def status_of(standing: Standing) -> dict[str, object]:
    """Return the body of `GET /v1/grants`, for ended grants too. Raises GrantInvalid when there is none."""
    if standing.uses is None:
        raise GrantInvalid.because("unknown")
    active = is_active(standing)
    return {
        "requestsRemaining": standing.uses - standing.used if active else 0,
        "requests": standing.uses,
        "maxUsd": None if standing.cap_nano is None else usd_from_nano(standing.cap_nano),
        "spentUsd": usd_from_nano(standing.spent_nano),
        "expiresAt": standing.expires_ms // 1000,
        "active": active,
    }


def is_active(standing: Standing) -> bool:
    """Return whether a grant may still be redeemed: not revoked, expired, used up or fully spent."""
    is_spent = standing.cap_nano is not None and standing.spent_nano >= standing.cap_nano
    return standing.is_connected and not standing.has_ended and not is_spent


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest(message, status=422, fields={"reason": "grant"})
