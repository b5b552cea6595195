"""admit.lua: every answer it can give, what it writes, and that a repeat changes nothing."""

import math
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ledger.admission import per_token_nano
from gateway.ledger.worst_case import WorstCase
from tests.gateway.lua.direct import BUDGET, FUNDING, KEEP_DAYS, LEASE_MS, TRIAL_MS, Scripts

HELD, SHORTENED, ALL_HELD, SHORTENED_ALL_HELD, NEEDS_TERMS, WAITS = 0, 1, 2, 3, -7, -8
NOT_CONNECTED, CAP_SPENT, TOO_LITTLE, IN_FLIGHT, REFUSED, VOIDED = -1, -2, -3, -4, -5, -6


def test_a_worst_case_that_fits_is_held_whole(scripts: Scripts) -> None:
    """Code 0: the hold is the worst case, the reply has the funding key, the hold is in the due list."""
    scripts.connect(1000)
    before = scripts.now_ms()
    assert scripts.admit("a", 400) == [HELD, 400, 0, 0, 400, 1000, FUNDING.encode(), 0, scripts.due()["a"]]
    assert scripts.admit("b", 600) == [HELD, 600, 0, 0, 1000, 1000, FUNDING.encode(), 0, scripts.due()["b"]]
    assert scripts.budget()["held_nano"] == "1000"
    hold = scripts.hold("a")
    assert (hold["state"], hold["nano"], hold["model"], hold["estimate_nano"]) == ("open", "400", "m", "7")
    assert before + LEASE_MS <= scripts.due()["a"] <= scripts.now_ms() + LEASE_MS


def test_a_worst_case_that_does_not_fit_is_shortened(scripts: Scripts) -> None:
    """Code 1: as many output tokens as the rest affords, held at their price and never above the rest."""
    scripts.connect(1000)
    assert scripts.admit("a", 10_000, fixed=100, per_token="7", min_tokens=16)[:3] == [SHORTENED, 996, 128]
    assert scripts.budget()["held_nano"] == "996"


def test_the_smallest_answer_worth_sending_decides(scripts: Scripts) -> None:
    """Codes 1 and -3: 16 tokens that just fit are sent, 15 are not; with the whole cap free the cap is too small."""
    scripts.connect(100 + 16 * 7 + 1)
    assert scripts.admit("a", 10_000, fixed=100, per_token="7", min_tokens=16)[:3] == [SHORTENED, 212, 16]
    scripts.settle("a", "void")
    scripts.connect(100 + 16 * 7 - 1)
    assert scripts.admit("b", 10_000, fixed=100, per_token="7", min_tokens=16)[0] == TOO_LITTLE


def test_what_only_holds_stand_against_can_be_tried_again(scripts: Scripts) -> None:
    """Code -4, not -3: the request would fit, whole or shortened, once the requests in flight have ended."""
    scripts.connect(1000)
    scripts.admit("a", 900)
    assert scripts.admit("whole", 500)[0] == IN_FLIGHT
    assert scripts.admit("short", 5000, fixed=100, per_token="7", min_tokens=16)[0] == IN_FLIGHT
    assert scripts.admit("never", 5000, fixed=1000, per_token="7", min_tokens=16)[0] == TOO_LITTLE
    assert scripts.admit("fixed", 5000, fixed=5000)[0] == TOO_LITTLE
    assert set(scripts.due()) == {"a"}


def test_an_unknown_price_holds_all_that_is_left(scripts: Scripts) -> None:
    """Code 2 with the whole rest, then -4: one such request at a time."""
    scripts.connect(1000)
    scripts.admit("a", 300)
    assert scripts.admit("b", "")[:2] == [ALL_HELD, 700]
    assert scripts.admit("c", "")[0] == IN_FLIGHT
    assert scripts.admit("d", 1)[0] == IN_FLIGHT


def test_what_no_ceiling_shortens_holds_all_that_is_left(scripts: Scripts) -> None:
    """As long as that carries what is sent; then it waits for its turn, or is too dear. Where nothing may go beyond its
    bound it is refused.
    """
    scripts.connect(1000)
    beyond = {"fixed": 100, "per_token": "1", "min_tokens": "", "expected": (5000, 100, "1")}
    assert scripts.admit("a", 5000, **beyond)[:3] == [ALL_HELD, 1000, 0]  # type: ignore[arg-type]
    assert scripts.admit("b", 5000, **beyond)[0] == IN_FLIGHT  # type: ignore[arg-type]
    scripts.settle("a", "settled", 950)
    assert scripts.admit("c", 5000, **beyond)[0] == TOO_LITTLE  # type: ignore[arg-type]
    assert scripts.admit("d", 40, fixed=30, per_token="1", min_tokens="")[:3] == [HELD, 40, 0]
    assert scripts.admit("e", 5000, fixed=5, per_token="1", min_tokens="")[0] == TOO_LITTLE


def test_a_shortened_answer_is_no_longer_than_usual(scripts: Scripts) -> None:
    """And its hold is what so many tokens cost."""
    scripts.connect(1000)
    assert scripts.admit("a", 5000, fixed=100, per_token="2", usual_tokens=300)[:3] == [1, 700, 300]


def test_a_spent_cap_refuses_everything(scripts: Scripts) -> None:
    """Code -2 as soon as spend reaches the cap, also for a request that costs nothing."""
    scripts.connect(1000)
    scripts.admit("a", 1000)
    scripts.settle("a", "settled", 1000)
    assert scripts.admit("b", 1) == [CAP_SPENT, 0, 0, 1000, 0, 1000, b"", 0, 0]
    assert scripts.admit("c", 0)[0] == CAP_SPENT
    assert scripts.admit("d", "")[0] == CAP_SPENT


@pytest.mark.parametrize("verb", ["pause", "revoke"])
def test_only_an_active_budget_is_spent_from(scripts: Scripts, verb: str) -> None:
    """Code -1: never connected, paused, revoked. Nothing is written."""
    assert scripts.admit("a", 1)[0] == NOT_CONNECTED
    assert scripts.dump() == {}
    scripts.connect(1000)
    scripts.change(verb)
    assert scripts.admit("b", 1) == [NOT_CONNECTED, 0, 0, 0, 0, 1000, b"", 0, 0]


def test_without_a_cap_everything_is_held_at_its_worst_case(scripts: Scripts) -> None:
    """Code 0 in test mode without a cap; an unknown price holds nothing there."""
    scripts.connect("", funding="")
    assert scripts.admit("a", 10**12, funded=False)[:-1] == [HELD, 10**12, 0, 0, 10**12, -1, b"", 0]
    assert scripts.admit("b", "", funded=False)[:2] == [HELD, 0]


def test_without_a_funding_key_nothing_live_is_admitted(scripts: Scripts) -> None:
    """Code -5."""
    scripts.connect(1000, funding="")
    assert scripts.admit("a", 1)[0] == REFUSED
    assert scripts.admit("b", 1, funded=False)[0] == HELD


def test_a_refused_funding_key_is_tried_by_one_request_at_a_time(scripts: Scripts) -> None:
    """Code -5 until the key has rested; then one trial; a request that cannot be carried does not use the trial up."""
    scripts.connect(1000)
    scripts.admit("a", 1)
    scripts.settle("a", "void", funding="refused")
    assert scripts.admit("b", 1)[0] == REFUSED
    scripts.call("HINCRBY", BUDGET.budget, "funding_trial_ms", -TRIAL_MS)
    assert scripts.admit("c", 5000, fixed=5000)[0] == TOO_LITTLE
    assert scripts.admit("d", 1)[0] == HELD
    assert scripts.admit("e", 1)[0] == REFUSED
    scripts.settle("d", "settled", 1, funding="works")
    assert scripts.admit("f", 1)[0] == HELD


def test_a_repeat_returns_the_first_answer(scripts: Scripts) -> None:
    """The same id, another price: nothing is held twice, open or settled; cap and held are as they are now."""
    scripts.connect(1000)
    first = scripts.admit("a", 5000, fixed=100, per_token="7", min_tokens=16)
    stored = scripts.dump()
    assert scripts.admit("a", 1) == first
    assert scripts.dump() == stored
    scripts.settle("a", "settled", 10)
    stored = scripts.dump()
    assert scripts.admit("a", 1)[:4] == first[:4]
    assert scripts.dump() == stored


def test_a_hold_that_was_given_up_is_never_placed(scripts: Scripts) -> None:
    """Code -6: the void overtook the admission, or the request was closed without a hold."""
    scripts.connect(1000)
    scripts.settle("late", "void")
    scripts.settle("lost", "settled", 5)
    stored = scripts.dump()
    assert scripts.admit("late", 1)[0] == VOIDED
    assert scripts.admit("lost", 1)[0] == VOIDED
    assert scripts.dump() == stored


def test_it_tells_of_overdue_holds(scripts: Scripts) -> None:
    """The field is 1 while a hold of this budget waits for the sweeper, whatever the verdict."""
    scripts.connect(1000)
    scripts.admit("a", 1000, lease_ms=0)
    assert scripts.admit("b", 5)[7] == 1
    scripts.change("pause")
    assert scripts.admit("c", 5)[7] == 1
    scripts.settle("a", "void")
    assert scripts.admit("d", 5)[7] == 0


def test_it_looks_for_overdue_holds_once_a_second(scripts: Scripts) -> None:
    """The first admission of a second reports overdue holds, also after a clock stepped back."""
    scripts.connect(1000)
    scripts.admit("a", 10, lease_ms=0)
    told = [scripts.admit(f"b{number}", 1)[7] for number in range(20)]
    assert 0 in told
    for number, ago_ms in enumerate((1000, -5000)):
        scripts.call("HSET", BUDGET.budget, "used_ms", scripts.now_ms() - ago_ms)
        assert scripts.admit(f"c{number}", 1)[7] == 1


def test_spend_leaves_the_window_with_its_day(scripts: Scripts) -> None:
    """Day 29 before today counts, day 30 does not, and a day older than the ledger's life is dropped."""
    scripts.connect(1000)
    today = scripts.now_ms() // 86_400_000
    scripts.call("HSET", BUDGET.days, today - 29, 10, today - 30, 20, today - KEEP_DAYS + 1, 40, today - KEEP_DAYS, 80)
    assert scripts.admit("a", 1)[3] == 10
    assert scripts.days() == [10, 20, 40]
    assert scripts.budget()["window_nano"] == "10"


def test_a_clock_that_stepped_back_reopens_no_day(scripts: Scripts) -> None:
    """The newest day seen remains the current one, so the window cannot reopen a day or lose a bucket."""
    scripts.connect(1000)
    scripts.admit("a", 100)
    scripts.settle("a", "settled", 100)
    scripts.call("HINCRBY", BUDGET.budget, "window_day", 1)
    assert scripts.admit("b", 1)[3] == 100
    assert int(scripts.hold("b")["day"]) == scripts.now_ms() // 86_400_000 + 1


def test_amounts_near_the_limit_stay_exact(scripts: Scripts) -> None:
    """Nine million dollars in nano-USD go through Lua's doubles to the last nano."""
    most = 2**53 - 1
    scripts.connect(most)
    assert scripts.admit("a", most - 1)[1] == most - 1
    assert scripts.admit("b", 1)[:6] == [HELD, 1, 0, 0, most, most]
    assert scripts.budget()["held_nano"] == str(most)
    scripts.settle("a", "settled", most - 1)
    assert scripts.budget()["window_nano"] == str(most - 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cap=st.integers(1, 10**13),
    fixed=st.integers(0, 10**12),
    per_token_zepto=st.integers(1, 10**18),
    max_tokens=st.integers(1, 2_000_000),
)
def test_a_shortened_hold_bounds_what_its_tokens_cost(
    scripts: Scripts, cap: int, fixed: int, per_token_zepto: int, max_tokens: int
) -> None:
    """Compared with exact arithmetic: the hold covers the tokens, stays within the cap, and leaves no token unused."""
    scripts.call("FLUSHALL")
    scripts.connect(cap)
    worst = WorstCase(fixed, per_token_zepto, max_tokens)
    code, hold, tokens, *_ = scripts.admit(
        "a",
        worst.total_nano,
        fixed=fixed,
        per_token=per_token_nano(worst),
        min_tokens=min(16, max_tokens),
        usual_tokens=max_tokens,
    )
    exact = min(max_tokens, math.floor(Fraction((cap - fixed) * 10**12, per_token_zepto)))
    if code == HELD:
        assert hold == worst.total_nano <= cap
    elif code == SHORTENED:
        assert worst.cost_nano(tokens) <= hold <= cap
        assert tokens >= exact - 1
    else:
        assert code == TOO_LITTLE
        assert exact <= min(16, max_tokens)
