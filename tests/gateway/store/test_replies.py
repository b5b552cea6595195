"""Redis's answers as Python's own."""

import pytest

from gateway.store.replies import by_name, paired, strings, text


def test_answers_are_read_as_text_and_by_name() -> None:
    """Bytes that are no text stay bytes where a field may hold a sealed key."""
    assert text("é".encode()) == "é"
    assert paired([b"a", b"1", b"b", b"2"]) == {b"a": b"1", b"b": b"2"}
    assert by_name({b"funding": b"\xff"}) == {"funding": b"\xff"}
    assert strings({b"a": b"1"}) == {"a": "1"}


def test_half_a_pair_is_a_fault() -> None:
    """A list that Redis did not send whole must not be read as one."""
    with pytest.raises(ValueError, match="shorter"):
        paired([b"a"])
