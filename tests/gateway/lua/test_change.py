"""connect.lua, change.lua, fund.lua, reseal.lua, standing.lua: a budget's state, its cap, its key, its worth."""

import pytest

from tests.gateway.lua.direct import BUDGET, Scripts

DONE, NOTHING, NOT_CONNECTED, WOULD_RAISE = 1, 0, -1, -2


def change(scripts: Scripts, verb: str, cap: int | str = "") -> int:
    code: int = scripts.run("change", [BUDGET.budget], verb, cap)
    return code


def test_a_connection_is_opened_and_approved_again(scripts: Scripts) -> None:
    """Each approval counts the funding key's version up, keeps the first date and the spend, and forgives the key."""
    assert scripts.connect(1000) == 1
    created = scripts.budget()["created_ms"]
    scripts.admit("a", 100)
    scripts.settle("a", "settled", 30, funding="refused")
    assert scripts.connect(2000, funding="new") == 2
    budget = scripts.budget()
    assert [budget[name] for name in ("state", "cap_nano", "funding", "created_ms", "window_nano")] == [
        "active",
        "2000",
        "new",
        created,
        "30",
    ]
    assert "funding_refused" not in budget


def test_a_reconnection_is_no_way_to_reset_a_cap(scripts: Scripts) -> None:
    """Spend and open holds outlive a revocation."""
    scripts.connect(1000)
    scripts.admit("a", 600)
    scripts.admit("b", 300)
    scripts.settle("a", "settled", 600)
    change(scripts, "revoke")
    scripts.connect(1000)
    assert scripts.admit("c", 101)[0] == -4
    assert scripts.admit("d", 100)[0] == 0


def test_pause_and_resume(scripts: Scripts) -> None:
    """Code 1 when something changed, 0 when it was so, -1 without a connection."""
    assert change(scripts, "pause") == NOT_CONNECTED
    scripts.connect()
    assert [change(scripts, verb) for verb in ("resume", "pause", "pause", "resume")] == [NOTHING, DONE, NOTHING, DONE]


def test_a_revocation_drops_the_key_and_is_final(scripts: Scripts) -> None:
    """Nothing but a new approval undoes it."""
    assert change(scripts, "revoke") == NOTHING
    assert scripts.dump() == {}
    scripts.connect()
    change(scripts, "pause")
    assert change(scripts, "revoke") == DONE
    budget = scripts.budget()
    assert "funding" not in budget
    assert "revoked_ms" in budget
    stored = scripts.dump()
    assert change(scripts, "revoke") == NOTHING
    for verb, cap in (("pause", ""), ("resume", ""), ("lower", 1), ("cap", 5000)):
        assert change(scripts, verb, cap) == NOT_CONNECTED
    assert scripts.dump() == stored


def test_a_cap_is_lowered_by_anyone_and_raised_by_the_payer(scripts: Scripts) -> None:
    """`lower` refuses to raise, `cap` sets; without a cap any cap is lower."""
    assert change(scripts, "lower", 5) == NOT_CONNECTED
    scripts.connect(1000)
    assert [change(scripts, "lower", cap) for cap in (1001, 1000, 900)] == [WOULD_RAISE, NOTHING, DONE]
    assert [change(scripts, "cap", cap) for cap in (5000, 5000)] == [DONE, NOTHING]
    assert scripts.budget()["cap_nano"] == "5000"
    scripts.connect("")
    assert change(scripts, "lower", 10**15) == DONE
    assert scripts.budget()["cap_nano"] == str(10**15)


@pytest.mark.parametrize("worst", [1, ""])
def test_a_cap_lowered_below_what_is_held_admits_nothing(scripts: Scripts, worst: int | str) -> None:
    """What runs may end; nothing new starts, at a known price or an unknown one."""
    scripts.connect(1000)
    scripts.admit("a", 600)
    change(scripts, "lower", 500)
    assert scripts.admit("b", worst)[0] == -4


def fund(scripts: Scripts, wallet: str, new_wallet: str, change: int, funding: str) -> int:
    code: int = scripts.run("fund", [BUDGET.budget], wallet, new_wallet, change, funding)
    return code


def test_another_key_is_taken_from_the_owner_alone(scripts: Scripts) -> None:
    """Only while the wallet owns it and it is connected; a repeat is harmless; the new key is not the refused one."""
    assert fund(scripts, "w", "", 1, "k2") == 0
    scripts.run("connect", [BUDGET.budget], 1000, "k1", "w", "", "account")
    scripts.call("HSET", BUDGET.budget, "funding_refused", 1)
    assert fund(scripts, "other", "", 1, "k2") == 0
    assert fund(scripts, "w", "w2", 1, "k2") == 1
    budget = scripts.budget()
    assert [budget[name] for name in ("funding", "wallet", "funding_version")] == ["k2", "w2", "2"]
    assert "funding_refused" not in budget
    change(scripts, "revoke")
    assert fund(scripts, "w2", "", 1, "k3") == 0
    assert fund(scripts, "w2", "w3", 0, "") == 1


def test_a_standing_is_read_and_nothing_is_written(scripts: Scripts) -> None:
    """Spend of the window from the buckets themselves, also when nothing was admitted for days."""
    scripts.connect(1000)
    today = scripts.now_ms() // 86_400_000
    scripts.call("HSET", BUDGET.days, today, 1, today - 29, 10, today - 30, 100)
    stored = scripts.dump()
    found = scripts.run("standing", [BUDGET.budget, BUDGET.days])
    assert found[:2] == [today, 11]
    assert dict(zip(found[2::2], found[3::2], strict=True))[b"cap_nano"] == b"1000"
    assert scripts.dump() == stored


def test_what_was_approved_before_a_revoke_or_a_bar_never_connects(scripts: Scripts) -> None:
    """The yes carries how often there had been a no; a newer no makes it void, a newer yes does not ask."""
    scripts.connect()
    change(scripts, "revoke")
    change(scripts, "bar")
    args = (1000, "k1", "w", "", "account")
    assert scripts.run("connect", [BUDGET.budget], *args, "1") == -1
    assert scripts.budget()["state"] == "revoked"
    assert scripts.run("connect", [BUDGET.budget], *args, "2") == 2
    assert scripts.run("connect", [BUDGET.budget], *args, "") == 3
