"""Finds the payer of a metered call: the budget named by its payer header."""

from gateway.call import Call
from gateway.errors import GrantInvalid, InvalidRequest, NotConnected
from gateway.keys import Budget
from gateway.memo import Memo
from gateway.owners import Grant
from gateway.payers.apps import Caller
from gateway.payers.grants import grant_of
from gateway.payers.identity import from_header

USER_HEADER = "x-wattfare-user"
GRANT_HEADER = "x-wattfare-grant"
# Payers whose budgets are cached: 0.7 kB each. Making one takes a hundredth of a request.
_MOST_PAYERS = 10_000


def payer(call: Call, caller: Caller) -> Budget:
    """Return the budget named by the payer headers. Raises InvalidRequest, GrantInvalid."""
    headers = call.headers
    name = GRANT_HEADER if GRANT_HEADER in headers else USER_HEADER
    values = headers.getall(name, [])
    if len(values) != 1 or (name is GRANT_HEADER and USER_HEADER in headers):
        raise InvalidRequest(f"Send exactly one of {USER_HEADER} and {GRANT_HEADER}, once.")
    if name is GRANT_HEADER:
        return grant_of(values[0], caller.mode, caller.app.app_id)
    try:
        return known_budget((caller.mode, caller.app.app_id, values[0]))
    except ValueError as fault:
        raise InvalidRequest(f"{USER_HEADER} {fault}.") from None


def cut_off(budget: Budget) -> NotConnected | GrantInvalid:
    """Return the refusal of a call whose payer revoked the connection or grant meanwhile."""
    if isinstance(budget.owner, Grant):
        return GrantInvalid.because("ended")
    return NotConnected("The user has ended this connection.")


def _budget_of(payer_named: tuple[str, str, str]) -> Budget:
    """Return the budget by mode, app and payer header. Raises ValueError."""
    mode, app_id, user_header = payer_named
    return Budget.of_user(mode, app_id, from_header(user_header))


known_budget = Memo(_budget_of, _MOST_PAYERS).__getitem__
