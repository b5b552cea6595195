"""audit.lua: one consistent reading, in pages."""

from typing import Any

from tests.gateway.lua.direct import BUDGET, DAY_MS, Scripts


def audit(scripts: Scripts, after: str = "", most: int = 2) -> Any:
    names = [BUDGET.budget, BUDGET.days, BUDGET.due, BUDGET.ledger, BUDGET.queue]
    return scripts.run("audit", names, BUDGET.hold(""), after, most)


def test_a_reading_holds_all_that_is_summed(scripts: Scripts) -> None:
    """Budget, days, what is due with its hold, and the entries after the last that was read; nothing is written."""
    assert audit(scripts)[2:] == [0, 0, [], [], [], [], [], []]
    scripts.connect(1000)
    for request_id in "abcd":
        scripts.admit(request_id, 100)
    for request_id in "abc":
        scripts.settle(request_id, "settled", 5)
    scripts.call("ZADD", BUDGET.due, 1, "gone")
    scripts.call("DEL", BUDGET.hold("c"))
    scripts.call("ZADD", BUDGET.queue, 1, "wf:wakes:here w")
    stored = scripts.dump()
    now_ms, today, _, length, budget, days, holds, entries, records, waiting = audit(scripts)
    assert (length, len(entries)) == (3, 2)
    assert dict(zip(budget[::2], budget[1::2], strict=True))[b"held_nano"] == b"100"
    assert days == [str(today).encode(), b"15"]
    assert holds == [b"gone", 1, b"", b"d", int(scripts.due()["d"]), scripts.call("GET", BUDGET.hold("d"))]
    assert today == now_ms // DAY_MS
    assert records == [scripts.call("GET", BUDGET.hold(request_id)) for request_id in "ab"]
    assert waiting == [b"w"]
    (last,), shown, _ = audit(scripts, entries[-1][0].decode())[-3:]
    assert b"c" in last[1]
    assert shown == [b""]
    assert scripts.dump() == stored
