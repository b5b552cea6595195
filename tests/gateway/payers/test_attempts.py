"""Attempts: spent tokens, one answer, and what another token may learn (the HTTP side is in tests/consent_web)."""

import asyncio
import secrets

import pytest

from gateway.errors import InvalidRequest, NotConnected
from gateway.keys import Budget
from gateway.keys import attempt as attempt_key
from gateway.payers.attempts import KEPT_MS, LIFE_MS, MOST_EXTENSIONS, Attempts
from gateway.payers.connections import Approval
from gateway.payers.consent_request import Attempt, ConsentRequest, Decision
from gateway.services import Services

KEY = "sk-or-v1-0123456789abcdef"


@pytest.fixture
def attempts(services: Services) -> Attempts:
    """The store of attempts."""
    return services.attempts


def requested(nonce: str = "n1", user: str = "bob") -> ConsentRequest:
    """Return an app's consent request."""
    return ConsentRequest("live", "appaaaaaaaaaaaaaaaa", user, nonce, "https://acme.example", 10_000_000_000)


def yes(cap_nano: int = 5_000_000_000) -> Decision:
    """Return a payer's yes."""
    return Decision(Approval(cap_nano, KEY, "wallet", "https://acme.example"), "Acme may …")


def jti() -> str:
    """Return a new token's id."""
    return secrets.token_hex(8)


async def test_the_outcome_follows_the_attempt(attempts: Attempts) -> None:
    """unknown, pending, approved with the status; a denial is final."""
    where = ("appaaaaaaaaaaaaaaaa", "live", "bob")
    assert await attempts.outcome(*where, "n1") == {"state": "unknown"}
    attempt = await attempts.create(requested(), browser="b1", jti=jti())
    assert await attempts.outcome(*where, "n1") == {"state": "pending"}
    await attempts.approve(attempt, yes())
    outcome = await attempts.outcome(*where, "n1")
    assert outcome["state"] == "approved"
    assert isinstance(outcome["status"], dict)
    assert outcome["status"]["limits"] == {"monthlyUsd": 5}
    with pytest.raises(InvalidRequest):
        await attempts.deny(attempt)


async def test_another_token_learns_nothing(attempts: Attempts) -> None:
    """For another app, user or mode the nonce is unknown."""
    await attempts.create(requested(), browser="b1", jti=jti())
    for where in (
        ("appbbbbbbbbbbbbbbbb", "live", "bob"),
        ("appaaaaaaaaaaaaaaaa", "test", "bob"),
        ("appaaaaaaaaaaaaaaaa", "live", "eve"),
    ):
        assert await attempts.outcome(*where, "n1") == {"state": "unknown"}


async def crashed(services: Services, attempts: Attempts, *, connects: bool) -> Attempt:
    """Leave an attempt as a process does that is killed after its claim: before it connects, or right after."""
    attempt = await attempts.create(requested(), browser="b1", jti=jti())
    approve = services.connections.approve

    async def dies(budget: Budget, approval: Approval) -> None:
        if connects:
            await approve(budget, approval)
        raise asyncio.CancelledError

    services.connections.approve = dies  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await attempts.approve(attempt, yes())
    services.connections.approve = approve  # type: ignore[method-assign]
    left = await attempts.find(attempt.attempt_id, "b1")
    assert left is not None
    assert left.state == "claimed"
    return left


async def test_a_yes_that_was_not_carried_out_is_taken_back(services: Services, attempts: Attempts) -> None:
    """Killed between claim and connection: what is pressed next is what counts, and the first yes never does."""
    left = await crashed(services, attempts, connects=False)
    with pytest.raises(InvalidRequest, match="Decide again"):
        await attempts.approve(left, yes(cap_nano=900_000_000_000))
    back = await attempts.release(left)
    assert (back.state, back.decision) == ("pending", {})
    with pytest.raises(NotConnected):
        # The killed process was only slow.
        await attempts._connect(left)
    done = await attempts.approve(back, yes(cap_nano=2_000_000_000))
    assert done.state == "approved"
    assert (await services.ledger.standing(requested().budget)).cap_nano == 2_000_000_000


async def test_a_yes_that_was_carried_out_is_found_so(services: Services, attempts: Attempts) -> None:
    """Killed between connection and approval: it is approved, and keeps no key."""
    left = await crashed(services, attempts, connects=True)
    done = await attempts.release(left)
    assert (done.state, done.decision["funding"]) == ("approved", "")
    assert (await services.ledger.standing(requested().budget)).cap_nano == 5_000_000_000


@pytest.mark.parametrize("connects", [False, True])
async def test_a_no_undoes_a_yes_that_the_payer_never_heard_of(
    services: Services, attempts: Attempts, *, connects: bool
) -> None:
    """Whatever a killed process left: it is denied, and a slow one opens nothing after that."""
    left = await crashed(services, attempts, connects=connects)
    assert (await attempts.deny(left)).state == "denied"
    with pytest.raises(NotConnected):
        await attempts._connect(left)
    assert not (await services.ledger.standing(requested().budget)).is_connected


async def test_a_fault_that_is_noted_late_brings_nothing_back(services: Services, attempts: Attempts) -> None:
    """A late fault does not restore an expired attempt."""
    await attempts.note_fault("a" * 64, "denied")
    assert await services.store.call("EXISTS", attempt_key("a" * 64)) == 0


async def test_an_approved_attempt_keeps_no_key(services: Services, attempts: Attempts) -> None:
    """The sealed copy for the connection is deleted."""
    attempt = await attempts.create(requested(), browser="b1", jti=jti())
    done = await attempts.approve(attempt, yes())
    assert (done.decision["funding"], done.decision["code"]) == ("", "")
    record = await services.store.call("HGETALL", attempt_key(attempt.attempt_id))
    assert KEY.encode() not in b"".join(record.values())


async def test_an_attempt_expires_after_an_hour_and_is_remembered_for_a_day(
    services: Services, attempts: Attempts
) -> None:
    """An expired attempt can be neither approved nor denied, and is reported as expired."""
    attempt = await attempts.create(requested(), browser="b1", jti=jti())
    key = attempt_key(attempt.attempt_id)
    life_ms = await services.store.call("PTTL", key)
    assert LIFE_MS + KEPT_MS - 5_000 < life_ms <= LIFE_MS + KEPT_MS
    await services.store.call("PEXPIRE", key, KEPT_MS - 1)
    await services.store.call("HSET", key, "expires_ms", 1)
    assert await attempts.outcome("appaaaaaaaaaaaaaaaa", "live", "bob", "n1") == {"state": "expired"}
    for answer in (attempts.approve(attempt, yes()), attempts.deny(attempt)):
        with pytest.raises(InvalidRequest) as refused:
            await answer
        assert refused.value.status == 410


async def test_an_attempt_gets_more_time_ten_times_until_it_is_decided(attempts: Attempts) -> None:
    """WCAG 2.2.1 requires ten; an eleventh extension and a decided attempt are refused."""
    attempt = await attempts.create(requested(), browser="b1", jti=jti())
    for _ in range(MOST_EXTENSIONS):
        assert attempt.may_extend
        earlier = attempt
        attempt = await attempts.extend(earlier)
        assert attempt.expires_ms > earlier.expires_ms
        # The same click again, after a lost answer.
        assert await attempts.extend(earlier) == attempt
    assert not attempt.may_extend
    with pytest.raises(InvalidRequest, match="no more time"):
        await attempts.extend(attempt)
    await attempts.deny(attempt)
    with pytest.raises(InvalidRequest, match="already answered"):
        await attempts.extend(attempt)
