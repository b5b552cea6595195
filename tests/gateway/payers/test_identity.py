"""User ids: which are valid, and how a header carries them."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.payers.identity import from_header, user_id_fault


@pytest.mark.parametrize("user", ["a", "a" * 256, "é" * 128, "a:b{c}/d e", "\u2028", "日本", "😀" * 64])
def test_these_are_user_ids(user: str) -> None:
    """1 to 256 bytes of UTF-8 without control characters."""
    assert user_id_fault(user) is None


@pytest.mark.parametrize("user", ["", "a" * 257, "é" * 129, "a\n", "a\r", "\x00", "\x7f", "\x85", "\ud800"])
def test_these_are_not(user: str) -> None:
    """Length counts in bytes; C0, DEL and C1 are control characters; half a surrogate is no UTF-8."""
    assert user_id_fault(user) is not None


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60))
def test_an_id_that_is_not_ascii_travels_percent_encoded(user: str) -> None:
    """Encoding what is not plain ASCII is enough, and encoding all of it does too."""
    if user.isascii():
        return
    assert from_header(quote(user, safe="")) == user
    assert from_header(user) == user


@pytest.mark.parametrize("user", ["%41", "100%", "a%2Fb", "a+b", "50%25"])
def test_plain_ascii_stands_for_itself(user: str) -> None:
    """No percent sign of an app's own id is taken for an escape."""
    assert from_header(user) == user


@pytest.mark.parametrize("value", ["", "%FF", "%C3", "%C3%28", "a" * 257, "%C3%A9" * 129, "%C2%85", "\udcff"])
def test_a_value_that_stands_for_nobody_is_refused(value: str) -> None:
    """ValueError with what is wrong."""
    with pytest.raises(ValueError, match=r"."):
        from_header(value)
