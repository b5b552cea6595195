"""connect.lua, change.lua, fund.lua, standing.lua: a budget's state, its cap, its key, its worth, its receipts."""

import pytest

from tests.gateway.lua.direct import BUDGET, Scripts

DONE, NOTHING, NOT_CONNECTED, WOULD_RAISE = 1, 0, -1, -2


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
    scripts.change("revoke")
    scripts.connect(1000)
    assert scripts.admit("c", 101)[0] == -4
    assert scripts.admit("d", 100)[0] == 0


def test_pause_and_resume(scripts: Scripts) -> None:
    """Code 1 when something changed, 0 when it was so, -1 without a connection."""
    assert scripts.change("pause") == NOT_CONNECTED
    scripts.connect()
    assert [scripts.change(verb) for verb in ("resume", "pause", "pause", "resume")] == [NOTHING, DONE, NOTHING, DONE]


def test_a_revocation_drops_the_key_and_is_final(scripts: Scripts) -> None:
    """Nothing but a new approval undoes it."""
    assert scripts.change("revoke") == NOTHING
    assert scripts.dump() == {}
    scripts.connect()
    scripts.change("pause")
    assert scripts.change("revoke") == DONE
    budget = scripts.budget()
    assert "funding" not in budget
    assert "revoked_ms" in budget
    stored = scripts.dump()
    assert scripts.change("revoke") == NOTHING
    for verb, cap in (("pause", ""), ("resume", ""), ("lower", 1), ("cap", 5000)):
        assert scripts.change(verb, cap) == NOT_CONNECTED
    assert scripts.dump() == stored


def test_a_cap_is_lowered_by_anyone_and_raised_by_the_payer(scripts: Scripts) -> None:
    """`lower` refuses to raise, `cap` sets; without a cap any cap is lower."""
    assert scripts.change("lower", 5) == NOT_CONNECTED
    scripts.connect(1000)
    assert [scripts.change("lower", cap) for cap in (1001, 1000, 900)] == [WOULD_RAISE, NOTHING, DONE]
    assert [scripts.change("cap", cap) for cap in (5000, 5000)] == [DONE, NOTHING]
    assert scripts.budget()["cap_nano"] == "5000"
    scripts.connect("")
    assert scripts.change("lower", 10**15) == DONE
    assert scripts.budget()["cap_nano"] == str(10**15)


@pytest.mark.parametrize("worst", [1, ""])
def test_a_cap_lowered_below_what_is_held_admits_nothing(scripts: Scripts, worst: int | str) -> None:
    """Running requests finish; no new one is admitted, with a known price or without."""
    scripts.connect(1000)
    scripts.admit("a", 600)
    scripts.change("lower", 500)
    assert scripts.admit("b", worst)[0] == -4


def approve(
    scripts: Scripts,
    receipt_id: str,
    *,
    cap: int | str = 1000,
    funding: str = "k1",
    since: str = "",
    by: str = "payer",
    text: str = "Acme may …",
) -> int:
    return scripts.approve(cap, funding, "w", "https://a.example", "account", since, receipt_id, by, text, "digest")


def fund(scripts: Scripts, wallet: str, funding: str, receipt_id: str) -> int:
    code: int = scripts.run("fund", [BUDGET.budget, BUDGET.history, BUDGET.events], wallet, funding, receipt_id)
    return code


def test_another_key_is_taken_from_the_owner_alone(scripts: Scripts) -> None:
    """Only while the wallet owns it and it is connected; the new key is not the refused one; each has a receipt."""
    assert fund(scripts, "w", "k2", "f1") == NOTHING
    approve(scripts, "r1")
    scripts.call("HSET", BUDGET.budget, "funding_refused", 1)
    assert fund(scripts, "other", "k2", "f1") == NOTHING
    assert [fund(scripts, "w", "k2", "f1") for _ in range(2)] == [DONE, NOTHING]
    budget = scripts.budget()
    assert [budget[name] for name in ("funding", "wallet", "funding_version")] == ["k2", "w", "2"]
    assert "funding_refused" not in budget
    assert [fund(scripts, "w", "", receipt_id) for receipt_id in ("f2", "f3")] == [DONE, NOTHING]
    scripts.change("revoke")
    assert fund(scripts, "w", "k3", "f4") == NOTHING
    assert [line["event"] for line in scripts.receipts()] == ["approved", "funded", "unfunded", "revoked"]


def test_an_approval_counts_once(scripts: Scripts) -> None:
    """A repeat changes nothing and writes nothing, before and after a revocation; another approval does."""
    assert approve(scripts, "r1", since="0") == 1
    stored, [receipt] = scripts.dump(), scripts.receipts()
    assert approve(scripts, "r1", since="0", cap=5000, funding="k2") == 1
    assert (scripts.dump(), scripts.receipts()) == (stored, [receipt])
    assert {name: receipt[name] for name in receipt if name != "at_ms"} == {
        "receipt": "r1",
        "event": "approved",
        "by": "payer",
        "cap_nano": "1000",
        "origin": "https://a.example",
        "text": "Acme may …",
        "sha256": "digest",
    }
    scripts.change("revoke")
    assert [approve(scripts, "r1", since=since) for since in ("0", "1")] == [-1, 1]
    assert scripts.budget()["state"] == "revoked"
    assert approve(scripts, "r2", since="1") == 2
    assert [line["event"] for line in scripts.receipts()] == ["approved", "revoked", "approved"]


def test_an_app_that_approves_what_is_so_leaves_no_receipt(scripts: Scripts) -> None:
    """Only in test mode, where no key is replaced and no person approved a text."""

    def connect(receipt_id: str, cap: int | str, text: str = "") -> int:
        return approve(scripts, receipt_id, cap=cap, funding="", by="app", text=text)

    assert [connect("r1", ""), connect("r2", ""), connect("r3", 5), connect("r4", 5)] == [1, 1, 2, 2]
    assert [line["cap_nano"] for line in scripts.receipts()] == ["", "5"]
    assert connect("r5", 5, "Acme may …") == 3


def test_each_change_leaves_one_receipt_with_who_made_it(scripts: Scripts) -> None:
    """What changes nothing leaves none."""
    scripts.connect(1000)
    for verb, cap, by in (
        ("lower", 900, "app"),
        ("cap", 2000, "payer"),
        ("pause", "", "payer"),
        ("resume", "", "payer"),
        ("bar", "", "payer"),
        ("revoke", "", "operator"),
        ("close", "", "operator"),
    ):
        for _ in range(2):
            scripts.change(verb, cap, by)
    scripts.connect(7)
    scripts.change("close", "", "operator")
    found = [(line["event"], line["by"], line.get("cap_nano"), line.get("before_nano")) for line in scripts.receipts()]
    assert found == [
        ("approved", "operator", "1000", None),
        ("cap", "app", "900", "1000"),
        ("cap", "payer", "2000", "900"),
        ("paused", "payer", None, None),
        ("resumed", "payer", None, None),
        ("revoked", "operator", None, None),
        ("approved", "operator", "7", None),
        ("closed", "operator", None, None),
    ]


def test_a_standing_is_read_and_nothing_is_written(scripts: Scripts) -> None:
    """Spend of the window from the buckets themselves, also when nothing was admitted for days."""
    scripts.connect(1000)
    today = scripts.now_ms() // 86_400_000
    scripts.call("HSET", BUDGET.days, today, 1, today - 29, 10, today - 30, 100)
    stored = scripts.dump()
    found = scripts.run("standing", [BUDGET.budget, BUDGET.days])
    assert (found[0] // 86_400_000, *found[1:3]) == (today, 11, today - 29)
    assert dict(zip(found[3::2], found[4::2], strict=True))[b"cap_nano"] == b"1000"
    assert scripts.dump() == stored


def test_what_was_approved_before_a_revoke_or_a_bar_never_connects(scripts: Scripts) -> None:
    """The yes carries how often there had been a no; a newer no makes it void, a newer yes does not ask."""
    scripts.connect()
    scripts.change("revoke")
    scripts.change("bar")
    assert approve(scripts, "r1", since="1") == -1
    assert scripts.budget()["state"] == "revoked"
    assert approve(scripts, "r2", since="2") == 2
    assert approve(scripts, "r3") == 3
