"""Whether a Redis is the one we knew: same epoch, not older."""

import pytest

from gateway.store.epoch import Epoch, Known, Sign, newest

_KEY = "wf:instance"


def _sign(epoch: str, beat: int, *, accepted: bool = False, older: bool = False, since_ms: int = 100) -> Sign:
    return Sign(epoch, beat, is_accepted=accepted, is_older=older, since_ms=since_ms)


@pytest.mark.parametrize(
    ("sign", "known", "ours"),
    [
        (_sign("", 0), None, True),
        (_sign("e1", 7), None, True),
        (_sign("e1", 7), Known("e1", 7, 50), True),
        (_sign("e1", 8), Known("e1", 7, 50), True),
        (_sign("e1", 6), Known("e1", 7, 50), False),
        (_sign("", 0), Known("e1", 7, 50), False),
        (_sign("e2", 9), Known("e1", 7, 50), False),
        (_sign("e2", 1, accepted=True), Known("e1", 7, 50), True),
        (_sign("e2", 1, accepted=True, since_ms=50), Known("e1", 7, 50), False),
        (_sign("e2", 1, accepted=True, since_ms=49), Known("e1", 7, 50), False),
        (_sign("e1", 9, older=True), Known("e1", 7, 50), False),
        (_sign("e1", 9, older=True), None, False),
    ],
)
def test_a_redis_is_judged_by_its_sign(sign: Sign, known: Known | None, *, ours: bool) -> None:
    """Empty, foreign or older: refused; a newer acceptance by the operator ends a refusal as foreign."""
    epoch = Epoch()
    assert epoch.judge(_KEY, sign, known) is ours
    assert (epoch.doubt is None) is ours


def test_a_doubt_ends_when_the_right_one_is_back() -> None:
    """Each server has a doubt of its own."""
    epoch = Epoch()
    assert not epoch.judge("a", _sign("", 0), Known("e1", 7, 50))
    assert epoch.judge("b", _sign("e1", 9), Known("e1", 7, 50))
    assert epoch.doubt is not None
    assert epoch.judge("a", _sign("e1", 7), Known("e1", 7, 50))
    assert epoch.doubt is None


def test_what_is_known_outlives_the_process() -> None:
    """Dumped and loaded it is the same."""
    epoch, later = Epoch(), Epoch()
    epoch.remember(_KEY, Known("e1", 7, 50))
    later.load(epoch.dump())
    assert later.known(_KEY) == Known("e1", 7, 50)
    assert later.known("other") is None


def test_what_a_process_knew_before_there_was_a_time_is_read() -> None:
    """A state file of an earlier version."""
    epoch = Epoch()
    epoch.load({_KEY: ["e1", 7]})
    assert epoch.known(_KEY) == Known("e1", 7, 0)


def test_a_beat_that_is_told_late_does_not_take_memory_back() -> None:
    """Of one epoch the larger beat is kept."""
    epoch = Epoch()
    epoch.remember(_KEY, Known("e1", 9, 50))
    epoch.remember(_KEY, Known("e1", 8, 50))
    assert epoch.known(_KEY) == Known("e1", 9, 50)
    epoch.remember(_KEY, Known("e2", 1, 60))
    assert epoch.known(_KEY) == Known("e2", 1, 60)


def test_two_memories_make_the_newest() -> None:
    """Of each key the epoch that began last, and its larger beat."""
    assert newest(
        {"a": ["e1", 7, 50], "b": ["e1", 9, 50], "c": ["e1", 1, 50]},
        {"a": ["e2", 1, 60], "b": ["e1", 8, 50], "d": ["e1", 2, 50]},
    ) == {"a": ["e2", 1, 60], "b": ["e1", 9, 50], "c": ["e1", 1, 50], "d": ["e1", 2, 50]}


def test_a_store_is_begun_as_a_whole() -> None:
    """Only if every node is empty; a single empty node beside others was emptied."""
    epoch = Epoch(["a", "b"])
    assert epoch.judge("a", _sign("", 0), None)
    assert not epoch.may_begin("a")
    assert epoch.judge("b", _sign("", 0), None)
    assert epoch.may_begin("a")
    assert epoch.may_begin("b")
    epoch.remember("a", Known("e1", 1, 50))
    # Decided for both: a slow answer must not leave the half of it for ever.
    assert epoch.may_begin("b")
    assert epoch.judge("b", _sign("", 0), None)
    assert epoch.doubt is None
    epoch.remember("b", Known("e2", 1, 50))
    assert not epoch.may_begin("b")


def test_a_part_that_stays_empty_beside_others_was_emptied() -> None:
    """The first time another process may be in the midst of beginning it."""
    epoch = Epoch(["a", "b"])
    epoch.remember("a", Known("e1", 1, 50))
    assert epoch.judge("b", _sign("", 0), None)
    assert epoch.is_half_begun
    assert not epoch.may_begin("b")
    assert not epoch.judge("b", _sign("", 0), None)
    assert epoch.doubt is not None
    assert epoch.judge("b", _sign("e2", 1), None)
    assert epoch.doubt is None


def test_an_answer_that_was_asked_before_an_acceptance_counts_no_more() -> None:
    """What it was compared with is forgotten: a doubt that it raised could never be cleared."""
    epoch = Epoch(["a"])
    epoch.remember("x", Known("e1", 7, 50))
    known = epoch.known("x")
    epoch.forget_all_but(["a"])
    assert not epoch.judge("x", _sign("", 0), known)
    assert epoch.doubt is None


def test_a_server_that_joined_later_may_be_begun() -> None:
    """A node that joined later is identified by its own key, which no process can have seen before."""
    epoch = Epoch(["a", "b"])
    epoch.remember("a", Known("e1", 1, 50))
    assert epoch.judge("new", _sign("", 0), None)
    assert epoch.may_begin("new")
