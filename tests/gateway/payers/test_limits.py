"""The counters of recent calls, below HTTP."""

import asyncio

import pytest

from gateway import keys
from gateway.errors import RateLimited
from gateway.payers.consent_request import Attempt, ConsentRequest
from gateway.payers.limits import KEYS_A_PAYER, RateLimits
from gateway.store.store import Store

BROWSER = "b" * 64


def requested(nonce: str = "n1", app_id: str = "appx") -> ConsentRequest:
    return ConsentRequest("live", app_id, "bob", nonce, "https://acme.example", None)


def denied(nonce: str) -> Attempt:
    return Attempt(requested(nonce), "denied", 0, "", {}, may_extend=False)


async def test_the_minute_is_counted_in_redis(store: Store) -> None:
    """121 at once: one waits. Its wait ends when the first leaves the minute; a refused call counts nothing."""
    limits = RateLimits(store)
    calls = await asyncio.gather(*(limits.admit_session("appx") for _ in range(121)), return_exceptions=True)
    refused = [call for call in calls if call is not None]
    assert len(refused) == 1
    assert isinstance(refused[0], RateLimited)
    await limits.admit_session("appy")
    assert await store.call("ZCARD", "wf:rate:sessions:appx") == 120
    oldest = await store.call("ZRANGE", "wf:rate:sessions:appx", 0, 0)
    await store.call("ZADD", "wf:rate:sessions:appx", 1, oldest[0])
    await limits.admit_session("appx")
    with pytest.raises(RateLimited):
        await limits.admit_session("appx")


async def test_a_repeated_attempt_counts_once(store: Store) -> None:
    """A popup's repeat after a lost answer does not count; another attempt does."""
    limits = RateLimits(store)
    for nonce in ("n1", "n1", "n2"):
        await limits.admit_attempt(requested(nonce), BROWSER)
    assert await store.call("ZCARD", keys.consent_rate("attempts-browser", f"appx:{BROWSER}")) == 2
    assert await store.call("ZCARD", keys.consent_rate("attempts-user", requested().budget.name)) == 2


async def test_keys_are_counted_for_each_payer(store: Store) -> None:
    """One payer's tries leave another their own."""
    limits = RateLimits(store)
    for _ in range(KEYS_A_PAYER):
        await limits.admit_key("one")
    with pytest.raises(RateLimited):
        await limits.admit_key("one")
    await limits.admit_key("another")


async def test_the_second_refusal_starts_a_cooldown_of_that_app_alone(store: Store) -> None:
    """One refusal, also when it is repeated, may be a slip."""
    limits = RateLimits(store)
    for nonce in ("n1", "n1"):
        await limits.note_denial(denied(nonce), BROWSER)
    await limits.check_cooldown(requested("n2"), BROWSER)
    await limits.note_denial(denied("n2"), BROWSER)
    with pytest.raises(RateLimited) as refused:
        await limits.check_cooldown(requested("n3"), BROWSER)
    assert refused.value.fields["reason"] == "cooldown"
    assert "in 5 min" in refused.value.message
    await limits.check_cooldown(requested("n3", app_id="appy"), BROWSER)
    await limits.check_cooldown(requested("n3"), "c" * 64)
