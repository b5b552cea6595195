"""Results are computed once, and are bounded in number."""

from gateway.memo import Memo


def test_a_result_is_computed_once() -> None:
    """For each argument."""
    computed: list[int] = []

    def double(number: int) -> int:
        computed.append(number)
        return 2 * number

    memo = Memo(double, 3)
    assert [memo[number] for number in (1, 2, 1, 2)] == [2, 4, 2, 4]
    assert computed == [1, 2]


def test_a_full_memo_is_emptied_and_fills_again() -> None:
    """So that no caller can fill the memory."""
    memo = Memo(str, 3)
    for number in range(100):
        assert memo[number] == str(number)
        assert len(memo) <= 3
