"""Whether a Redis is the one we knew: same epoch, not older."""

import pytest

from gateway.epoch import Epoch, Sign

_KEY = "wf:instance"


def _sign(epoch: str, beat: int, *, accepted: bool = False, older: bool = False) -> Sign:
    return Sign(epoch, beat, is_accepted=accepted, is_older=older)


@pytest.mark.parametrize(
    ("sign", "known", "ours"),
    [
        (_sign("", 0), None, True),
        (_sign("e1", 7), None, True),
        (_sign("e1", 7), ("e1", 7), True),
        (_sign("e1", 8), ("e1", 7), True),
        (_sign("e1", 6), ("e1", 7), False),
        (_sign("", 0), ("e1", 7), False),
        (_sign("e2", 9), ("e1", 7), False),
        (_sign("e2", 1, accepted=True), ("e1", 7), True),
        (_sign("e1", 9, older=True), ("e1", 7), False),
        (_sign("e1", 9, older=True), None, False),
    ],
)
def test_a_redis_is_judged_by_its_sign(sign: Sign, known: tuple[str, int] | None, *, ours: bool) -> None:
    """Empty, another, or older is doubted; the operator's word ends a doubt about another one."""
    epoch = Epoch()
    assert epoch.judge(_KEY, sign, known) is ours
    assert (epoch.doubt is None) is ours


def test_a_doubt_ends_when_the_right_one_is_back() -> None:
    """Each server has a doubt of its own."""
    epoch = Epoch()
    assert not epoch.judge("a", _sign("", 0), ("e1", 7))
    assert epoch.judge("b", _sign("e1", 9), ("e1", 7))
    assert epoch.doubt is not None
    assert epoch.judge("a", _sign("e1", 7), ("e1", 7))
    assert epoch.doubt is None


def test_what_is_known_outlives_the_process() -> None:
    """Dumped and loaded it is the same."""
    epoch, later = Epoch(), Epoch()
    epoch.remember(_KEY, "e1", 7)
    later.load(epoch.dump())
    assert later.known(_KEY) == ("e1", 7)
    assert later.known("other") is None
