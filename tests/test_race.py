"""Four processes, one Valkey: whatever they try at once, money moves as if they had queued."""

import asyncio
import multiprocessing
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from gateway import keys
from gateway.errors import BudgetExceeded, RateLimited
from gateway.keys import Budget
from gateway.ledger.holds import Ledger
from gateway.ledger.outcomes import Admission, QueuePlace, Settlement
from gateway.ledger.worst_case import Terms, WorstCase
from gateway.payers.limits import SESSIONS_AN_APP, RateLimits
from gateway.store.store import Store
from tests.servers import open_client

pytestmark = pytest.mark.each_store

PROCESSES = 4
BUDGET = Budget.of_user("live", "app2222222222222222", "ada")
HOLD_NANO = 3_000_000
CONTENDERS = 10_000
AT_ONCE = 250
# The cap carries 300 of the contenders, and a rest that carries none.
CAP_NANO = 300 * HOLD_NANO + HOLD_NANO // 2
WORST = WorstCase(HOLD_NANO, 0, 1)
STRICT = Terms(WORST, goes_beyond=False)

Tally = dict[str, int]
Contest = Callable[[Store, Ledger, int], Coroutine[Any, Any, Tally]]


def ledger_on(store: Store) -> Ledger:
    return Ledger(store, keep_days=90, lease_ms=60_000)


async def at_once(calls: int, call: Callable[[int], Coroutine[Any, Any, str]]) -> Tally:
    """Make so many calls, many of them at a time, and count their outcomes."""
    numbers = iter(range(calls))

    async def work() -> Counter[str]:
        return Counter([await call(number) for number in numbers])

    tallies = await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return dict(sum(tallies, Counter()))


async def admit(ledger: Ledger, request_id: str) -> bool:
    try:
        await ledger.admit(BUDGET, request_id, WORST, model="m", estimate_nano=0, terms=STRICT)
    except BudgetExceeded:
        return False
    return True


async def contend(_: Store, ledger: Ledger, process: int) -> Tally:
    """Ask for a hold, and settle it at its worst case."""

    async def call(number: int) -> str:
        request_id = f"{process}-{number}"
        if not await admit(ledger, request_id):
            return "refused"
        await ledger.settle(BUDGET, request_id, Settlement("settled", HOLD_NANO))
        return "admitted"

    return await at_once(CONTENDERS // PROCESSES, call)


async def settle_one(_: Store, ledger: Ledger, process: int) -> Tally:
    """All settle the same hold, each at its own cost."""

    async def call(number: int) -> str:
        booked = await ledger.settle(BUDGET, "one", Settlement("settled", 1 + process * 250 + number))
        return f"{booked.is_first} {booked.cost_nano}"

    return await at_once(1000 // PROCESSES, call)


async def admit_one(_: Store, ledger: Ledger, __: int) -> Tally:
    """All ask for the same hold."""

    async def call(_: int) -> str:
        return str(await admit(ledger, "one"))

    return await at_once(1000 // PROCESSES, call)


async def claim_all(_: Store, ledger: Ledger, __: int) -> Tally:
    """All claim overdue holds until none is left."""
    taken: Counter[str] = Counter()
    while claim := (await ledger.claim(BUDGET, most=7, lease_ms=60_000)).request_ids:
        taken.update(claim)
    return dict(taken)


async def open_sessions(store: Store, _: Ledger, __: int) -> Tally:
    """All ask for sessions of one app."""
    limits = RateLimits(store)

    async def call(_: int) -> str:
        try:
            await limits.admit_session("app2222222222222222")
        except RateLimited:
            return "limited"
        return "let through"

    return await at_once(100, call)


def in_process(url: str, contest: Contest, process: int) -> Tally:
    """Run one contest in a process of its own."""

    async def run() -> Tally:
        store = await Store.open(url, deadline_ms=10_000)
        try:
            return await contest(store, ledger_on(store), process)
        finally:
            await store.close()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def processes() -> Any:
    """Four fresh processes, each to open a store of its own."""
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture
def race(processes: ProcessPoolExecutor, redis_url: str) -> Callable[[Contest], Tally]:
    """Runs a contest in all four at once over one connected budget; returns what happened how often."""
    with open_client(redis_url) as client:
        client.hset(BUDGET.budget, mapping={"state": "active", "cap_nano": CAP_NANO, "funding": "sealed"})

    def run(contest: Contest) -> Tally:
        runs = [processes.submit(in_process, redis_url, contest, number) for number in range(PROCESSES)]
        return dict(sum((Counter(each.result()) for each in runs), Counter()))

    return run


def stored(redis_url: str) -> tuple[int, int, int, int]:
    """Held, spent, the ledger's sum and its length."""
    with open_client(redis_url) as client:
        held, spent = (int(found or 0) for found in client.hmget(BUDGET.budget, "held_nano", "window_nano"))
        entries = [int(fields[b"delta_nano"]) for _, fields in client.xrange(BUDGET.ledger)]
    return held, spent, sum(entries), len(entries)


@pytest.mark.timeout(120)
def test_contenders_use_up_a_cap_and_no_nano_more(race: Callable[[Contest], Tally], redis_url: str) -> None:
    """10,000 requests over four processes for a cap that carries 300: overspend 0, all but the useless rest is used."""
    outcome = race(contend)
    held, spent, booked, entries = stored(redis_url)
    assert outcome == {"admitted": 300, "refused": CONTENDERS - 300}
    assert (held, spent, booked, entries) == (0, 300 * HOLD_NANO, 300 * HOLD_NANO, 300)
    assert 0.99 * CAP_NANO <= spent <= CAP_NANO


def test_a_thousand_settlements_of_one_hold_book_once(race: Callable[[Contest], Tally], redis_url: str) -> None:
    """The first cost is booked, and every other caller gets it as the reply."""
    race(admit_one)
    outcome = race(settle_one)
    (first,) = [said for said in outcome if said.startswith("True")]
    cost = int(first.split()[1])
    assert outcome == {f"True {cost}": 1, f"False {cost}": 999}
    assert stored(redis_url) == (0, cost, cost, 1)


def test_a_thousand_admissions_of_one_request_hold_once(race: Callable[[Contest], Tally], redis_url: str) -> None:
    """Each caller gets the one hold as the reply."""
    assert race(admit_one) == {"True": 1000}
    assert stored(redis_url) == (HOLD_NANO, 0, 0, 0)


def test_an_overdue_hold_is_claimed_by_one_process(race: Callable[[Contest], Tally], redis_url: str) -> None:
    """Four sweepers at once: every hold is taken, none twice."""
    with open_client(redis_url) as client:
        client.zadd(BUDGET.due, {f"r{number}": number + 1 for number in range(500)})
    assert race(claim_all) == {f"r{number}": 1 for number in range(500)}


def test_sessions_are_limited_over_all_processes(race: Callable[[Contest], Tally], redis_url: str) -> None:
    """Exactly 120 a minute for each app over all processes; refused calls do not count."""
    assert race(open_sessions) == {"let through": SESSIONS_AN_APP, "limited": 400 - SESSIONS_AN_APP}
    with open_client(redis_url) as client:
        assert client.zcard(keys.session_rate("app2222222222222222")) == SESSIONS_AN_APP


EXPECTED_NANO = 1_000_000
# The cap carries 120 requests at what is expected of them, one after the other, and no two at their bound.
DEAR = WorstCase(80 * EXPECTED_NANO, 0, 1)
TERMS = Terms(WorstCase(EXPECTED_NANO, 0, 1))
SHARED_CAP_NANO = 120 * EXPECTED_NANO


async def wait_and_settle(ledger: Ledger, request_id: str, process: int, cost_nano: int) -> str:
    """Poll until the request is admitted or refused, then settle it."""
    turn = QueuePlace(keys.wakes(str(process)))
    while True:
        try:
            found = await ledger.admit(BUDGET, request_id, DEAR, model="m", estimate_nano=0, terms=TERMS, turn=turn)
        except BudgetExceeded as refused:
            return str(refused.fields["limit"])
        if isinstance(found, Admission):
            break
        turn = turn._replace(place=found.place)
        await asyncio.sleep(0.002)
    standing = await ledger.standing(BUDGET)
    assert standing.spent_nano + standing.held_nano <= SHARED_CAP_NANO
    await ledger.settle(BUDGET, request_id, Settlement("settled", cost_nano))
    return "admitted"


async def _share(ledger: Ledger, process: int, cost_nano: int) -> Tally:
    """Ten callers at a time in each process, fifty requests each process: more than the cap carries."""
    numbers = iter(range(50))

    async def work() -> Counter[str]:
        said = [await wait_and_settle(ledger, f"{process}-{number}", process, cost_nano) for number in numbers]
        return Counter(said)

    return dict(sum(await asyncio.gather(*(work() for _ in range(10))), Counter()))


async def share_as_expected(_: Store, ledger: Ledger, process: int) -> Tally:
    """Each costs what is expected of it."""
    return await _share(ledger, process, EXPECTED_NANO)


async def share_above(_: Store, ledger: Ledger, process: int) -> Tally:
    """Each request costs seven times as much, as with an unknown tokenizer."""
    return await _share(ledger, process, 7 * EXPECTED_NANO)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("contest", "cost_nano"), [(share_as_expected, EXPECTED_NANO), (share_above, 7 * EXPECTED_NANO)]
)
def test_waiting_over_four_processes_uses_a_cap_up(
    race: Callable[[Contest], Tally], redis_url: str, contest: Contest, cost_nano: int
) -> None:
    """No admission above the cap; overspend 0 while costs are as expected, else one request's excess at most."""
    with open_client(redis_url) as client:
        client.hset(BUDGET.budget, "cap_nano", SHARED_CAP_NANO)
    outcome = race(contest)
    held, spent, booked, entries = stored(redis_url)
    most = SHARED_CAP_NANO // cost_nano + (SHARED_CAP_NANO % cost_nano > 0)
    assert outcome == {"admitted": most, "cap": 200 - most}
    assert (held, booked, entries) == (0, spent, most)
    assert spent - SHARED_CAP_NANO <= (0 if cost_nano == EXPECTED_NANO else cost_nano - EXPECTED_NANO)
    with open_client(redis_url) as client:
        assert not client.exists(BUDGET.queue)
        overruns = int(client.hget(BUDGET.budget, "overruns") or 0)
    assert overruns == (0 if cost_nano == EXPECTED_NANO else 1)
