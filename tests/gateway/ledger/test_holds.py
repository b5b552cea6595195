"""The ledger as the gateway calls it: a model test of everything at once, and each answer by itself."""

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

import fakeredis
import hiredis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.ledger.holds import Ledger
from gateway.store import scripts
from gateway.store.connection import Arg, Reply
from gateway.store.outbox import OnReply
from gateway.store.scripts import Call
from gateway.store.store import Store
from tests.gateway.ledger_grants import GrantMachine
from tests.gateway.ledger_machine import KEEP_DAYS, LedgerMachine, LedgerUnderTest
from tests.gateway.ledger_waiters import WaitingMachine

# A longer run: WATTFARE_TEST_EXAMPLES=5000 python -m pytest tests/gateway/test_ledger.py --timeout 7200
EXAMPLES = int(os.environ.get("WATTFARE_TEST_EXAMPLES", "120"))
LEASE_MS = 60_000


class StoreInMemory(Store):
    """The store's door on a fakeredis of its own."""

    def __init__(self) -> None:
        self._client = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
        self._scripts = scripts.load()
        self.is_single = False

    async def close(self) -> None:
        await self._client.aclose()

    def recovery_seconds(self, key: str) -> float:
        del key
        return 0

    async def run(
        self,
        script: str | Call,
        key_names: Sequence[str] = (),
        args: Sequence[Arg] = (),
        *,
        behind: str | None = None,
    ) -> Reply:
        del behind
        _, packed, load = self._call(script, key_names, args)
        reader = hiredis.Reader()
        reader.feed(packed + load)
        command, *words = reader.gets()
        if command == b"EVALSHA":
            command, words[0] = "EVAL", reader.gets()[-1]
        return await self.call(command, *words)

    async def call(self, command: str, *args: Arg) -> Reply:
        return await self._client.execute_command(command, *args)  # type: ignore[no-untyped-call]

    async def post(
        self,
        script: str | Call,
        key_names: Sequence[str] = (),
        args: Sequence[Arg] = (),
        on_reply: OnReply | None = None,
    ) -> bool:
        reply = await self.run(script, key_names, args)
        if on_reply is not None:
            on_reply(reply)
        return True

    def post_then(self, call: Call, then: Callable[[bool], None], on_reply: OnReply | None = None) -> None:
        posting = asyncio.get_running_loop().create_task(self.post(call, on_reply=on_reply))
        posting.add_done_callback(lambda done: then(done.result()))

    def keep(
        self,
        script: str | Call,
        key_names: Sequence[str] = (),
        args: Sequence[Arg] = (),
        on_reply: OnReply | None = None,
    ) -> bool:
        # As one whose server is away and never comes back: what is kept is a hint, and no balance needs it.
        del script, key_names, args, on_reply
        return True


@pytest.fixture(params=["valkey", "cluster", "fakeredis"])
def bench(request: pytest.FixtureRequest) -> Iterator[LedgerUnderTest]:
    """A ledger on a real Valkey, on a real Cluster, and the same on fakeredis for speed."""
    loop = asyncio.new_event_loop()

    async def open_store() -> Store:
        if request.param == "fakeredis":
            return StoreInMemory()
        return await Store.open(request.getfixturevalue(request.param).url, deadline_ms=5000)

    store = loop.run_until_complete(open_store())
    try:
        yield LedgerUnderTest(loop, store, Ledger(store, keep_days=KEEP_DAYS, lease_ms=LEASE_MS), itertools.count())
    finally:
        loop.run_until_complete(store.close())
        loop.close()


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("owner", "part"), [(WaitingMachine, 1), (GrantMachine, 6)])
def test_no_order_of_steps_breaks_the_books(
    bench: LedgerUnderTest, request: pytest.FixtureRequest, owner: type[LedgerMachine], part: int
) -> None:
    """Admissions of both policies, waits, settlements, sweeps, losses and cap changes in any order: all sums are exact.

    Run for a connection and, with fewer examples, for a grant, whose requests are counted.
    """
    # fakeredis runs Lua several times slower, and a Cluster moves the same keys of one slot.
    is_slow = request.node.callspec.params["bench"] != "valkey"
    machine = type("Machine", (owner,), {"bench": bench})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES // part // (4 if is_slow else 1),
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
