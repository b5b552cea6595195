"""settle.lua: a hold is settled once, at the stated cost; allowed orders of outcomes; the ledger's entries."""

import pytest

from tests.gateway.lua.direct import BUDGET, KEEP_DAYS, Scripts

FIRST, AGAIN = 1, 0


def place(scripts: Scripts, request_id: str = "a", nano: int = 100, *, cap: int | str = 1000) -> None:
    scripts.connect(cap)
    assert scripts.admit(request_id, nano)[0] == 0


def age(scripts: Scripts, request_id: str, days: int) -> None:
    """Move a hold and what was booked that many days back, as if it had been admitted then."""
    scripts.change_hold(request_id, day=int(scripts.hold(request_id)["day"]) - days)


def sums(scripts: Scripts) -> tuple[int, int, int, list[int]]:
    """Held, window, booked in all, day buckets."""
    budget = scripts.budget()
    return int(budget["held_nano"]), int(budget["window_nano"]), int(budget.get("booked_nano", 0)), scripts.days()


@pytest.mark.parametrize(("status", "cost"), [("settled", 40), ("estimated", 40), ("settled", 0), ("settled", 100)])
def test_a_hold_becomes_spend_at_its_cost(scripts: Scripts, status: str, cost: int) -> None:
    """The hold is closed, its cost is in the day, the window and the ledger; the sealed key is not kept."""
    place(scripts)
    assert scripts.settle("a", status, cost, generation="gen-1", model="m2") == [FIRST, status.encode(), cost, 0]
    assert sums(scripts) == (0, cost, cost, [cost] if cost else [])
    assert scripts.due() == {}
    hold = scripts.hold("a")
    assert (hold["state"], hold["cost_nano"], hold["generation_id"], hold["model"]) == (
        status,
        str(cost),
        "gen-1",
        "m2",
    )
    assert "funding" not in hold
    assert 0 < scripts.call("PTTL", BUDGET.hold("a")) <= KEEP_DAYS * 86_400_000
    (entry,) = scripts.entries()
    assert (entry["delta_nano"], entry["cost_nano"], entry["hold_nano"]) == (str(cost), str(cost), "100")
    assert (entry["status"], entry["model"], entry["day"]) == (status, "m2", hold["day"])


def test_round_amounts_stay_whole_numbers_on_every_server(scripts_with_exponents: Scripts) -> None:
    """Also where a server gives commands 3e8 as "3e+8": a balance of that form could not be added to any more."""
    scripts, dime = scripts_with_exponents, 10**8
    place(scripts, "a", 3 * dime, cap=100 * dime)
    assert scripts.budget()["held_nano"] == str(3 * dime)
    assert scripts.admit("b", "")[:2] == [2, 97 * dime]
    assert scripts.settle("a", "settled", 2 * dime)[:1] == [FIRST]
    assert sums(scripts) == (97 * dime, 2 * dime, 2 * dime, [2 * dime])
    assert scripts.settle("b", "void")[:1] == [FIRST]
    assert sums(scripts)[0] == 0


def test_a_void_owes_nothing(scripts: Scripts) -> None:
    """Whatever cost a caller names with it."""
    place(scripts)
    assert scripts.settle("a", "void", 55) == [FIRST, b"void", 0, 0]
    assert sums(scripts) == (0, 0, 0, [])
    assert [(entry["status"], entry["delta_nano"]) for entry in scripts.entries()] == [("void", "0")]


def test_a_cost_above_its_hold_is_recorded_in_full(scripts: Scripts) -> None:
    """The overrun is counted once for a request and summed."""
    place(scripts)
    assert scripts.settle("a", "settled", 130) == [FIRST, b"settled", 130, 30]
    budget = scripts.budget()
    assert (budget["overruns"], budget["overrun_nano"], budget["window_nano"]) == ("1", "30", "130")
    assert scripts.entries()[0]["overrun_nano"] == "30"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("settled", "settled"),
        ("settled", "estimated"),
        ("settled", "void"),
        ("estimated", "estimated"),
        ("estimated", "void"),
        ("void", "void"),
        ("void", "estimated"),
    ],
)
def test_a_repeat_returns_the_first_answer(scripts: Scripts, first: str, second: str) -> None:
    """Code 0, and no stored byte changes, whatever the repeat states."""
    place(scripts)
    answer = scripts.settle("a", first, 40)
    stored = scripts.dump()
    assert scripts.settle("a", second, 77, funding="refused") == [AGAIN, *answer[1:]]
    assert scripts.dump() == stored


@pytest.mark.parametrize(("first", "guess"), [("estimated", 40), ("estimated", 90), ("void", 0)])
def test_a_stated_cost_corrects_a_guess_once(scripts: Scripts, first: str, guess: int) -> None:
    """The ledger gets a second entry with the difference, up or down; after it nothing more."""
    place(scripts)
    scripts.settle("a", first, guess)
    assert scripts.settle("a", "settled", 60) == [FIRST, b"settled", 60, 0]
    assert sums(scripts)[:3] == (0, 60, 60)
    assert [int(entry["delta_nano"]) for entry in scripts.entries()] == [guess, 60 - guess]
    stored = scripts.dump()
    assert scripts.settle("a", "settled", 61) == [AGAIN, b"settled", 60, 0]
    assert scripts.dump() == stored


def test_an_overrun_that_grows_with_the_true_cost_is_one_overrun(scripts: Scripts) -> None:
    """An estimate above the hold, then a cost above the estimate."""
    place(scripts)
    scripts.settle("a", "estimated", 110)
    assert scripts.settle("a", "settled", 125) == [FIRST, b"settled", 125, 25]
    assert (scripts.budget()["overruns"], scripts.budget()["overrun_nano"]) == ("1", "25")


@pytest.mark.parametrize("first", [None, "void", "estimated"])
def test_a_hold_that_was_lost_is_still_owed(scripts: Scripts, first: str | None) -> None:
    """The cost of a hold that a failover lost is booked today, against a hold of 0, and is not counted as an overrun.

    The same if a void or an estimate of the lost hold was booked before.
    """
    scripts.connect(1000)
    if first is not None:
        scripts.settle("a", first, 20)
    assert scripts.settle("a", "settled", 60) == [FIRST, b"settled", 60, 0]
    budget = scripts.budget()
    assert (budget["window_nano"], budget["booked_nano"]) == ("60", "60")
    assert budget.get("held_nano", "0") == "0"
    assert "overruns" not in budget
    assert scripts.settle("a", "settled", 60)[0] == AGAIN


def test_a_void_of_nothing_leaves_word(scripts: Scripts) -> None:
    """No entry, no money: only that a late admission of this id must fail."""
    scripts.connect(1000)
    assert scripts.settle("a", "void") == [FIRST, b"void", 0, 0]
    assert scripts.entries() == []
    assert scripts.hold("a")["state"] == "void"
    assert scripts.settle("a", "void") == [AGAIN, b"void", 0, 0]


@pytest.mark.parametrize("status", ["void", "estimated", "settled"])
def test_a_name_whose_hold_is_gone_is_not_due_for_ever(scripts: Scripts, status: str) -> None:
    """Whatever is settled leaves the list of what is due, or the sweeper would claim it again and again."""
    place(scripts)
    scripts.call("DEL", BUDGET.hold("a"))
    scripts.settle("a", status, 5)
    assert scripts.due() == {}
    scripts.call("ZADD", BUDGET.due, 1, "a")
    scripts.settle("a", status, 5)
    assert scripts.due() == {}


def test_spend_belongs_to_the_day_of_its_admission(scripts: Scripts) -> None:
    """In the window while that day is; in the buckets while the ledger keeps them; in the lifetime sum for ever."""
    for number, (days, window, buckets) in enumerate(
        [(29, 5, [5]), (30, 5, [5, 5]), (KEEP_DAYS - 1, 5, [5, 5, 5]), (KEEP_DAYS, 5, [5, 5, 5])]
    ):
        place(scripts, str(number))
        age(scripts, str(number), days)
        scripts.settle(str(number), "settled", 5)
        assert sums(scripts) == (0, window, 5 * (number + 1), buckets)


def test_an_estimate_is_corrected_in_its_own_day(scripts: Scripts) -> None:
    """The difference is booked on the estimate's day; a day that has left the window does not return to it."""
    place(scripts)
    scripts.settle("a", "estimated", 50)
    today = scripts.now_ms() // 86_400_000
    scripts.call("DEL", BUDGET.days)
    scripts.call("HSET", BUDGET.days, today - 30, 50)
    scripts.call("HSET", BUDGET.budget, "window_nano", 0)
    age(scripts, "a", 30)
    scripts.settle("a", "settled", 80)
    assert sums(scripts) == (0, 0, 80, [80])


def test_old_entries_go_and_new_ones_stay(scripts: Scripts) -> None:
    """The stream is trimmed by age as it grows, and keeps at least the configured days."""
    old = scripts.now_ms() - (KEEP_DAYS + 1) * 86_400_000
    scripts.connect(1000)
    scripts.settle("old", "settled", 5)
    closed = scripts.call("GET", BUDGET.hold("old")).rpartition(b"\n")[0]
    scripts.call("DEL", BUDGET.ledger, BUDGET.days)
    for number in range(300):
        scripts.call(
            "XADD", BUDGET.ledger, f"{old + number}-0", "request_id", "old", "delta_nano", "5", "closed", closed
        )
    place(scripts)
    scripts.settle("a", "settled", 5)
    entries = scripts.entries()
    assert len(entries) < 150
    assert entries[-1]["request_id"] == "a"


def test_what_was_learnt_of_the_funding_key_counts_for_that_key_alone(scripts: Scripts) -> None:
    """The stated state of a replaced key is not applied to the key that replaced it."""
    place(scripts, "a")
    scripts.admit("b", 1)
    scripts.settle("a", "void", funding="refused")
    assert scripts.budget()["funding_refused"] == "1"
    scripts.settle("b", "settled", 1, funding="works")
    assert "funding_refused" not in scripts.budget()
    scripts.admit("c", 1)
    scripts.connect(1000)
    scripts.settle("c", "void", funding="refused")
    assert "funding_refused" not in scripts.budget()


@pytest.mark.parametrize("verb", ["pause", "revoke"])
def test_a_budget_that_ended_still_pays_what_it_owes(scripts: Scripts, verb: str) -> None:
    """A revocation refuses new requests; costs of earlier ones are still booked."""
    place(scripts)
    scripts.change(verb)
    assert scripts.settle("a", "settled", 70)[0] == FIRST
    assert sums(scripts) == (0, 70, 70, [70])


def test_what_was_ever_booked_stays_exact_beyond_a_double(scripts: Scripts) -> None:
    """The sums are added in Lua up to 2**53 nano-USD; what was ever booked may be more."""
    booked = 2**53 - 100
    scripts.call("HSET", BUDGET.budget, "booked_nano", booked)
    for number, cost in enumerate((99, 2, 3)):
        place(scripts, f"r{number}", cap="")
        assert scripts.settle(f"r{number}", "settled", cost) == [FIRST, b"settled", cost, 0]
        booked += cost
        assert scripts.budget()["booked_nano"] == str(booked)
    assert scripts.budget()["window_nano"] == "104"
