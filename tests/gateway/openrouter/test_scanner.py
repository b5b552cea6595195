"""Of an answer without a byte nothing is known."""

from gateway.openrouter.scanner import Scanner
from tests.gateway.openrouter.scans import facts


def test_an_answer_without_a_byte_says_nothing() -> None:
    """Neither usage nor id nor end, before and after it was given up."""
    nothing = Scanner()
    before = facts(nothing)
    nothing.feed(b"")
    nothing.finish()
    assert facts(nothing) == before == (None, None, (), False, False, False, 0, 0)
