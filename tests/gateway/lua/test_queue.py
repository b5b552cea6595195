"""admit.lua and leave.lua if the bound does not fit: terms, queue order, shortened holds, and wake-ups."""

from typing import Any

import pytest

from tests.gateway.lua.direct import BUDGET, Scripts

HELD, SHORTENED, ALL_HELD, SHORTENED_ALL_HELD = 0, 1, 2, 3
CAP_SPENT, TOO_LITTLE, IN_FLIGHT, NEEDS_TERMS, WAITS = -2, -3, -4, -7, -8
HERE, THERE = "wf:wakes:here", "wf:wakes:there"
# A bound of 800, of which 300 are expected.
DEMAND: dict[str, Any] = {"fixed": 700, "per_token": "1", "min_tokens": 16, "expected": (300, 200, "1")}


@pytest.fixture
def busy(scripts: Scripts) -> Scripts:
    """A cap of 1000 of which another request holds 900."""
    scripts.connect(1000)
    assert scripts.admit("other", 900)[0] == HELD
    return scripts


def waits(scripts: Scripts, name: str, *, channel: str = HERE, **more: Any) -> int:
    """Ask on all terms; return the place of a request that must wait."""
    found = scripts.admit(name, 800, **{**DEMAND, "channel": channel, **more})
    assert found[0] == WAITS
    place: int = found[1]
    return place


def queue(scripts: Scripts) -> list[str]:
    """Return the waiting requests in order."""
    return [each.decode().split(" ")[1] for each in scripts.call("ZRANGE", BUDGET.queue, 0, -1)]


def crowd(scripts: Scripts, channel: str, many: int) -> None:
    """Put so many waiters of a process before all others."""
    places = ((number / many, f"{channel} crowd-{number}") for number in range(many))
    scripts.call("ZADD", BUDGET.queue, *(word for place in places for word in place))


def expire(scripts: Scripts, channel: str) -> None:
    """End the lease of a process, as a kill does after a second and a half."""
    scripts.call("HSET", BUDGET.alive, channel, 1)


def test_a_bound_that_fits_asks_for_no_terms(scripts: Scripts) -> None:
    """A bound that fits is admitted in one round trip without a queue."""
    scripts.connect(1000)
    assert scripts.admit("a", 800, has_terms=False, channel=HERE)[:2] == [HELD, 800]
    assert scripts.budget().keys().isdisjoint({"waiting_ms", "arrivals", "beyond"})


def test_a_bound_that_does_not_fit_is_asked_for_its_terms_and_keeps_its_place(busy: Scripts) -> None:
    """Requests that arrive before the terms do are queued behind it."""
    assert busy.admit("a", 800, has_terms=False, channel=HERE)[:2] == [NEEDS_TERMS, 1]
    assert busy.admit("small", 50, has_terms=False, channel=HERE)[:2] == [WAITS, 2]
    busy.settle("other", "void")
    assert busy.admit("a", 800, place=1, channel=HERE, **DEMAND)[:2] == [HELD, 800]
    assert queue(busy) == ["small"]
    assert busy.admit("small", 50, has_terms=False, channel=HERE, place=2)[:2] == [HELD, 50]


def test_what_is_expected_fits_with_all_that_is_left_held(scripts: Scripts) -> None:
    """Code 2, for one open request of the budget at a time; the next one has to fit with its bound."""
    scripts.connect(1000)
    scripts.admit("bound", 400)
    assert scripts.admit("a", 800, **DEMAND)[:2] == [ALL_HELD, 600]
    assert scripts.budget()["held_nano"] == "1000"
    scripts.settle("bound", "void")
    assert scripts.admit("b", 800, **DEMAND)[0] == IN_FLIGHT
    assert scripts.admit("c", 400)[:2] == [HELD, 400]
    scripts.settle("a", "settled", 300)
    scripts.settle("c", "void")
    assert scripts.admit("b", 800, **DEMAND)[:2] == [ALL_HELD, 700]


def test_where_nothing_goes_beyond_its_bound_all_is_shortened_or_waits(scripts: Scripts) -> None:
    """WATTFARE_HOLDS=bound leaves step 4 out."""
    scripts.connect(1000)
    scripts.admit("other", 400)
    strict: dict[str, Any] = {"fixed": 500, "per_token": "1", "min_tokens": 16}
    assert scripts.admit("a", 800, channel=HERE, **strict)[0] == WAITS
    assert scripts.admit("a", 800, channel=HERE, place="-", **strict)[:3] == [SHORTENED, 599, 99]


def test_after_its_wait_it_is_shortened_with_all_that_is_left_held(busy: Scripts) -> None:
    """Code 3: to what the rest affords of what is expected; no more than the bound of that is held."""
    place = waits(busy, "a", expected=(300, 50, "1"))
    assert place == 1
    short = {**DEMAND, "expected": (300, 50, "1")}
    assert busy.admit("a", 800, channel=HERE, place="-", **short)[:3] == [SHORTENED_ALL_HELD, 100, 49]
    assert queue(busy) == []


def test_what_would_not_fit_alone_is_shortened_at_once(scripts: Scripts) -> None:
    """Waiting would not help it; without room for its floor it waits for that."""
    scripts.connect(1000)
    large: dict[str, Any] = {
        "fixed": 100,
        "per_token": "1",
        "min_tokens": 500,
        "expected": (5000, 100, "1"),
        "channel": HERE,
    }
    assert scripts.admit("a", 9000, **large)[:3] == [SHORTENED, 999, 899]
    assert scripts.admit("b", 9000, **large)[0] == WAITS
    scripts.settle("a", "settled", 600)
    assert scripts.admit("b", 9000, place=1, **large)[0] == TOO_LITTLE


def test_what_must_not_be_shortened_is_refused(scripts: Scripts) -> None:
    """Where it would not fit alone; else it waits for the others."""
    scripts.connect(1000)
    never: dict[str, Any] = {"fixed": 100, "per_token": "1", "min_tokens": "-", "channel": HERE}
    assert scripts.admit("a", 5000, expected=(5000, 100, "1"), **never)[0] == TOO_LITTLE
    scripts.admit("other", 900)
    assert scripts.admit("b", 900, expected=(500, 100, "1"), **never)[0] == WAITS
    over = {**never, "place": "-"}
    assert scripts.admit("b", 900, expected=(500, 100, "1"), **over)[0] == IN_FLIGHT


def test_without_a_channel_nobody_waits(busy: Scripts) -> None:
    """A request without a channel is refused because of the requests in flight, and does not overtake the queue."""
    assert busy.admit("a", 800, **DEMAND)[0] == IN_FLIGHT
    waits(busy, "b")
    assert busy.admit("small", 50)[0] == IN_FLIGHT
    assert queue(busy) == ["b"]


def test_newcomers_queue_behind_and_the_first_goes_first(busy: Scripts) -> None:
    """Also a newcomer that would fit; the second does not overtake the first, however often it polls."""
    waits(busy, "large")
    assert busy.admit("small", 50, channel=THERE)[:2] == [WAITS, 2]
    busy.settle("other", "void")
    assert busy.admit("small", 50, channel=THERE, place=2)[0] == WAITS
    assert busy.admit("large", 800, channel=HERE, place=1, **DEMAND)[0] == HELD
    assert busy.admit("small", 50, channel=THERE, place=2)[0] == HELD
    assert not busy.call("EXISTS", BUDGET.queue, BUDGET.alive)
    assert "waiting_ms" not in busy.budget()


def test_a_dead_processs_waiters_are_passed_over(busy: Scripts) -> None:
    """Any number of them, each dropped once; a process that was only slow gets its place back."""
    crowd(busy, THERE, 1200)
    waits(busy, "first-of-there", channel=THERE)
    waits(busy, "a")
    busy.settle("other", "void")
    assert busy.admit("a", 800, channel=HERE, place=2, **DEMAND)[0] == WAITS
    expire(busy, THERE)
    slow = waits(busy, "b")
    assert busy.admit("a", 800, channel=HERE, place=2, **DEMAND)[0] == HELD
    assert queue(busy) == ["b"]
    assert busy.admit("slow", 50, channel=THERE, place=1)[0] == HELD
    assert busy.admit("b", 800, channel=HERE, place=slow, **DEMAND)[0] == WAITS


def test_a_queue_whose_processes_are_all_dead_is_forgotten(busy: Scripts) -> None:
    """The next request deletes it in one step; without one, it expires."""
    waits(busy, "a")
    assert 0 < busy.call("PTTL", BUDGET.queue) <= 6000
    assert 0 < busy.call("PTTL", BUDGET.alive) <= 6000
    busy.call("HSET", BUDGET.budget, "waiting_ms", 1)
    assert busy.admit("small", 50, has_terms=False)[0] == HELD
    assert not busy.call("EXISTS", BUDGET.queue, BUDGET.alive)
    assert "waiting_ms" not in busy.budget()


def test_a_refusal_is_not_remembered(busy: Scripts) -> None:
    """The same id may be admitted later; a refused request is in no queue."""
    waits(busy, "a")
    busy.call("HSET", BUDGET.budget, "cap_nano", 100)
    assert busy.admit("a", 800, channel=HERE, place=1, **DEMAND)[0] == TOO_LITTLE
    assert queue(busy) == []
    busy.call("HSET", BUDGET.budget, "cap_nano", 5000)
    assert busy.admit("a", 800, channel=HERE, **DEMAND)[0] == HELD


def test_a_repeat_of_a_waiter_that_has_its_hold_waits_no_more(busy: Scripts) -> None:
    """Its answer was lost: it gets the first one again and leaves no place behind."""
    waits(busy, "a")
    busy.settle("other", "void")
    first = busy.admit("a", 800, channel=HERE, place=1, **DEMAND)
    busy.admit("next", 800, channel=HERE, **DEMAND)
    stored = busy.dump()
    assert busy.admit("a", 800, channel=HERE, place=1, **DEMAND)[:2] == first[:2] == [HELD, 800]
    assert busy.dump() == stored


def test_a_queue_holds_so_many_and_no_more(busy: Scripts) -> None:
    """A request that finds the queue full is refused, and may retry."""
    crowd(busy, HERE, 9_999)
    waits(busy, "a")
    assert busy.admit("b", 800, channel=HERE, **DEMAND)[0] == IN_FLIGHT


@pytest.mark.parametrize("act", ["settle", "leave", "refusal", "change", "connect"])
def test_who_is_first_is_told(busy: Scripts, act: str) -> None:
    """The first is woken when budget is released, when the one before it leaves, and when the cap changes."""
    said = busy.listening(HERE)
    waits(busy, "a", channel=THERE)
    waits(busy, "b")
    if act == "settle":
        busy.run("leave", [BUDGET.budget, BUDGET.queue, BUDGET.alive], THERE, "a")
        assert said() == f"{BUDGET.queue} b"
        busy.settle("other", "settled", 900)
    elif act == "leave":
        busy.run("leave", [BUDGET.budget, BUDGET.queue, BUDGET.alive], THERE, "a")
        assert busy.run("leave", [BUDGET.budget, BUDGET.queue, BUDGET.alive], THERE, "a") == 1
        assert queue(busy) == ["b"]
    elif act == "refusal":
        assert busy.admit("a", 800, channel=THERE, place="-", **{**DEMAND, "min_tokens": "-"})[0] == IN_FLIGHT
    elif act == "change":
        busy.change("cap", 5000)
    else:
        busy.connect(5000)
    assert said() == f"{BUDGET.queue} " + ("" if act in ("change", "connect") else "b")


def test_who_took_all_that_was_left_wakes_nobody(busy: Scripts) -> None:
    """There is nothing for the next one."""
    said = busy.listening(HERE)
    waits(busy, "a")
    waits(busy, "b")
    busy.settle("other", "settled", 500)
    assert said() == f"{BUDGET.queue} a"
    assert busy.admit("a", 800, channel=HERE, place=1, **DEMAND)[:2] == [ALL_HELD, 500]
    busy.call("PUBLISH", HERE, "nothing was said before this")
    assert said() == "nothing was said before this"
