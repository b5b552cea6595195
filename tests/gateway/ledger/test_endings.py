"""Endings: a sweeper finds an expired grant and deletes its funding key once none of its holds is open."""

import asyncio

import pytest

from gateway.keys import ENDINGS, Budget
from gateway.ledger.outcomes import Settlement
from gateway.ledger.worst_case import WorstCase
from gateway.payers.connections import Approval, Term
from tests.gateway.stack import PATIENCE_SECONDS, Stack

pytestmark = pytest.mark.each_store

WORST = WorstCase(1000, 0, 1)


async def has_key(stack: Stack, budget: Budget) -> bool:
    return bool((await stack.gateway.services.ledger.standing(budget)).fields.get("funding"))


async def until_closed(stack: Stack, budget: Budget) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await has_key(stack, budget):
            await asyncio.sleep(0.01)


async def test_the_key_of_an_unused_grant_goes_when_it_expires(stack: Stack) -> None:
    """Without any request for the grant, the sweeper deletes its key and takes it off every list."""
    budget = stack.granted(await stack.grant(life_ms=300))
    assert await has_key(stack, budget)
    await until_closed(stack, budget)
    assert (await stack.gateway.services.ledger.standing(budget)).end == "expired"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await stack.gateway.services.store.call("ZSCORE", ENDINGS, budget.name) is not None:
            await asyncio.sleep(0.01)


async def test_an_open_hold_keeps_the_key_until_it_is_settled(stack: Stack) -> None:
    """Expired, but in flight: the settlement drops it."""
    services = stack.gateway.services
    budget = stack.granted(await stack.grant(life_ms=200))
    await services.ledger.admit(budget, "req_a", WORST, model="m", estimate_nano=0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (await services.ledger.standing(budget)).has_ended:
            await asyncio.sleep(0.01)
    await services.ledger.endings.finish(budget)
    assert await has_key(stack, budget)
    assert await services.store.call("ZSCORE", ENDINGS, budget.name) is not None
    await services.ledger.settle(budget, "req_a", Settlement("settled", 10))
    assert not await has_key(stack, budget)


async def test_a_grant_that_lives_by_its_own_servers_clock_is_looked_at_again(stack: Stack) -> None:
    """The list may be on a Redis node whose clock is ahead of the grant's node."""
    services = stack.gateway.services
    budget = stack.granted(await stack.grant())
    await services.ledger.endings.expect(budget, after_ms=0)
    await services.ledger.endings.finish(budget)
    assert await has_key(stack, budget)
    listed = await services.store.call("ZSCORE", ENDINGS, budget.name)
    assert listed == pytest.approx((await services.ledger.standing(budget)).expires_ms, abs=2000)


async def test_only_a_grant_has_a_term(stack: Stack) -> None:
    """A connection with one, and a grant without, are mistakes of ours."""
    connections, token = stack.gateway.services.connections, await stack.grant()
    with pytest.raises(ValueError, match="term"):
        await connections.approve(stack.budget(), Approval(1, "key", term=Term(1, 1)))
    with pytest.raises(ValueError, match="term"):
        await connections.approve(stack.granted(token), Approval(1, "key"))
