"""What verify finds, and what it must not take for a fault."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.keys import Budget, wallet_budgets
from gateway.ledger.audit import read_audit
from gateway.ledger.outcomes import Settlement
from gateway.ledger.worst_case import Terms, WorstCase
from gateway.services import Services
from scripts.verify import forgotten
from tests.gateway.lua.direct import rewritten
from tests.scripts.books import BUDGET, DAY_MS, checked, connect, opened, spend, write_entry

OTHER = Budget.of_user("test", "app2222222222222222", "bob")
OLD = Budget.of_user("live", "app2222222222222222", "eve")
GRANT = Budget.of_grant("live", "app2222222222222222", "9" * 64)

pytestmark = pytest.mark.each_store


@pytest.fixture
async def services(redis_url: str, tmp_path: Path) -> AsyncIterator[Services]:
    """Two budgets with some history: settled, estimated and corrected, voided, over the hold, open."""
    async with opened(redis_url, tmp_path) as running:
        await connect(running)
        await connect(running, OTHER)
        await spend(running, "a", Settlement("settled", 400))
        await spend(running, "b", Settlement("estimated", 900), Settlement("settled", 300))
        await spend(running, "c", Settlement("void"))
        await spend(running, "d", Settlement("settled", 5000))
        await spend(running, "e")
        await spend(running, "f", Settlement("settled", 7), budget=OTHER)
        yield running


async def test_books_that_add_up(services: Services) -> None:
    """The totals over every budget of both modes are printed; user ids are not."""
    answer = await checked(services)
    assert answer == {
        "ok": True,
        "budgets": 2,
        "entries": 6,
        "open_holds": 1,
        "booked_usd": 5.707e-06,
        "spent_usd": 5.707e-06,
        "held_usd": 1e-06,
        "differences": [],
    }


@pytest.mark.parametrize(
    ("command", "what", "stored", "computed"),
    [
        (("HINCRBY", BUDGET.budget, "held_nano", 1), "held_nano", 1001, 1000),
        (("HINCRBY", BUDGET.budget, "window_nano", -1), "window_nano", 5699, 5700),
        (("HINCRBY", BUDGET.budget, "booked_nano", 5), "booked_nano", 5705, 5700),
        (("HINCRBY", BUDGET.budget, "overruns", 1), "overruns", 2, 1),
        (("HINCRBY", BUDGET.budget, "overrun_nano", -3), "overrun_nano", 3997, 4000),
        (("DEL", BUDGET.days), "day", 0, 5700),
        (("DEL", BUDGET.hold("e")), "held_nano", 1000, 0),
        (("ZADD", BUDGET.due, 1, "a"), "a is due but not open", 1, 0),
        (("ZADD", BUDGET.queue, 1, "wf:wakes:here e"), "e both holds and waits", 1, 0),
    ],
    ids=["held", "window", "booked", "overruns", "overrun", "days", "hold", "due", "waits"],
)
async def test_each_sum_that_is_off_is_named(
    services: Services, command: tuple[str | int, ...], what: str, stored: int, computed: int
) -> None:
    """By app and account, with what is stored and what it should be."""
    await services.store.call(str(command[0]), *command[1:])
    answer = await checked(services)
    assert answer["ok"] is False
    found = next(each for each in answer["differences"] if each["what"].startswith(what))
    assert (found["stored_nano"], found["computed_nano"]) == (stored, computed)
    assert (found["app"], found["mode"]) == (BUDGET.app_id, "live")
    assert found["account"] == BUDGET.account(services.store.salt)


@pytest.mark.parametrize(
    ("budget", "request_id", "changed", "what", "stored", "computed"),
    [
        (BUDGET, "a", {"cost_nano": "4"}, "a shows settled, its last entry says settled", 4, 400),
        (BUDGET, "b", {"state": "estimated"}, "b shows estimated, its last entry says settled", 300, 300),
        (BUDGET, "c", {"tokens": ""}, "c shows no state, its last entry says void", 0, 0),
        (OTHER, "f", {"state": "void"}, "f shows void, its last entry says settled", 7, 7),
        (OTHER, "f", {"state": "open", "tokens": ""}, "f shows open, its last entry says settled", 0, 7),
    ],
)
async def test_a_request_that_shows_what_was_not_booked_is_named(
    services: Services,
    budget: Budget,
    request_id: str,
    changed: dict[str, str],
    what: str,
    stored: int,
    computed: int,
) -> None:
    """What `GET /v1/usage` shows must equal the request's last entry."""
    name = budget.hold(request_id)
    await services.store.call("SET", name, rewritten(await services.store.call("GET", name), **changed))
    (found,) = (await checked(services))["differences"]
    assert (found["what"], found["stored_nano"], found["computed_nano"]) == (what, stored, computed)


async def test_a_closed_hold_that_expired_is_no_difference(services: Services) -> None:
    """Its record expires when its last entry may be trimmed, which may happen later."""
    for request_id in "abcd":
        await services.store.call("DEL", BUDGET.hold(request_id))
    assert (await checked(services))["differences"] == []


async def orphan(services: Services) -> None:
    """Make the open hold overdue by two minutes."""
    await services.store.call("ZADD", BUDGET.due, (int(time.time()) - 120) * 1000, "e")


async def test_an_overdue_hold_that_no_sweeper_will_find_is_named(services: Services) -> None:
    """Its money would stay held for ever; one that is on the list waits only for a sweeper."""
    await orphan(services)
    assert (await checked(services))["differences"] == []
    await services.store.call("ZREM", BUDGET.open_shard, BUDGET.name)
    (found,) = (await checked(services))["differences"]
    assert found["what"] == "e is overdue, but no sweeper's list has its budget"


async def test_two_open_requests_beyond_their_bound_are_named(services: Services) -> None:
    """One may be: what it costs above the cap is bounded by what it costs."""
    worst = WorstCase(10**12, 0, 1)
    for request_id in "xy":
        await services.ledger.admit(
            OTHER, request_id, worst, model="m", estimate_nano=1, terms=Terms(WorstCase(1, 0, 1))
        )
        assert (await checked(services))["ok"] is (request_id == "x")
        await services.store.call("HDEL", OTHER.budget, "beyond")
        await services.store.call("HINCRBY", OTHER.budget, "cap_nano", 10**9)
    [found] = (await checked(services))["differences"]
    assert (found["what"], found["stored_nano"]) == ("open holds beyond their bound", 2)


async def test_a_young_hold_may_be_on_no_list_for_a_while(services: Services) -> None:
    """A sweeper drops a budget between two requests; the process of the next lists it again with its first renewal."""
    await services.store.call("ZREM", BUDGET.open_shard, BUDGET.name)
    assert (await checked(services))["differences"] == []


async def test_a_budget_that_is_swept_while_it_is_read_raises_no_alarm(services: Services) -> None:
    """A sweeper may close the last hold and take the budget off the list after its holds were read."""
    await orphan(services)
    audit = await read_audit(services.store, BUDGET)
    await services.ledger.settle(BUDGET, "e", Settlement("void"))
    await services.store.call("ZREM", BUDGET.open_shard, BUDGET.name)
    assert [found async for found in forgotten(services.store, BUDGET, audit)] == []


async def test_a_grants_uses_are_counted_from_its_ledger(services: Services) -> None:
    """Open and billed requests are uses, also one that was billed after its void; a void is none."""
    await connect(services, GRANT)
    await spend(services, "g1", Settlement("settled", 5), budget=GRANT)
    await spend(services, "g2", Settlement("void"), budget=GRANT)
    await spend(services, "g3", Settlement("void"), Settlement("settled", 5), budget=GRANT)
    await spend(services, "g4", budget=GRANT)
    answer = await checked(services)
    assert (answer["budgets"], answer["differences"]) == (3, [])
    await services.store.call("HINCRBY", GRANT.budget, "used", -1)
    (found,) = (await checked(services))["differences"]
    assert (found["what"], found["stored_nano"], found["computed_nano"]) == ("used", 2, 3)


async def test_a_doubled_entry_is_named(services: Services) -> None:
    """A request that was booked twice shows in its own sum, not only in the day's."""
    await write_entry(services, BUDGET, (await services.ledger.entries(BUDGET))[0])
    answer = await checked(services)
    assert {"a is booked at", "booked_nano"} <= {each["what"] for each in answer["differences"]}


@pytest.mark.parametrize("left", [BUDGET.days, BUDGET.ledger, BUDGET.due])
async def test_a_lost_budget_is_named(services: Services, left: str) -> None:
    """By its remaining keys, since nothing else would reveal it."""
    for key in {BUDGET.budget, BUDGET.days, BUDGET.ledger, BUDGET.due} - {left}:
        await services.store.call("DEL", key)
    answer = await checked(services)
    assert answer["budgets"] == 2
    (found,) = [each for each in answer["differences"] if each["what"] == "the budget itself is lost"]
    assert found["account"] == BUDGET.account(services.store.salt)


async def test_a_user_who_was_barred_before_connecting_is_no_lost_budget(services: Services) -> None:
    """There is a hash that counts revocations, and nothing else; wallets have keys that look alike."""
    never = Budget.of_user("live", BUDGET.app_id, "never")
    await services.store.run("change", [never.budget, never.history], ["bar", "", "payer"])
    await services.store.call("HSET", wallet_budgets("w"), never.name, "device")
    answer = await checked(services)
    assert (answer["budgets"], answer["differences"]) == (3, [])


async def test_what_the_ledger_trimmed_raises_no_alarm(services: Services) -> None:
    """Entries older than the retention are trimmed, and their days too; the lifetime sum is then not compared."""
    await services.store.call("XTRIM", BUDGET.ledger, "MAXLEN", 0)
    today = (await read_audit(services.store, BUDGET)).today
    days = await services.ledger.days(BUDGET)
    await services.store.call("DEL", BUDGET.days)
    await services.store.call("HSET", BUDGET.days, today - 90, days[today])
    await services.store.call("HSET", BUDGET.budget, "window_nano", 0)
    assert (await checked(services))["differences"] == []


async def age(services: Services, *, days: int) -> None:
    """Open OLD with 250 entries from so long ago: estimates and their corrections; the first and last have none."""
    await connect(services, OLD)
    old_ms = (int(time.time()) - days * 86_400) * 1000
    for number in range(250):
        is_second = number > 0 and number % 2 == 0
        amounts = {"delta_nano": -600, "cost_nano": 300} if is_second else {"delta_nano": 900, "cost_nano": 900}
        entry = {
            "request_id": f"old{(number + 1) // 2}",
            "status": "settled" if is_second else "estimated",
            "day": old_ms // DAY_MS,
            **amounts,
            "hold_nano": 1000,
            "overrun_nano": 0,
            "generation_id": "",
            "model": "m",
            "funding_version": 1,
            "prompt_tokens": "",
            "completion_tokens": "",
            "admitted_ms": old_ms - 1,
            "ended_by": "complete",
        }
        await write_entry(services, OLD, entry, name=str(old_ms + number))
    await services.store.call("HSET", OLD.budget, "booked_nano", 900 + 124 * 300 + 900)


async def write(services: Services, budget: Budget, **changed: str | int) -> None:
    """Put a copy of the newest entry, with some of its fields changed, behind it."""
    (entry,) = await services.ledger.entries(budget, newest_first=True, most=1)
    await write_entry(services, budget, {**entry, **changed})


@pytest.fixture
async def trimmed(services: Services) -> Services:
    """The same, and an old budget. Of its past two entries are left: a correction without its estimate, an estimate."""
    await age(services, days=89)
    await services.store.call("XTRIM", OLD.ledger, "MAXLEN", 2)
    await spend(services, "a", Settlement("estimated", 900), Settlement("settled", 300), budget=OLD)
    await spend(services, "b", Settlement("settled", 300), budget=OLD)
    return services


async def test_an_old_budget_raises_no_alarm(trimmed: Services) -> None:
    """Even if the correction of a trimmed estimate remains."""
    left = [(entry["request_id"], entry["delta_nano"]) for entry in await trimmed.ledger.entries(OLD)]
    assert left == [("old124", "-600"), ("old125", "900"), ("a", "900"), ("a", "-600"), ("b", "300")]
    assert (await checked(trimmed))["differences"] == []


@pytest.mark.parametrize(
    "changed",
    [{}, {"request_id": "a", "delta_nano": -600}, {"request_id": "c", "delta_nano": 299}, {"request_id": "old125"}],
    ids=["doubled", "corrected twice", "at another sum", "corrected beside its sum"],
)
async def test_a_request_of_an_old_budget_is_still_added_up(trimmed: Services, changed: dict[str, str | int]) -> None:
    """What the ledger lost to age hides no fault in a request that it still has whole."""
    await write(trimmed, OLD, **changed)
    found = {each["what"] for each in (await checked(trimmed))["differences"]}
    assert f"{changed.get('request_id', 'b')} is booked at" in found


async def test_an_overrun_that_a_correction_changed_is_counted_once(services: Services) -> None:
    """Corrected downwards it stays counted; corrected upwards, the additional excess is."""
    await spend(services, "down", Settlement("estimated", 1500), Settlement("settled", 1100))
    await spend(services, "up", Settlement("estimated", 1500), Settlement("settled", 2500))
    await spend(services, "late", Settlement("void"), Settlement("settled", 1001))
    assert (await checked(services))["differences"] == []
    fields = (await services.ledger.standing(BUDGET)).fields
    assert (fields["overruns"], fields["overrun_nano"]) == (b"4", b"6001")


async def test_an_old_budget_that_forgot_overruns_is_named(trimmed: Services) -> None:
    """More may have been counted before; less may not."""
    await spend(trimmed, "c", Settlement("settled", 1500), budget=OLD)
    await trimmed.store.call("HINCRBY", OLD.budget, "overruns", 5)
    assert (await checked(trimmed))["differences"] == []
    await trimmed.store.call("HDEL", OLD.budget, "overruns", "overrun_nano")
    found = {each["what"].partition(" is less")[0] for each in (await checked(trimmed))["differences"]}
    assert found == {"overruns", "overrun_nano"}


async def test_an_old_budget_that_forgot_spend_is_named(trimmed: Services) -> None:
    """Its total may be more than what is left of the ledger, but not less."""
    left = -600 + 900 + 300 + 300
    await trimmed.store.call("HSET", OLD.budget, "booked_nano", left)
    assert (await checked(trimmed))["differences"] == []
    await trimmed.store.call("HINCRBY", OLD.budget, "booked_nano", -1)
    (found,) = (await checked(trimmed))["differences"]
    assert found["what"] == "booked_nano is less than what is left of the ledger"
    assert (found["stored_nano"], found["computed_nano"]) == (left - 1, left)


async def test_a_budget_in_use_raises_no_alarm(services: Services) -> None:
    """Requests are made while it reads, over more entries than one reading takes, and old entries are trimmed."""
    await age(services, days=91)
    done = asyncio.Event()
    ends = [
        (Settlement("estimated", 9), Settlement("settled", 7)),
        (Settlement("estimated", 5000), Settlement("settled", 3000)),
        (Settlement("void"), Settlement("settled", 2000)),
        (Settlement("settled", 0),),
    ]

    async def use(lane: int) -> None:
        number = 0
        while not done.is_set():
            budget = (BUDGET, BUDGET, BUDGET, OLD)[lane % 4]
            await spend(services, f"{lane}-{number}", *ends[number % 4], budget=budget)
            number += 1

    async with asyncio.TaskGroup() as users:
        for lane in range(8):
            users.create_task(use(lane))
        readings = 0
        while readings < 10 or len(await services.ledger.entries(BUDGET, most=1500)) < 1500:
            answer = await checked(services)
            assert answer["differences"] == []
            readings += 1
        done.set()
