"""The ledger as the gateway calls it: a model test of everything at once, and each answer by itself."""

import asyncio
import itertools
import os
from collections.abc import Iterator

import fakeredis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.ledger.holds import Ledger
from gateway.store.store import Store
from gateway.store.topology import One
from tests.gateway.ledger_machine import KEEP_DAYS, Bench, LedgerMachine

# A longer run: WATTFARE_TEST_EXAMPLES=5000 python -m pytest tests/gateway/test_ledger.py --timeout 7200
EXAMPLES = int(os.environ.get("WATTFARE_TEST_EXAMPLES", "120"))
LEASE_MS = 60_000


@pytest.fixture(params=["valkey", "cluster", "fakeredis"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A ledger on a real Valkey, on a real Cluster, and the same on fakeredis for speed."""
    loop = asyncio.new_event_loop()

    async def open_store() -> Store:
        if request.param == "fakeredis":
            return Store(One(fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())), deadline_seconds=5)
        return await Store.open(request.getfixturevalue(request.param).url, deadline_ms=5000)

    store = loop.run_until_complete(open_store())
    try:
        yield Bench(loop, store, Ledger(store, keep_days=KEEP_DAYS, lease_ms=LEASE_MS), itertools.count())
    finally:
        loop.run_until_complete(store.close())
        loop.close()


@pytest.mark.timeout(180)
def test_no_order_of_steps_breaks_the_books(bench: Bench, request: pytest.FixtureRequest) -> None:
    """Admissions, settlements, repeats, sweeps, losses, days, caps, revocations in any order: every sum stays exact."""
    is_fake = request.node.callspec.params["bench"] == "fakeredis"  # which runs Lua several times slower
    machine = type("Machine", (LedgerMachine,), {"bench": bench})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES // 4 if is_fake else EXAMPLES,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
