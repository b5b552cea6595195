"""Scripts of one answer: beat, rate, app_pace, gateways, begin, extend, decide, replace. Each answer, each repeat."""

import pytest

from tests.gateway.lua.direct import BUDGET, FUNDING, Scripts


def beat(
    scripts: Scripts, epoch: str, *, begin: int = 0, accept: int = 0, known: str = "", seen: int = 0
) -> list[object]:
    found: list[object] = scripts.run("beat", ["wf:instance"], epoch, f"salt-{epoch}", begin, accept, known, seen)
    # The last is a time; `since_ms` has a test of its own.
    return found[:-1]


def since_ms(scripts: Scripts) -> int:
    return int(scripts.run("beat", ["wf:instance"], "", "", 0, 0, "", 0)[-1])


def test_an_acceptance_is_younger_than_the_beginning_and_than_every_one_before(scripts: Scripts) -> None:
    """Two in one millisecond too; a beat changes nothing of it."""
    beat(scripts, "e1", begin=1)
    seen = [since_ms(scripts), since_ms(scripts)]
    assert seen[0] == seen[1] > 0
    for number in range(3):
        beat(scripts, f"a{number}", accept=1)
        seen.append(since_ms(scripts))
    assert sorted(set(seen)) == seen[1:]


def test_an_empty_redis_is_begun_only_by_who_knew_none(scripts: Scripts) -> None:
    """A process that knew an epoch gets "empty", and the Redis stays without one."""
    assert beat(scripts, "e1", known="e0", seen=5) == [b"", b"", 0, 0, 0]
    assert scripts.dump() == {}
    assert beat(scripts, "e1", begin=1) == [b"e1", b"salt-e1", 1, 0, 0]
    assert beat(scripts, "e2", begin=1) == [b"e1", b"salt-e1", 2, 0, 0]


def test_an_older_copy_stays_older_for_everybody(scripts: Scripts) -> None:
    """Once somebody knew a newer beat, neither counting on nor a caller without memory makes it young again."""
    beat(scripts, "e1", begin=1)
    assert beat(scripts, "x", known="e1", seen=9) == [b"e1", b"salt-e1", 2, 0, 1]
    for _ in range(10):
        assert beat(scripts, "x", begin=1)[-1] == 1
    assert beat(scripts, "x", known="e1", seen=9)[-1] == 1
    assert beat(scripts, "e2", accept=1, known="e1", seen=9) == [b"e2", b"salt-e1", 14, 1, 0]
    assert beat(scripts, "x", known="e2", seen=14)[-1] == 0


def test_an_operator_accepts_whatever_is_there(scripts: Scripts) -> None:
    """On the operator's command, an empty or a foreign Redis gets a new epoch that is marked as accepted."""
    assert beat(scripts, "e1", accept=1) == [b"e1", b"salt-e1", 1, 1, 0]
    assert beat(scripts, "e2", accept=1) == [b"e2", b"salt-e1", 2, 1, 0]
    assert beat(scripts, "e3", known="other", seen=99) == [b"e2", b"salt-e1", 3, 1, 0]


def rate(scripts: Scripts, call: str, window_ms: int = 60_000) -> int:
    wait: int = scripts.run("rate", ["calls"], 2, window_ms, call)
    return wait


def test_a_window_lets_so_many_through_and_no_more(scripts: Scripts) -> None:
    """Refused calls get the time to wait and do not count; a repeated call counts once."""
    assert [rate(scripts, call) for call in ("a", "b", "a", "b")] == [0, 0, 0, 0]
    assert 0 < rate(scripts, "c") <= 60_000
    assert scripts.call("ZCARD", "calls") == 2
    scripts.call("ZINCRBY", "calls", -60_000, "a")
    assert rate(scripts, "c") == 0
    assert rate(scripts, "d") > 0
    assert 0 < scripts.call("PTTL", "calls") <= 60_000


def app_pace(scripts: Scripts, report: str, calls: int, since_ms: int = 0) -> float:
    return float(scripts.run("app_pace", ["pace", report], calls, 60, since_ms))


def test_the_calls_of_a_report_count_once_and_spread_over_the_time_in_which_they_came(scripts: Scripts) -> None:
    """At 60 a minute each call takes one second; old calls have expired; the wait is bounded."""
    assert 4_900 < app_pace(scripts, "a", 5) <= 5_000
    assert 4_500 < app_pace(scripts, "a", 5) <= 5_000
    assert 7_500 < app_pace(scripts, "b", 3) <= 8_000
    # Of ten calls in twenty seconds on an idle app nothing is left.
    scripts.call("DEL", "pace")
    assert app_pace(scripts, "c", 10, 20_000) == 0
    assert 1_500 < app_pace(scripts, "d", 12, 10_000) <= 2_000
    scripts.call("SET", "pace", "99999999999999")
    assert 119_000 < app_pace(scripts, "e", 1) <= 120_000
    assert {0 < scripts.call("PTTL", key) <= 120_000 for key in ("pace", "a", "e")} == {True}


def gateways(scripts: Scripts, process: str, alive_ms: int = 5_000) -> set[bytes]:
    return set(scripts.run("gateways", ["gateways"], process, alive_ms))


def test_who_is_alive_is_listed(scripts: Scripts) -> None:
    """A process signs on, may sign off, and is forgotten when it gave no sign of life; asking alone writes nothing."""
    assert gateways(scripts, "p1") == {b"p1"}
    assert gateways(scripts, "p2") == {b"p1", b"p2"}
    assert gateways(scripts, "") == {b"p1", b"p2"}
    assert gateways(scripts, "p2", 0) == {b"p1"}
    scripts.call("ZINCRBY", "gateways", -5_001, "p1")
    assert gateways(scripts, "") == set()


def begin(scripts: Scripts, browser: str, asked: str = "asked") -> int:
    code: int = scripts.run("begin", ["attempt"], browser, asked, 60_000, 5_000)
    return code


def test_an_attempt_is_opened_by_one_browser(scripts: Scripts) -> None:
    """1: opened, 0: repeated, -1: another browser; the request is frozen; the record expires."""
    assert [begin(scripts, "b"), begin(scripts, "b", "more"), begin(scripts, "thief")] == [1, 0, -1]
    assert scripts.fields("attempt")["asked"] == "asked"
    assert 60_000 < scripts.call("PTTL", "attempt") <= 65_000


def extend(scripts: Scripts, expires_ms: str | int, *, most: int = 2, life_ms: int = 90_000) -> int:
    code: int = scripts.run("extend", ["attempt"], life_ms, 5_000, most, expires_ms)
    return code


def test_an_attempt_is_extended_from_the_end_that_is_known_and_not_for_ever(scripts: Scripts) -> None:
    """A repeat states the old end and changes nothing; there is a maximum; an expired or decided attempt stays so."""
    assert extend(scripts, 1) == -1
    begin(scripts, "b")
    for _ in range(2):
        end = scripts.call("HGET", "attempt", "expires_ms")
        assert [extend(scripts, end, life_ms=90_000), extend(scripts, end)] == [1, 0]
        assert int(scripts.call("HGET", "attempt", "expires_ms")) > int(end)
        assert 90_000 < scripts.call("PTTL", "attempt") <= 95_000
    assert extend(scripts, scripts.call("HGET", "attempt", "expires_ms")) == 0
    scripts.call("HSET", "attempt", "expires_ms", 1)
    assert extend(scripts, 1, most=9) == -2
    scripts.call("HSET", "attempt", "state", "denied")
    assert extend(scripts, 1, most=9) == -3


def decide(scripts: Scripts, verb: str, decision: str = "") -> list[object]:
    found: list[object] = scripts.run("decide", ["attempt"], verb, decision)
    return found


def test_an_attempt_goes_one_way(scripts: Scripts) -> None:
    """Claimed, held, approved: each step once; the first decision is final."""
    assert decide(scripts, "claim", "d") == [-1, b"", b""]
    begin(scripts, "b")
    assert decide(scripts, "approve") == [-3, b"pending", b""]
    assert decide(scripts, "claim", "d") == [1, b"claimed", b"d"]
    assert decide(scripts, "claim", "other") == [0, b"claimed", b"d"]
    assert decide(scripts, "deny") == [-3, b"claimed", b"d"]
    assert decide(scripts, "hold") == [1, b"held", b"d"]
    assert decide(scripts, "claim", "other") == [0, b"held", b"d"]
    assert decide(scripts, "approve") == [1, b"approved", b"d"]
    assert [decide(scripts, verb)[0] for verb in ("claim", "hold", "approve", "deny")] == [0, 0, 0, -3]


@pytest.mark.parametrize("verb", ["claim", "deny"])
def test_an_attempt_expires(scripts: Scripts, verb: str) -> None:
    """What is pending past its life is decided no more; what was claimed in time is finished."""
    begin(scripts, "b")
    scripts.call("HINCRBY", "attempt", "expires_ms", -60_000)
    assert decide(scripts, verb)[:2] == [-2, b"pending"]
    scripts.call("HSET", "attempt", "state", "claimed")
    assert decide(scripts, "approve")[0] == 1


def test_a_denied_attempt_stays_denied(scripts: Scripts) -> None:
    """A denial is final and may be repeated."""
    begin(scripts, "b")
    assert [decide(scripts, verb)[0] for verb in ("deny", "deny", "claim", "approve")] == [1, 0, -3, -3]


def test_a_sealed_value_is_replaced_only_while_it_is_the_one_that_was_read(scripts: Scripts) -> None:
    """A key that was changed or deleted meanwhile is left as it is."""
    scripts.call("HSET", "holder", "funding", "old")
    assert [scripts.run("replace", ["holder"], "funding", "old", "new") for _ in range(2)] == [1, 0]
    assert scripts.run("replace", ["holder"], "other", "", "new") == 0
    assert scripts.fields("holder") == {"funding": "new"}


def test_the_key_in_an_open_hold_is_replaced_and_nothing_else_of_it(scripts: Scripts) -> None:
    """Only while it is the one that was read; a closed hold has none."""
    scripts.connect(1000)
    scripts.admit("a", 100)
    before = scripts.hold("a")
    name = BUDGET.hold("a")
    assert [scripts.run("replace", [name], "", FUNDING, "other") for _ in range(2)] == [1, 0]
    assert scripts.hold("a") == before | {"funding": "other"}
    scripts.settle("a", "settled", 5)
    stored = scripts.dump()
    assert scripts.run("replace", [name], "", scripts.call("GET", name), "x") == 0
    assert scripts.run("replace", [BUDGET.hold("b")], "", "other", "x") == 0
    assert scripts.dump() == stored
