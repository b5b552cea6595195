"""How fast a budget may be used: all at once or spread, up to so many a minute and so many at once."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import RateLimited
from gateway.ledger.outcomes import Settlement
from gateway.settings import Settings
from tests.gateway.environments import RINGS
from tests.gateway.stack import Stack, open_stack, settings_for
from tests.scripts.books import BUDGET, connect, opened, spend

pytestmark = pytest.mark.each_store
DONE = Settlement("settled", 10)


async def test_a_burst_may_be_as_large_as_a_minute_allows_then_one_step_each(redis_url: str, tmp_path: Path) -> None:
    """The next request is refused with a Retry-After; a refused request does not count."""
    async with opened(redis_url, tmp_path, WATTFARE_REQUESTS_A_MINUTE="6") as services:
        await connect(services)
        for number in range(6):
            await spend(services, f"r{number}", DONE)
        for _ in range(3):
            with pytest.raises(RateLimited) as refused:
                await spend(services, "soon", DONE)
            assert 1 <= int(refused.value.headers["Retry-After"]) <= 10
        # One step later the next request is admitted: the stored time is moved back by one step.
        rate_ms = float(await services.store.call("HGET", BUDGET.budget, "rate_ms"))
        await services.store.call("HSET", BUDGET.budget, "rate_ms", f"{rate_ms - 10_000:.3f}")
        await spend(services, "later", DONE)
        assert (await services.ledger.standing(BUDGET)).held_nano == 0


async def test_a_clock_that_stepped_back_locks_nobody_out(redis_url: str, tmp_path: Path) -> None:
    """What was counted in a time to come counts as a minute at most."""
    async with opened(redis_url, tmp_path, WATTFARE_REQUESTS_A_MINUTE="600") as services:
        await connect(services)
        await services.store.call("HSET", BUDGET.budget, "rate_ms", "99999999999999")
        with pytest.raises(RateLimited) as refused:
            await spend(services, "a", DONE)
        assert refused.value.headers["Retry-After"] == "1"


async def test_so_many_may_be_open_at_once(redis_url: str, tmp_path: Path) -> None:
    """Contenders get exactly as many holds; one that ends makes room for one. A repeat of an open one is no new one."""
    async with opened(redis_url, tmp_path, WATTFARE_OPEN_REQUESTS="5") as services:
        await connect(services)
        asked = (spend(services, f"r{number}") for number in range(20))
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(one, RateLimited) for one in outcomes) == 15
        assert outcomes.count(None) == 5
        (first, *_) = (number for number, one in enumerate(outcomes) if one is None)
        await spend(services, f"r{first}")
        await services.ledger.settle(BUDGET, f"r{first}", DONE)
        await spend(services, "next")
        with pytest.raises(RateLimited):
            await spend(services, "more")


async def test_a_caller_is_told_by_429_and_when_to_come_again(redis_url: str) -> None:
    """429 with Retry-After for one user; another user of the app is not affected."""
    settings = settings_for(redis_url, "http://127.0.0.1:1", WATTFARE_REQUESTS_A_MINUTE="1")
    async with open_stack(settings) as stack:
        await _connect_two(stack)
        first, second = [await stack.chat(headers=stack.as_user("tess", secret=stack.test_secret)) for _ in range(2)]
        assert first.status == 200
        assert second.refusal == (429, "rate_limited")
        assert 1 <= int(second.headers["Retry-After"]) <= 60
        assert (await stack.chat(headers=stack.as_user("tom", secret=stack.test_secret))).status == 200


async def _connect_two(stack: Stack) -> None:
    for user in ("tess", "tom"):
        await stack.connect_test(user=user)


def test_the_usual_limits_are_beyond_any_honest_app() -> None:
    """A thousand requests a second by one person."""
    limits = Settings.load(RINGS).limits
    assert (limits.a_minute, limits.open_at_once) == (60_000, 10_000)
