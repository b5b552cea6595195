"""The states that the operator watches."""

import asyncio

from gateway import metrics
from gateway.watch import keep_watching, update_gauges
from tests.fakes import FakeOpenRouter
from tests.gateway.stack import Stack


def _read(name: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(f"wattfare_{name}")


async def test_each_state_is_taken_down_as_it_is(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Open and waiting requests, live processes, the age of the prices, and overdue holds."""
    gateway = stack.gateway
    watched = gateway.services.store, gateway.prices, [1, 2], [3]
    watching = asyncio.get_running_loop().create_task(keep_watching(*watched))
    async with asyncio.timeout(10):
        metrics.SWEEPER_LATE.set(-1)
        while _read("sweeper_late") == -1:
            await asyncio.sleep(0)
    watching.cancel()
    assert [_read(name) for name in ("open_requests", "waiting_requests")] == [2, 1]
    assert [_read(name) for name in ("store_up", "store_pending", "sweeper_late")] == [1, 0, 0]
    assert _read("openrouter_up") == 1
    assert 0 <= (_read("prices_age_seconds") or 0) < 60
    gateway.prices.is_away = True
    update_gauges(*watched)
    assert _read("openrouter_up") == 0


async def test_what_the_gateway_adds_is_told_apart_from_what_the_model_takes(stack: Stack) -> None:
    """One observation of each for a request, one hold; a refusal is counted by its code."""
    names = ("added_seconds_count", "first_byte_seconds_count", "holds_total")
    before = [_read(name) or 0 for name in names]
    assert (await stack.chat()).status == 200
    await stack.quiet()
    assert [_read(name) for name in names] == [each + 1 for each in before]
    refused = metrics.refusals_of("not_connected")._value.get()
    assert (await stack.chat(headers=stack.as_user("nobody"))).refusal == (402, "not_connected")
    assert metrics.refusals_of("not_connected")._value.get() == refused + 1
