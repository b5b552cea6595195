"""uses.lua and finish.lua: admission counts a grant's requests; the key is deleted when the grant has ended."""

import pytest

from tests.gateway.lua.direct import BUDGET, DAY_MS, FUNDING, KEEP_DAYS, Scripts

LIFE_MS = 3_600_000
HELD, NOT_CONNECTED = 0, -1


def grant(scripts: Scripts, uses: int, *, cap: int = 1000, life_ms: int = LIFE_MS) -> None:
    """Open the budget as a grant."""
    told = (cap, FUNDING, "wallet", "", "account", "", "receipt", "payer", "", "")
    scripts.approve(*told, uses, life_ms, KEEP_DAYS * DAY_MS)


def used(scripts: Scripts) -> int:
    return int(scripts.budget()["used"])


def expire(scripts: Scripts) -> None:
    """Move the grant's expiry into the past."""
    scripts.call("HSET", BUDGET.budget, "expires_ms", scripts.now_ms())


def test_a_grant_carries_so_many_requests_and_no_more(scripts: Scripts) -> None:
    """A request in flight counts; a repeat of an admitted one takes no further use, even of the last."""
    grant(scripts, 2)
    assert [scripts.admit(name, 10)[0] for name in ("a", "b", "c")] == [HELD, HELD, NOT_CONNECTED]
    before = scripts.dump()
    assert scripts.admit("b", 10)[:2] == [HELD, 10]
    assert scripts.dump() == before
    assert used(scripts) == 2


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        ([("void", 0)], 2),
        ([("void", 0), ("void", 0)], 2),
        ([("settled", 5), ("void", 0)], 1),
        ([("estimated", 5)], 1),
        ([("estimated", 5), ("void", 0)], 1),
        ([("estimated", 5), ("settled", 7)], 1),
        ([("void", 0), ("settled", 7), ("settled", 9)], 1),
        ([("settled", 0)], 1),
    ],
)
def test_a_use_comes_back_once_with_the_void_and_goes_with_a_later_cost(
    scripts: Scripts, steps: list[tuple[str, int]], left: int
) -> None:
    """In any order and number of outcomes: a billed request has used one use, any other none."""
    grant(scripts, 2)
    scripts.admit("a", 10)
    for status, cost in steps:
        scripts.settle("a", status, cost)
    assert 2 - used(scripts) == left


def test_a_request_whose_hold_was_lost_is_still_a_use(scripts: Scripts) -> None:
    """A failover that lost an admission lost its use; the cost takes one use again, a void takes none."""
    grant(scripts, 2)
    scripts.settle("never", "void")
    assert used(scripts) == 0
    scripts.settle("lost", "settled", 5)
    assert used(scripts) == 1


def test_no_fewer_than_none_are_left(scripts: Scripts) -> None:
    """The number left is at least 0, even if costs of lost holds made more uses than the grant has."""
    grant(scripts, 1)
    scripts.admit("a", 10)
    scripts.settle("lost", "settled", 5)
    assert used(scripts) == 2
    assert scripts.told("a", 10).split(b" ")[0] == b"0"


def test_the_funding_key_goes_with_the_last_hold_of_a_grant_that_is_used_up(scripts: Scripts) -> None:
    """The key is not deleted earlier, as a returned use needs it."""
    grant(scripts, 2)
    scripts.admit("a", 10)
    scripts.admit("b", 10)
    scripts.settle("a", "settled", 5)
    assert scripts.budget()["funding"] == FUNDING
    scripts.settle("b", "void")
    assert scripts.admit("c", 10)[6] == FUNDING.encode()
    scripts.settle("c", "settled", 5)
    assert "funding" not in scripts.budget()


def test_an_expired_grant_carries_nothing_and_loses_its_key(scripts: Scripts) -> None:
    """At once when nothing is open; else with the settlement of what is."""
    grant(scripts, 2)
    assert 0 < scripts.run("finish", [BUDGET.budget, BUDGET.due, BUDGET.events]) <= LIFE_MS
    scripts.admit("a", 10)
    expire(scripts)
    assert scripts.admit("b", 10)[0] == NOT_CONNECTED
    assert scripts.run("finish", [BUDGET.budget, BUDGET.due, BUDGET.events]) == 0
    assert scripts.budget()["funding"] == FUNDING
    scripts.settle("a", "settled", 5)
    assert "funding" not in scripts.budget()
    assert scripts.run("finish", [BUDGET.budget, BUDGET.due, BUDGET.events]) == -1


def test_a_grant_that_has_ended_is_given_no_other_key(scripts: Scripts) -> None:
    """A replaced wallet key is passed to open grants only."""
    grant(scripts, 1)
    assert scripts.run("fund", [BUDGET.budget, BUDGET.history, BUDGET.events], "wallet", "other", "r1") == 1
    scripts.admit("a", 10)
    scripts.settle("a", "settled", 5)
    assert scripts.run("fund", [BUDGET.budget, BUDGET.history, BUDGET.events], "wallet", "third", "r2") == 0
    assert "funding" not in scripts.budget()


def test_what_is_left_of_a_grant_goes_with_its_ledger(scripts: Scripts) -> None:
    """Every key of it has an end; a connection's budget has none."""
    grant(scripts, 2)
    scripts.admit("a", 10)
    scripts.settle("a", "settled", 5)
    for key in (BUDGET.budget, BUDGET.days, BUDGET.ledger, BUDGET.history, BUDGET.hold("a")):
        assert 0 < scripts.call("PTTL", key) <= LIFE_MS + KEEP_DAYS * DAY_MS


def test_a_connection_counts_nothing(scripts: Scripts) -> None:
    """No use, no end, no finish."""
    scripts.connect(1000)
    scripts.admit("a", 10)
    scripts.settle("a", "settled", 5)
    assert scripts.run("finish", [BUDGET.budget, BUDGET.due, BUDGET.events]) == -1
    assert scripts.budget()["funding"] == FUNDING
    assert "used" not in scripts.budget()
    assert scripts.call("PTTL", BUDGET.budget) == -1
