"""The most a request can cost."""

from gateway.ledger.worst_case import WorstCase


def test_affordable_tokens_never_cost_more_than_there_is() -> None:
    """What is left buys whole tokens, and one more would not fit."""
    worst = WorstCase(1000, 7 * 10**11, 500)

    tokens = worst.affordable_tokens(1100)

    assert worst.cost_nano(tokens) <= 1100 < worst.cost_nano(tokens + 1)
    assert (worst.affordable_tokens(999), worst.affordable_tokens(1000), worst.affordable_tokens(10**9)) == (-1, 0, 500)
    assert WorstCase(10, 0, 500).affordable_tokens(10) == 500
