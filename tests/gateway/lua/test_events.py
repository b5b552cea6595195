"""What the scripts write for webhooks, in the step that they tell of: each once, and nothing that did not happen."""

import pytest

from tests.gateway.lua.direct import BUDGET, Scripts
from tests.gateway.lua.test_uses import expire, grant


def written(scripts: Scripts, *names: str) -> list[tuple[str, ...]]:
    """What was written, each event by its type and the fields of these names."""
    events = scripts.stream(BUDGET.events)
    return [(event["event"], *(event[name] for name in names if name in event)) for event in events]


def spend(scripts: Scripts, request_id: str, nano: int, *, funding: str = "") -> int:
    """Admit and settle a request; the code of its settlement."""
    scripts.admit(request_id, nano)
    code: int = scripts.settle(request_id, "settled", nano, funding=funding)[0]
    return code


def thresholds(scripts: Scripts) -> list[tuple[str, ...]]:
    """The events of thresholds: percent, cap and spend."""
    names = ("percent", "cap_nano", "spent_nano")
    return [event[1:] for event in written(scripts, *names) if event[0] == "budget.threshold"]


def test_each_threshold_is_written_by_the_settlement_that_reaches_it(scripts: Scripts) -> None:
    """Not a nano before; both where it passes two; none again, whatever is repeated or spent after."""
    scripts.connect(1000)
    codes = [
        spend(scripts, name, nano) for name, nano in (("a", 499), ("b", 1), ("c", 299), ("d", 1), ("e", 1), ("f", 199))
    ]
    assert codes == [1, 2, 1, 2, 1, 2]
    scripts.settle("f", "settled", 199)
    scripts.settle("lost", "settled", 7)
    assert thresholds(scripts) == [("50", "1000", "500"), ("80", "1000", "800"), ("100", "1000", "1000")]


def test_one_settlement_may_reach_more_than_one(scripts: Scripts) -> None:
    """Each has an event, the lowest first."""
    scripts.connect(999)
    assert spend(scripts, "a", 800) == 2
    assert thresholds(scripts) == [("50", "999", "800"), ("80", "999", "800")]


def test_a_threshold_is_written_again_once_its_day_has_left_the_window(scripts: Scripts) -> None:
    """Within the thirty days it is not, also where spend fell below it and rose again."""
    scripts.connect(1000)
    spend(scripts, "a", 600)
    today = int(scripts.budget()["window_day"])

    def pass_days(count: int) -> None:
        """Move the events' days back by so many days, and begin a new day."""
        days = scripts.budget()["threshold_days"].split()
        moved = " ".join(str(int(day) - count if int(day) else 0) for day in days)
        scripts.call("HSET", BUDGET.budget, "threshold_days", moved, "window_day", today - 1)
        scripts.call("HDEL", BUDGET.days, today)

    pass_days(29)
    spend(scripts, "b", 600)
    assert len(thresholds(scripts)) == 1
    pass_days(1)
    spend(scripts, "c", 600)
    assert [percent for percent, _, _ in thresholds(scripts)] == ["50", "50"]


def test_a_connection_that_returns_has_its_thresholds(scripts: Scripts) -> None:
    """Also where a request was settled while it was ended: then nothing is told, whatever is spent."""
    scripts.connect(1000)
    scripts.admit("a", 400)
    scripts.change("revoke")
    scripts.settle("a", "settled", 400)
    scripts.connect(1000)
    spend(scripts, "b", 200)
    assert thresholds(scripts) == [("50", "1000", "600")]


@pytest.mark.parametrize("raise_it", ["cap", "connect"])
def test_another_cap_begins_anew(scripts: Scripts, raise_it: str) -> None:
    """What share of it is spent is another; the same cap once more changes nothing."""
    scripts.connect(1000)
    spend(scripts, "a", 900)
    scripts.connect(1000)
    spend(scripts, "b", 10)
    assert len(thresholds(scripts)) == 2
    (scripts.change("cap", 1800) if raise_it == "cap" else scripts.connect(1800))
    spend(scripts, "c", 10)
    assert thresholds(scripts)[2:] == [("50", "1800", "920")]


def test_a_budget_without_a_cap_or_revoked_has_no_thresholds(scripts: Scripts) -> None:
    """Test mode knows no cap; what is booked after a revocation is spend, and no app's budget any more."""
    scripts.connect("", funding="")
    scripts.admit("a", 900, funded=False)
    assert scripts.settle("a", "settled", 900)[0] == 1
    scripts.connect(1000)
    scripts.admit("b", 100)
    scripts.change("revoke")
    assert scripts.settle("b", "settled", 100)[0] == 1
    assert thresholds(scripts) == []


def test_a_refused_key_is_one_event_until_it_worked_or_was_replaced(scripts: Scripts) -> None:
    """By the settlement that learnt it, or by the word inside an answer; a key that was replaced since is no news."""
    scripts.connect(10**6)
    for name in ("a", "b", "c", "d", "e"):
        scripts.admit(name, 1)
    assert scripts.settle("a", "void", funding="refused")[0] == 2
    assert scripts.settle("b", "void", funding="refused")[0] == 1
    scripts.attach("c", funding="refused")
    assert written(scripts) == [("connection.created",), ("funding.invalid",)]
    assert scripts.settle("c", "settled", 1, funding="works")[0] == 1
    scripts.attach("d", funding="refused")
    assert written(scripts)[2:] == [("funding.invalid",)]
    scripts.connect(10**6)
    scripts.settle("e", "void", funding="refused")
    assert written(scripts, "change")[3:] == [("connection.updated", "approved")]


def test_a_grants_end_is_one_event(scripts: Scripts) -> None:
    """When nothing of it is open any more; a void that gives the last use back is no end."""
    grant(scripts, 2)
    for name in ("a", "b"):
        scripts.admit(name, 10)
    scripts.settle("a", "settled", 5)
    scripts.settle("b", "void")
    assert written(scripts) == []
    scripts.admit("c", 10)
    assert scripts.settle("c", "settled", 6)[0] == 2
    scripts.settle("c", "settled", 6)
    scripts.change("revoke")
    expire(scripts)
    assert scripts.run("finish", [BUDGET.budget, BUDGET.due, BUDGET.events]) == -1
    ended = ("grant.ended", "used_up", "2", "2", "1000", "11")
    assert written(scripts, "reason", "uses", "used", "cap_nano", "spent_nano") == [ended]


@pytest.mark.parametrize("reason", ["expired", "revoked"])
def test_a_grant_that_expires_or_is_ended_says_so(scripts: Scripts, reason: str) -> None:
    """By whoever ends it: the payer's word, or the sweeper's look after its time."""
    grant(scripts, 2)
    for _ in range(2):
        if reason == "revoked":
            scripts.change("revoke")
        else:
            expire(scripts)
        scripts.run("finish", [BUDGET.budget, BUDGET.due, BUDGET.events])
    assert written(scripts, "reason", "used") == [("grant.ended", reason, "0")]


def test_each_change_of_a_connection_is_an_event_and_a_repeat_is_none(scripts: Scripts) -> None:
    """An app sees who made it, and what is allowed since."""
    scripts.connect(1000)
    for verb, cap in (("pause", ""), ("pause", ""), ("resume", ""), ("lower", 900), ("lower", 900), ("bar", "")):
        scripts.change(verb, cap, "app" if verb == "lower" else "payer")
    scripts.call("HSET", BUDGET.budget, "wallet", "w")
    for _ in range(2):
        scripts.run("fund", [BUDGET.budget, BUDGET.history, BUDGET.events], "w", "", "r1")
    scripts.change("close", "", "operator")
    scripts.connect(1000)
    names = ("change", "state", "cap_nano", "by")
    assert written(scripts, *names) == [
        ("connection.created", "1000", "operator"),
        ("connection.updated", "paused", "paused", "1000", "payer"),
        ("connection.updated", "resumed", "active", "1000", "payer"),
        ("connection.updated", "cap", "active", "900", "app"),
        ("connection.updated", "unfunded", "active", "900", "payer"),
        ("connection.revoked", "operator"),
        ("connection.created", "1000", "operator"),
    ]


def test_events_are_bounded_and_end(scripts: Scripts) -> None:
    """An app that lowers a cap over and over fills no store; a month after the last one all are gone."""
    scripts.connect(10_000)
    for cap in range(9_999, 8_700, -1):
        scripts.change("lower", cap)
    kept = scripts.stream(BUDGET.events)
    assert 1000 <= len(kept) < 1200
    assert kept[-1]["cap_nano"] == "8701"
    assert 0 < scripts.call("PTTL", BUDGET.events) <= 30 * 86_400_000


def test_dropped_events_leave_later_ones(scripts: Scripts) -> None:
    """What was written since stays; where nothing is left no key is."""
    scripts.connect(1000)
    scripts.change("pause")
    newest = scripts.call("XREVRANGE", BUDGET.events, "+", "-", "COUNT", 1)[0][0]
    scripts.change("resume")
    for _ in range(2):
        scripts.run("drop_events", [BUDGET.events, BUDGET.delivery], newest)
    assert written(scripts, "change") == [("connection.updated", "resumed")]
    scripts.call("HSET", BUDGET.delivery, "done", newest)
    newest = scripts.call("XREVRANGE", BUDGET.events, "+", "-", "COUNT", 1)[0][0]
    for _ in range(2):
        scripts.run("drop_events", [BUDGET.events, BUDGET.delivery], newest)
    assert scripts.call("EXISTS", BUDGET.events, BUDGET.delivery) == 0
