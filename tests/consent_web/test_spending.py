"""Spend for people: amounts below a cent, trends, models, plain terms, a fitting scale."""

import pytest

from consent_web.chart import draw, round_up
from consent_web.money_text import usd
from consent_web.spending import added, models, result, trend
from gateway.keys import request_id
from gateway.ledger.outcomes import Settlement
from gateway.ledger.worst_case import WorstCase
from tests.consent_web.test_dashboard import ref_of
from tests.consent_web.world import Visitor, World

CENT = 10_000_000


@pytest.mark.parametrize(
    ("nano", "shown"),
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (23_000, "$0.000023"),
        (23_999, "$0.000023"),
        (4_100_000, "$0.0041"),
        (CENT, "$0.01"),
        (19_900_000, "$0.019"),
        (5 * CENT, "$0.05"),
        (1_999_000_000, "$1.99"),
        (1_030_500_000_000, "$1,030.50"),
        (-23_000, "–$0.000023"),
    ],
)
def test_an_amount_never_has_less_than_two_digits(nano: int, shown: str) -> None:
    """AI requests cost less than a cent; rounded down, and a correction has its sign."""
    assert usd(nano) == shown


@pytest.mark.parametrize(
    ("days", "today", "week", "words"),
    [
        ([0] * 30, 0, 0, ""),
        ([*([0] * 29), 5], 5, 5, "Nothing in the 7 days before."),
        ([*([2] * 14)], 2, 14, "As much as in the 7 days before."),
        ([*([2] * 7), *([3] * 7)], 3, 21, "50 % more than in the 7 days before."),
        ([*([4] * 7), *([3] * 7)], 3, 21, "25 % less than in the 7 days before."),
        ([*([1] * 7), *([10] * 7)], 10, 70, "More than 10 times the 7 days before."),
    ],
)
def test_the_trend_compares_a_week_with_the_one_before(days: list[int], today: int, week: int, words: str) -> None:
    """As a sentence, with a percentage where it is meaningful."""
    found = trend(list(enumerate(days)))
    assert (found.today_nano, found.week_nano, found.words) == (today, week, words)


def test_the_days_of_several_apps_add_up() -> None:
    """Day by day, in order."""
    assert added([[(1, 5), (2, 7)], [(2, 1), (3, 2)]]) == [(1, 5), (2, 8), (3, 2)]


def test_a_scale_ends_at_a_round_amount_just_above() -> None:
    """Never below the highest bar, and the highest bar fills most of it; without spend there is none."""
    for nano in (1, 10, 23, 99, 101, 23_000, 4_100_000, 10_200_000_000, 999_999_999_999):
        assert nano <= round_up(nano) <= max(10, nano * 3 // 2)
    chart = draw([(20_000, 0), (20_001, 23_000), (20_002, 11_500)])
    assert [text for text, _ in chart.scale] == ["$0.00003", "$0.000015", "$0.00"]
    assert [bar.height for bar in chart.bars] == [
        0,
        pytest.approx(160 * 23 / 30, abs=0.01),
        pytest.approx(160 * 11.5 / 30, abs=0.01),
    ]
    assert chart.most.endswith(": $0.000023.")
    assert draw([(20_000, 0)]).scale == []


def entry(**more: str) -> dict[str, str]:
    """A ledger's entry."""
    fixed = {
        "request_id": "r",
        "model": "m",
        "status": "settled",
        "delta_nano": "5",
        "cost_nano": "5",
        "overrun_nano": "0",
    }
    return {**fixed, **more}


def test_models_stand_by_spend_with_their_corrections() -> None:
    """A second entry of a request changes what it cost, and is no second request."""
    entries = [
        entry(request_id="a", model="cheap", delta_nano="10"),
        entry(request_id="b", model="dear", delta_nano="100"),
        entry(request_id="b", model="dear", delta_nano="-20"),
    ]
    assert [(one.model, one.nano, one.requests, one.share) for one in models(entries)] == [
        ("dear", 80, 1, 88.89),
        ("cheap", 10, 1, 11.11),
    ]


@pytest.mark.parametrize(
    ("status", "delta", "word"),
    [
        ("settled", "5", "Paid"),
        ("estimated", "5", "Estimated"),
        ("void", "5", "Not charged"),
        ("settled", "2", "Corrected"),
    ],
)
def test_what_became_of_a_request_is_said_in_plain_words(status: str, delta: str, word: str) -> None:
    """With an explanation of the term."""
    found = result(entry(status=status, delta_nano=delta))
    assert found["result"] == word
    assert found["meaning"].endswith(".")


async def test_the_dashboard_shows_small_amounts_trends_models_and_overruns(world: World, visitor: Visitor) -> None:
    """One request of $0.000023 that cost more than its hold: nothing of it reads as less than a cent or as jargon."""
    await world.connected(visitor)
    budget = world.budget()
    name = request_id(budget.account(world.services.store.salt), b"above".ljust(12))
    held = WorstCase(fixed_nano=20_000, per_token_zepto=0, max_tokens=16)
    await world.site.ledger.admit(budget, name, held, model="acme/small", estimate_nano=20_000)
    settled = Settlement("settled", 23_000, "gen-1", "acme/small", 10, 20, "works")
    await world.site.ledger.settle(budget, name, settled)
    home = (await visitor.get("/")).text
    page = (await visitor.get(f"/apps/{await ref_of(visitor)}")).text
    for text in (home, page):
        assert "One request cost $0.0000030 more than was set aside; counted in full." in text
        assert '<b id="today" title="$0.000023">$0.000023</b>' in text
        assert "$0.00003</span>" in text
        assert "$0.01" not in text
    assert "of $10.00 that your apps may spend" not in home
    assert '<span class="mono">acme/small</span>' in page
    assert ">Paid<" in page
    assert ">settled<" not in page
    assert "$0.0000030 above" in page
    live = (await visitor.get("/spend")).json
    assert live["today"] == live["week"] == {"text": "$0.000023", "exact": "0.000023"}
