"""Overdue holds: looked up until OpenRouter states the cost, settled once by one sweeper, in a gateway or alone."""

import asyncio
import functools
import json
import signal
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from gateway.keys import RANDOM_BYTES, Budget, request_id
from gateway.ledger.outcomes import Admission, HandOver
from gateway.ledger.record import Hold
from gateway.ledger.sweeper import Sweeper
from gateway.ledger.worst_case import WorstCase
from gateway.openrouter.client import Client, Timeouts
from gateway.payers.connections import Approval
from gateway.services import Services, open_services
from tests.fakes import Exchange, FakeOpenRouter
from tests.gateway.ledger_machine import handed_over, marked_sent
from tests.gateway.lua.direct import rewritten
from tests.gateway.process import ROOT, environment
from tests.gateway.stack import FUNDING_KEY, PATIENCE_SECONDS, settings_for

pytestmark = pytest.mark.each_store

GENERATION = "gen-1-fake"
COST = {"id": GENERATION, "model": "acme/large", "total_cost": 0.0004, "native_tokens_prompt": 3}


@dataclass
class OrphanScenario:
    """Stores with a connected user, whose holds were left behind by gateways that died."""

    services: Services
    openrouter: FakeOpenRouter
    redis_url: str
    budget: Budget = field(default_factory=lambda: Budget.of_user("live", "app" + "a" * 16, "ada"))
    sweepers: list[tuple[Sweeper, Client]] = field(default_factory=list)

    def sweeper(self, reconcile_seconds: float = 300) -> Sweeper:
        """A sweeper of its own."""
        upstream = Client(self.openrouter.url, Timeouts(5, 5, 5))
        sweeper = Sweeper(self.services.ledger, upstream, self.services.sealer, reconcile_seconds=reconcile_seconds)
        self.sweepers.append((sweeper, upstream))
        return sweeper

    async def orphan(
        self,
        number: int,
        *,
        sent: bool = True,
        generation: str = GENERATION,
        budget: Budget | None = None,
        estimate_nano: int = 777,
    ) -> str:
        """A hold that is overdue now; its id."""
        budget, ledger = budget or self.budget, self.services.ledger
        request = request_id("a" * 13, (number << 8).to_bytes(RANDOM_BYTES, "big"))
        worst = WorstCase(fixed_nano=1_000_000, per_token_zepto=0, max_tokens=100)
        await ledger.index(budget)
        admission = await ledger.admit(budget, request, worst, model="acme/large", estimate_nano=estimate_nano)
        assert isinstance(admission, Admission)
        if sent:
            await marked_sent(ledger, budget, request, admission.due_ms)
        if generation:
            await ledger.post_generation(budget, request, generation)
        if sent or generation:
            # The mark was posted without waiting for its reply: wait until it has arrived.
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (hold := await self.hold(request, budget)).generation_id != generation or not hold.is_sent:
                    await asyncio.sleep(0)
        await self.make_due(request, budget)
        await ledger.list_again(budget, after_ms=0)
        return request

    async def make_due(self, request: str, budget: Budget) -> None:
        """Move the hold's due time into the past and keep its mark of having been sent."""
        score = float(await self.services.store.call("ZSCORE", budget.due, request))
        await self.services.store.call("ZADD", budget.due, str(1 + score % 1), request)

    async def hold(self, request: str, budget: Budget | None = None) -> Hold:
        """The hold as it lies in Redis."""
        found = await self.services.ledger.hold(budget or self.budget, request)
        assert found is not None
        return found

    async def change_hold(self, request: str, **changed: str | int) -> None:
        """Write other lines into a hold."""
        call, name = self.services.store.call, self.budget.hold(request)
        await call("SET", name, rewritten(await call("GET", name), **changed))

    async def connect(self, budget: Budget) -> None:
        """Connect a live user."""
        await self.services.connections.approve(budget, Approval(5_000_000_000, FUNDING_KEY))

    async def entries(self, count: int, budget: Budget | None = None) -> list[dict[str, str]]:
        """The ledger once it holds so many entries."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(found := await self.services.ledger.entries(budget or self.budget)) < count:
                await asyncio.sleep(0.01)
        return found


@pytest.fixture
async def orphanage(redis_url: str, openrouter: FakeOpenRouter) -> AsyncIterator[OrphanScenario]:
    """A connected user and no running sweeper."""
    async with open_services(settings_for(redis_url, openrouter.url)) as services:
        running = OrphanScenario(services, openrouter, redis_url)
        await running.connect(running.budget)
        yield running
        for sweeper, upstream in running.sweepers:
            await sweeper.close()
            await upstream.close()


def _told(entry: dict[str, str]) -> tuple[str, str, str]:
    return entry["status"], entry["cost_nano"], entry["ended_by"]


async def test_an_orphan_is_settled_at_what_openrouter_states(orphanage: OrphanScenario) -> None:
    """With the key that was sealed into the hold, also after a revoke."""
    orphanage.openrouter.generations[GENERATION] = COST
    await orphanage.orphan(1)
    await orphanage.services.connections.revoke(orphanage.budget)
    assert await orphanage.sweeper().sweep(orphanage.budget) is None
    [entry] = await orphanage.entries(1)
    assert _told(entry) == ("settled", "400000", "crash")
    assert (await orphanage.services.ledger.standing(orphanage.budget)).held_nano == 0


async def test_an_orphan_that_never_left_is_void(orphanage: OrphanScenario) -> None:
    """A hold whose request was never sent is voided without a look-up."""
    await orphanage.orphan(1, sent=False, generation="")
    assert await orphanage.sweeper().sweep(orphanage.budget) is None
    [entry] = await orphanage.entries(1)
    assert _told(entry) == ("void", "0", "crash")
    assert orphanage.openrouter.lookups == []


async def test_an_orphan_from_before_a_restart_of_redis_may_have_left(orphanage: OrphanScenario) -> None:
    """The restart may have lost the mark of having been sent: the hold is settled at an estimate, not voided."""
    request = await orphanage.orphan(1, sent=False, generation="")
    await orphanage.change_hold(request, admitted_ms=1)
    assert await orphanage.sweeper().sweep(orphanage.budget) is None
    [entry] = await orphanage.entries(1)
    assert _told(entry) == ("estimated", "777", "crash")


async def test_an_orphan_without_an_id_is_settled_at_the_marked_estimate(orphanage: OrphanScenario) -> None:
    """The request was sent and no id was received: the only case that is settled by estimate after a crash."""
    await orphanage.orphan(1, generation="")
    assert await orphanage.sweeper().sweep(orphanage.budget) is None
    [entry] = await orphanage.entries(1)
    assert _told(entry) == ("estimated", "777", "crash")


async def test_a_cost_that_is_not_known_yet_is_asked_for_again_later(orphanage: OrphanScenario) -> None:
    """The look-up is retried after 250 ms, then with backoff; the hold stays open meanwhile."""
    await orphanage.orphan(1)
    sweeper = orphanage.sweeper()
    waits = []
    for _ in range(3):
        waits.append(await sweeper.sweep(orphanage.budget))
        [request] = await orphanage.services.store.call("ZRANGE", orphanage.budget.due, 0, -1)
        await orphanage.make_due(request.decode(), orphanage.budget)
    assert waits == [pytest.approx(0.25, abs=0.05), pytest.approx(0.5, abs=0.05), pytest.approx(1, abs=0.05)]
    assert (await orphanage.services.ledger.standing(orphanage.budget)).held_nano == 1_000_000
    orphanage.openrouter.generations[GENERATION] = COST
    assert await sweeper.sweep(orphanage.budget) is None
    assert [entry["status"] for entry in await orphanage.entries(1)] == ["settled"]


async def test_a_cost_that_never_comes_is_estimated_when_the_time_is_over(orphanage: OrphanScenario) -> None:
    """The hold is settled at an estimate, marked as one, and released."""
    await orphanage.orphan(1)
    sweeper = orphanage.sweeper(reconcile_seconds=0.05)
    sweeper.notice(orphanage.budget)
    [entry] = await orphanage.entries(1)
    assert _told(entry) == ("estimated", "777", "crash")


async def test_each_orphan_is_claimed_by_one_of_several_sweepers(orphanage: OrphanScenario) -> None:
    """OpenRouter gets one look-up for each hold."""
    for number in range(30):
        generation = f"gen-{number}-fake"
        orphanage.openrouter.generations[generation] = {**COST, "id": generation}
        await orphanage.orphan(number, generation=generation)
    await asyncio.gather(*(orphanage.sweeper().sweep(orphanage.budget) for _ in range(4)))
    entries = await orphanage.entries(30)
    assert len(entries) == 30
    assert sorted(orphanage.openrouter.lookups) == sorted(f"gen-{number}-fake" for number in range(30))
    assert (await orphanage.services.ledger.standing(orphanage.budget)).spent_nano == 30 * 400_000


async def test_a_budget_that_cannot_be_swept_keeps_no_other_waiting(orphanage: OrphanScenario) -> None:
    """A damaged hold is logged; every other hold is closed, including those of the same payer."""
    orphanage.openrouter.generations[GENERATION] = COST
    damaged = await orphanage.orphan(1)
    await orphanage.change_hold(damaged, estimate_nano="many")
    for number in range(5):
        await orphanage.orphan(number + 10)
    others = [Budget.of_user("live", "app" + "a" * 16, f"other-{number}") for number in range(5)]
    for number, other in enumerate(others):
        await orphanage.connect(other)
        await orphanage.orphan(number + 2, budget=other)
    looking = asyncio.create_task(orphanage.sweeper().run())
    for other in others:
        assert [entry["status"] for entry in await orphanage.entries(1, other)] == ["settled"]
    assert [entry["status"] for entry in await orphanage.entries(5)] == ["settled"] * 5
    assert not looking.done()
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert (await orphanage.services.store.call("GET", orphanage.budget.hold(damaged))).startswith(b"open\n")


async def test_look_ups_that_hang_keep_no_other_payer_waiting(orphanage: OrphanScenario) -> None:
    """Forty orphans whose look-ups hang do not delay the void of another payer's hold."""
    asked: Counter[str] = Counter()
    may_end = asyncio.Event()

    async def hang(turn: Exchange) -> None:
        asked[turn.request.target] += 1
        await may_end.wait()

    orphanage.openrouter._look_up = hang  # type: ignore[method-assign]
    for number in range(40):
        await orphanage.orphan(number, generation=f"gen-{number}-fake")
    looking = [asyncio.create_task(orphanage.sweeper().run()) for _ in range(2)]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(asked) < 4:
            await asyncio.sleep(0)
    other = Budget.of_user("live", "app" + "a" * 16, "other")
    await orphanage.connect(other)
    await orphanage.orphan(41, sent=False, generation="", budget=other)
    [entry] = await orphanage.entries(1, other)
    assert _told(entry) == ("void", "0", "crash")
    assert set(asked.values()) == {1}
    for task in looking:
        task.cancel()
    await asyncio.gather(*looking, return_exceptions=True)
    may_end.set()


async def test_a_budget_stays_listed_while_somebody_counts_on_it(orphanage: OrphanScenario) -> None:
    """A process lists a budget twice a lease at most: a look that finds nothing open must not take it off."""
    ledger, budget = orphanage.services.ledger, orphanage.budget
    listed = functools.partial(orphanage.services.store.call, "ZSCORE", budget.open_shard, budget.name)
    sweeper = orphanage.sweeper()
    await ledger.index(budget)
    await ledger.list_again(budget, after_ms=0)
    assert await sweeper.sweep(budget) is None
    # No hold is open now; but a process that listed the budget a moment ago admits the next request without listing it.
    rested = await listed()
    assert rested % 1 == 0.5
    assert await sweeper.sweep(budget) is None
    assert await listed() == rested
    # No process listed it for a lease: now it may be removed.
    await _let_a_lease_pass(orphanage)
    assert await sweeper.sweep(budget) is None
    assert await listed() is None


async def test_a_budget_that_is_listed_anew_while_it_rests_stays(orphanage: OrphanScenario) -> None:
    """Whatever a look is about to find."""
    ledger, budget = orphanage.services.ledger, orphanage.budget
    sweeper = orphanage.sweeper()
    await ledger.index(budget)
    await sweeper.sweep(budget)
    await _let_a_lease_pass(orphanage)
    await ledger.index(budget)
    await sweeper.sweep(budget)
    assert await orphanage.services.store.call("ZSCORE", budget.open_shard, budget.name) % 1 == 0.5


async def _let_a_lease_pass(orphanage: OrphanScenario) -> None:
    """Simulate the end of a lease: entries listed for later become due for the next sweep."""
    budget, store = orphanage.budget, orphanage.services.store
    score = await store.call("ZSCORE", budget.open_shard, budget.name)
    await store.call("ZINCRBY", budget.open_shard, str(-(int(score) - 1)), budget.name)
    found = [await orphanage.services.ledger.take_due(shard, most=10, lease_ms=60) for shard in range(16)]
    assert [budget for each in found for budget in each] == [budget]


async def test_what_was_asked_while_it_ran_does_not_count_against_it(orphanage: OrphanScenario) -> None:
    """A stream that a sweeper took for an orphan has its whole time when it has ended."""
    sweeper, ledger = orphanage.sweeper(reconcile_seconds=0.2), orphanage.services.ledger
    request = await orphanage.orphan(1)
    await sweeper.sweep(orphanage.budget)
    assert (await orphanage.hold(request)).reconcile_ms is not None
    await orphanage.change_hold(request, reconcile_ms=1)
    assert await handed_over(ledger, orphanage.budget, request, HandOver(GENERATION, 9, "client", ""))
    await sweeper.sweep(orphanage.budget)
    orphanage.openrouter.generations[GENERATION] = COST
    sweeper.notice(orphanage.budget)
    [entry] = await orphanage.entries(1)
    assert _told(entry) == ("settled", "400000", "client")


@pytest.mark.parametrize("record", [{"model": "\ud800", "id": GENERATION}, {"model": "m", "id": "\n"}])
async def test_a_record_that_names_nonsense_is_booked_all_the_same(
    orphanage: OrphanScenario, record: dict[str, object]
) -> None:
    """Its cost is what counts."""
    orphanage.openrouter.generations[GENERATION] = {**COST, **record}
    await orphanage.orphan(1)
    assert await orphanage.sweeper().sweep(orphanage.budget) is None
    [entry] = await orphanage.entries(1)
    assert (_told(entry), entry["generation_id"]) == (("settled", "400000", "crash"), GENERATION)


async def test_what_failed_before_any_output_holds_the_money_for_a_short_while(
    orphanage: OrphanScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenRouter may have no record of it at all."""
    monkeypatch.setattr("gateway.ledger.sweeper._FAILED_MS", 0)
    await orphanage.orphan(1, estimate_nano=0)
    await orphanage.orphan(2)
    await orphanage.sweeper().sweep(orphanage.budget)
    [entry] = await orphanage.entries(1)
    assert _told(entry) == ("void", "0", "crash")


async def test_after_an_outage_the_living_renew_before_anything_is_swept(
    orphanage: OrphanScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an outage, holds of live requests are briefly overdue; sweeping pauses, and anew after a second outage."""
    await orphanage.orphan(1)
    orphanage.openrouter.generations[GENERATION] = COST
    rests = iter([0.01, 0.01, 0.01])
    asked: list[int] = []

    def rest_seconds(_: Budget) -> float:
        asked.append(len(orphanage.openrouter.lookups))
        return next(rests, 0)

    monkeypatch.setattr(orphanage.services.ledger, "rest_seconds", rest_seconds)
    orphanage.sweeper().notice(orphanage.budget)
    await orphanage.entries(1)
    assert asked[:4] == [0, 0, 0, 0]


async def test_the_sweeper_runs_as_a_process_of_its_own(orphanage: OrphanScenario) -> None:
    """`python -m gateway.sweeper` finds what is due, settles it, and ends with 0 on SIGTERM."""
    orphanage.openrouter.generations[GENERATION] = COST
    await orphanage.orphan(1)
    variables = environment(orphanage.redis_url, orphanage.openrouter.url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.sweeper", cwd=ROOT, env=variables, stdout=PIPE, stderr=PIPE
    )
    [entry] = await orphanage.entries(1)
    process.send_signal(signal.SIGTERM)
    out, errors = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert (process.returncode, errors) == (0, b"")
    assert _told(entry) == ("settled", "400000", "crash")
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["sweeping", "swept", "stopped"]


async def test_a_gateway_that_does_not_sweep_calls_the_one_that_does(orphanage: OrphanScenario) -> None:
    """What it leaves behind is looked at now, not when a lease has passed."""
    await orphanage.services.ledger.index(orphanage.budget)
    shards = range(16)

    async def take_due() -> list[Budget]:
        found = [await orphanage.services.ledger.take_due(shard, most=10, lease_ms=0) for shard in shards]
        return [budget for each in found for budget in each]

    assert await take_due() == []
    orphanage.sweeper().announce(orphanage.budget)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await take_due() != [orphanage.budget]:
            await asyncio.sleep(0.01)
