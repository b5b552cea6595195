"""Grants: allowed requests, look-up by token, and the stated status."""

from decimal import Decimal

import pytest

from gateway.errors import GrantInvalid, InvalidRequest
from gateway.ledger.outcomes import standing_of
from gateway.money import NANO_PER_USD
from gateway.payers.grants import Bounds, GrantRequest, grant_of, new_token, status_of

BOUNDS = Bounds(requests=100, total_nano=100 * NANO_PER_USD, life_ms=3_600_000, request_nano=NANO_PER_USD)
APP = "app0123456789abcdef"
LIVING = {"state": b"active", "cap_nano": b"500000000", "uses": b"3", "used": b"1", "expires_ms": b"2000999"}


@pytest.mark.parametrize(
    ("requests", "max_usd", "cap_nano"),
    [
        (1, None, NANO_PER_USD),
        (7, None, 7 * NANO_PER_USD),
        (100, 100, 100 * NANO_PER_USD),
        (3, Decimal("0.5"), NANO_PER_USD // 2),
        (3, Decimal("0.01"), NANO_PER_USD // 100),
    ],
)
def test_a_grant_is_bounded_in_all(requests: int, max_usd: Decimal | None, cap_nano: int) -> None:
    """By its dollars, or where it names none by the operator's ceiling for each request."""
    assert BOUNDS.parse(requests, max_usd) == GrantRequest(requests, cap_nano)


@pytest.mark.parametrize("requests", [0, -1, 101, 1000, True, None, "3", Decimal("2.5"), float("inf")])
def test_requests_that_are_no_small_number_are_refused(requests: object) -> None:
    """422 with the allowed range."""
    with pytest.raises(InvalidRequest, match="from 1 to 100") as refused:
        BOUNDS.parse(requests, None)
    assert refused.value.status == 422


@pytest.mark.parametrize("usd", [0, -1, Decimal("0.009"), Decimal("100.01"), True, "1", float("nan"), Decimal("1e9")])
def test_dollars_out_of_bounds_are_refused(usd: object) -> None:
    """422 with the allowed range."""
    with pytest.raises(InvalidRequest, match=r"from 0.01 to 100") as refused:
        BOUNDS.parse(3, usd)
    assert refused.value.status == 422


def test_a_token_is_random_and_found_by_its_digest_alone() -> None:
    """256 bits in hexadecimal; the name of the budget holds nothing of them."""
    token, other = new_token("live"), new_token("live")
    assert token != other
    assert len(token.removeprefix("gr_live_")) == 64
    assert token.removeprefix("gr_live_") not in grant_of(token, "live", APP).name
    assert grant_of(token, "live", APP) == grant_of(token, "live", APP) != grant_of(token, "live", "appother")


@pytest.mark.parametrize("token", ["", "gr_live_", "gr_test_" + "a" * 64, "gr_live_" + "a" * 63, "gr_live_" + "A" * 64])
def test_what_is_no_token_of_this_mode_finds_nothing(token: str) -> None:
    """The same answer as for one that never was."""
    with pytest.raises(GrantInvalid) as refused:
        grant_of(token, "live", APP)
    assert refused.value.fields == {"reason": "unknown"}


@pytest.mark.parametrize(
    ("changed", "spent", "now_ms", "left", "active"),
    [
        ({}, 0, 0, 2, True),
        ({"used": b"3"}, 0, 0, 0, False),
        ({}, 0, 2_000_999, 0, False),
        ({"state": b"revoked"}, 0, 0, 0, False),
        ({}, 500_000_000, 0, 0, False),
    ],
)
def test_a_grant_says_what_is_left_also_when_it_has_ended(
    changed: dict[str, bytes], spent: int, now_ms: int, left: int, active: bool
) -> None:
    """Used up, expired, ended by the payer or over its dollars: nothing remains, and the spend is still stated."""
    found = status_of(standing_of(spent, LIVING | changed, now_ms=now_ms))
    assert found == {
        "requestsRemaining": left,
        "requests": 3,
        "maxUsd": 0.5,
        "spentUsd": spent / 1e9,
        "expiresAt": 2000,
        "active": active,
    }


def test_what_was_never_granted_has_no_status() -> None:
    """402, as for an unknown token."""
    with pytest.raises(GrantInvalid):
        status_of(standing_of(0, {}))
