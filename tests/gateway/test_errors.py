"""The error tree: each code with its status, and an envelope that holds no more than it should."""

import pytest

from gateway import errors
from gateway.errors import WattfareError

_CONTRACT: list[tuple[WattfareError, str, int]] = [
    (errors.AuthError("x"), "auth", 401),
    (errors.NotConnected(), "not_connected", 402),
    (errors.BudgetExceeded("x", limit="cap"), "budget_exceeded", 402),
    (errors.FundingInvalid(), "funding_invalid", 402),
    (errors.GrantInvalid(), "grant_invalid", 402),
    (errors.RateLimited("x", retry_after_seconds=3), "rate_limited", 429),
    (errors.InvalidRequest("x"), "invalid_request", 400),
    (errors.UpstreamError("x"), "upstream", 502),
    (errors.ConsentRequired(), "consent_required", 403),
    (errors.Unavailable(), "unavailable", 503),
    (WattfareError("x"), "unknown", 500),
]


@pytest.mark.parametrize(("error", "code", "status"), _CONTRACT, ids=lambda value: str(value)[:20])
def test_each_error_stands_in_the_contract(error: WattfareError, code: str, status: int) -> None:
    """Code, status, and an envelope whose message states what to do."""
    envelope = error.envelope("req_x")
    assert (error.code, error.status) == (code, status)
    inner = envelope["error"]
    assert isinstance(inner, dict)
    assert list(envelope) == ["error"]
    assert (inner["code"], inner["requestId"]) == (code, "req_x")
    assert inner["message"]
    assert inner["type"]


def test_every_class_of_the_tree_is_in_the_table() -> None:
    """A new error needs its line here and in the contract."""
    assert {type(error) for error, _, _ in _CONTRACT} == {WattfareError, *WattfareError.__subclasses__()}


def test_a_wait_is_told_in_header_and_body() -> None:
    """`Retry-After` and `retryAfter` are equal; without a wait both are absent."""
    waiting = errors.BudgetExceeded("x", limit="in_flight", retry_after_seconds=5)
    assert waiting.headers == {"Retry-After": "5", "x-should-retry": "true"}
    assert waiting.fields == {"limit": "in_flight", "retryAfter": 5}
    assert errors.BudgetExceeded("x", limit="cap").headers == {}


def test_a_status_can_be_upstreams_own() -> None:
    """A caller's error keeps the upstream status."""
    assert errors.InvalidRequest("x", status=422).status == 422


def test_whether_to_try_again_is_told_where_the_status_does_not() -> None:
    """Not sent, and waiting helps: true. Sent and possibly billed: false, also in the message."""
    assert errors.Unavailable().headers == {"Retry-After": "1", "x-should-retry": "true"}
    failed = errors.UpstreamError("It fell silent. Try again.")
    assert failed.headers == {}
    failed.note_bill()
    assert failed.headers == {"x-should-retry": "false"}
    assert failed.message.startswith("It fell silent. The request had left and may be billed")
