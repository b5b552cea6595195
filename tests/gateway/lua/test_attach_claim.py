"""attach.lua, claim.lua, index.lua: updates of an open hold, claims of overdue ones, and the budget lists."""

import math
from typing import Any

import pytest

from tests.gateway.lua.direct import BUDGET, LEASE_MS, Scripts

WRITTEN, NOT_OPEN = 1, 0


@pytest.fixture
def held(scripts: Scripts) -> Scripts:
    """One open hold, `a`."""
    scripts.connect(1000)
    scripts.admit("a", 100)
    return scripts


def test_what_is_known_is_written_down(held: Scripts) -> None:
    """Given fields are stored; fields that are not given keep their values."""
    assert held.attach("a", generation="gen-1") == [WRITTEN, 1, 0]
    assert held.attach("a", estimate=9, ended="client") == [WRITTEN, 1, 0]
    hold = held.hold("a")
    assert [hold[name] for name in ("generation_id", "estimate_nano", "ended_by")] == ["gen-1", "9", "client"]
    assert held.attach("a") == [WRITTEN, 1, 0]
    assert held.hold("a") == hold


def test_an_id_alone_is_written_into_an_open_hold(held: Scripts) -> None:
    """Only the id changes; a repeat changes nothing, a later id replaces it, a closed or unknown hold refuses it."""
    before = held.hold("a")
    for generation in ("gen-1", "gen-1", "gen-2"):
        assert held.note_id("a", generation) == [WRITTEN, 1, 0]
        assert held.hold("a") == before | {"generation_id": generation}
    held.settle("a", "settled", 5)
    stored = held.dump()
    for request_id in ("a", "never"):
        assert held.note_id(request_id, "gen-3") == [NOT_OPEN, 1, 0]
    assert held.dump() == stored


def test_the_mark_of_what_was_sent_outlives_every_other_step(held: Scripts) -> None:
    """The mark is a fraction of the due time: renewal, deferral, claim and re-marking keep it; no script sets it."""
    held.attach("a", due_ms=LEASE_MS)
    assert held.due()["a"] % 1 == 0
    due_ms = held.attach("a", due_ms=LEASE_MS)[2]
    assert due_ms == held.due()["a"]
    held.sent("a", due_ms)
    assert held.due()["a"] == due_ms + 0.5
    assert held.attach("a", due_ms=0)[2] == math.floor(held.due()["a"])
    assert held.due()["a"] % 1 == 0.5
    assert held.run("claim", [BUDGET.due, BUDGET.budget], LEASE_MS, 1)[4:] == [b"a"]
    assert held.due()["a"] % 1 == 0.5
    stored = held.dump()
    held.sent("a", math.floor(held.due()["a"]))
    held.admit("a", 100)
    assert held.dump() == stored


@pytest.mark.parametrize("is_known", [True, False])
def test_only_an_open_hold_is_marked_as_sent(held: Scripts, is_known: bool) -> None:
    """A late or repeated mark neither opens a hold nor lists it."""
    if is_known:
        held.settle("a", "settled", 5)
    else:
        held.call("FLUSHALL")
    stored = held.dump()
    held.sent("a", held.now_ms() + LEASE_MS)
    assert held.dump() == stored


def test_no_money_moves(held: Scripts) -> None:
    """Whatever is attached, budget and list of due holds stay, but for the time."""
    budget = held.budget()
    held.attach("a", generation="g", estimate=5, due_ms=5, attempt=1, ended="client")
    assert held.budget() == budget
    assert set(held.due()) == {"a"}


@pytest.mark.parametrize("status", ["settled", "estimated", "void"])
def test_a_closed_hold_takes_nothing_more(held: Scripts, status: str) -> None:
    """Code 0 for a closed hold and for one that was never placed; nothing is written."""
    held.settle("a", status, 5)
    stored = held.dump()
    for request_id in ("a", "never"):
        assert held.attach(request_id, generation="g", due_ms=5, attempt=1, funding="refused") == [NOT_OPEN, 1, 0]
    assert held.dump() == stored


def test_it_tells_whether_the_budget_is_active(held: Scripts) -> None:
    """The reply states the budget's status, so a renewing request learns of a pause or revocation that it missed."""
    held.change("pause")
    assert held.attach("a") == [WRITTEN, 0, 0]
    held.change("revoke")
    assert held.attach("a") == [WRITTEN, 0, 0]


def test_a_hold_lives_as_long_as_it_is_renewed(held: Scripts) -> None:
    """`due_ms` counts from now and may shorten too; a hold that left the list is not put back."""
    held.attach("a", due_ms=10 * LEASE_MS)
    assert held.due()["a"] > held.now_ms() + 9 * LEASE_MS
    held.attach("a", due_ms=0)
    assert held.due()["a"] <= held.now_ms()
    held.call("ZREM", BUDGET.due, "a")
    held.attach("a", due_ms=0)
    assert held.due() == {}


def test_look_ups_are_counted_and_the_first_is_timed(held: Scripts) -> None:
    """The sweeper backs off by the count and gives up by the time."""
    held.attach("a", attempt=1)
    first = held.hold("a")
    assert first["reconcile_ms"] != ""
    held.attach("a", attempt=1)
    hold = held.hold("a")
    assert (first["attempts"], hold["attempts"]) == ("1", "2")
    assert first["reconcile_ms"] == hold["reconcile_ms"]


def test_a_key_refused_inside_an_answer_rests_at_once(held: Scripts) -> None:
    """Only if it is still the key this hold was admitted with."""
    held.attach("a", funding="refused")
    assert held.admit("b", 1)[0] == -5
    held.connect(1000)
    held.attach("a", funding="refused")
    assert held.admit("c", 1)[0] == 0


def test_overdue_holds_are_claimed_once(held: Scripts) -> None:
    """Oldest first, up to a limit; a claimed hold is skipped until its claim ends; the next due time is returned."""
    for number, request_id in enumerate(("b", "c", "d")):
        held.admit(request_id, 1)
        held.call("ZADD", BUDGET.due, 1000 + number, request_id)
    now, started, due, _, *ids = held.run("claim", [BUDGET.due, BUDGET.budget], 30_000, 2)
    assert (ids, due) == ([b"b", b"c"], 1002)
    # The server's start time; 0 if the server does not report it.
    assert started <= now
    now, _, due, _, *ids = held.run("claim", [BUDGET.due, BUDGET.budget], 30_000, 2)
    assert ids == [b"d"]
    assert now + 30_000 - 5000 <= due <= now + 30_000
    assert held.run("claim", [BUDGET.due, BUDGET.budget], 30_000, 2)[4:] == []
    for request_id in "abcd":
        held.settle(request_id, "void")
    assert held.run("claim", [BUDGET.due, BUDGET.budget], 30_000, 2)[2:] == [-1, 0]
    held.call("HSET", BUDGET.budget, "unlisted_events", "1")
    assert held.run("claim", [BUDGET.due, BUDGET.budget], 30_000, 2)[2:] == [-1, 1]


SHARD = "wf:open:3"


def index(scripts: Scripts, verb: str, name: str, after_ms: int, most: int = 10) -> Any:
    return scripts.run("index", [SHARD], verb, name, after_ms, most)


def test_a_budget_is_listed_until_its_time_comes(scripts: Scripts) -> None:
    """`add` never brings the look forward, `keep` sets it, `look` lists what is ripe and puts it off."""
    index(scripts, "add", "x", 60_000)
    index(scripts, "add", "x", 0)
    assert index(scripts, "look", "", 0) == []
    index(scripts, "keep", "x", 0)
    index(scripts, "keep", "y", 0)
    assert sorted(index(scripts, "look", "", 60_000)) == [b"x", b"y"]
    assert index(scripts, "look", "", 60_000) == []


def test_a_look_takes_no_more_than_it_was_asked_for(scripts: Scripts) -> None:
    """What is left is there for the next one."""
    for name in "abc":
        index(scripts, "keep", name, 0)
    assert len(index(scripts, "look", "", 60_000, 2)) == 2
    assert len(index(scripts, "look", "", 60_000, 2)) == 1


def test_a_budget_is_dropped_only_when_nobody_listed_it_for_a_whole_rest(scripts: Scripts) -> None:
    """A process that listed it half a rest ago may admit a request without listing it again."""
    index(scripts, "keep", "x", 0)
    index(scripts, "rest", "x", -5)
    index(scripts, "rest", "x", -5)
    assert scripts.call("ZCARD", SHARD) == 1
    assert index(scripts, "look", "", 60_000) == [b"x"]
    index(scripts, "rest", "x", 0)
    assert scripts.call("ZCARD", SHARD) == 0


@pytest.mark.parametrize(("verb", "later_ms"), [("add", 60_000), ("keep", 60_000), ("add", -60_000)])
def test_a_budget_that_was_listed_anew_is_not_dropped(scripts: Scripts, verb: str, later_ms: int) -> None:
    """Between the look and the rest another process may have placed a hold there."""
    index(scripts, "keep", "x", 0)
    index(scripts, "rest", "x", -5)
    index(scripts, "look", "", -5)
    index(scripts, verb, "x", later_ms)
    index(scripts, "rest", "x", 0)
    assert scripts.call("ZCARD", SHARD) == 1
    assert float(scripts.call("ZSCORE", SHARD, "x")) % 1 == 0.5


def test_rest_lists_nothing_that_was_not_listed(scripts: Scripts) -> None:
    """`rest` defers a listed budget that a sweep found empty, and does not add one."""
    index(scripts, "rest", "x", 0)
    assert scripts.call("ZCARD", SHARD) == 0


def test_what_was_asked_of_a_running_request_is_forgotten_when_it_is_handed_over(scripts: Scripts) -> None:
    """OpenRouter creates the record at the end of a request, so look-ups made before do not count as attempts."""
    scripts.connect()
    scripts.admit("a", 10)
    scripts.attach("a", attempt=1)
    hold = scripts.hold("a")
    assert (hold["attempts"], hold["reconcile_ms"] != "") == ("1", True)
    scripts.attach("a", generation="gen-1", ended="client")
    hold = scripts.hold("a")
    assert (hold["attempts"], hold["reconcile_ms"]) == ("0", "")
