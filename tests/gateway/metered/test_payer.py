"""Which payer a request names; `test_call.py` has the errors for malformed headers."""

import pytest

from gateway.metered.payer import known_budget


def test_a_payer_is_one_budget_whatever_the_header_looks_like() -> None:
    """Percent-encoded UTF-8 and raw UTF-8 name one user, and key names are made once for each header."""
    encoded, raw = known_budget(("live", "appx", "J%C3%BCrgen")), known_budget(("live", "appx", "Jürgen"))
    assert encoded == raw
    assert known_budget(("live", "appx", "Jürgen")) is raw
    assert known_budget(("test", "appx", "Jürgen")) != raw


@pytest.mark.parametrize("header", ["", "a\x00", "x" * 257, "%ff%fe"])
def test_what_names_nobody_is_refused(header: str) -> None:
    """Empty, with a control character, too long, no UTF-8."""
    with pytest.raises(ValueError, match=r"."):
        known_budget(("live", "appx", header))
