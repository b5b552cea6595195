"""Session tokens, below HTTP."""

import time

import jwt
import pytest

from gateway.errors import AuthError
from gateway.key_rings import KeyRing
from gateway.payers.sessions import Sessions

_OLD, _NEW = ("old", b"o" * 32), ("new", b"n" * 32)


def test_what_is_minted_reads_back() -> None:
    """To the nano-USD of the cap, for any user id."""
    made = Sessions(KeyRing((_NEW,)))
    for limit in (None, 1, 12_345_678_901, 2**53 - 1):
        token, expires_at = made.mint("app0123456789abcdef", "é:{x}", "test", limit)
        session = made.read(token)
        assert (session.app_id, session.user_id, session.mode) == ("app0123456789abcdef", "é:{x}", "test")
        assert (session.limit_nano, session.expires_at, session.label) == (limit, expires_at, "")
    assert (
        made.read(made.mint("app0123456789abcdef", "ada", "live", None, label="ada@x.example")[0]).label
        == "ada@x.example"
    )


def test_an_older_key_of_the_ring_still_reads() -> None:
    """After a rotation tokens of the old key live on until it leaves the ring."""
    token, _ = Sessions(KeyRing((_OLD,))).mint("app0123456789abcdef", "ada", "live", None)
    both = Sessions(KeyRing((_NEW, _OLD)))
    assert both.read(token).user_id == "ada"
    assert jwt.get_unverified_header(both.mint("app0123456789abcdef", "ada", "live", None)[0])["kid"] == "new"
    with pytest.raises(AuthError):
        Sessions(KeyRing((_NEW,))).read(token)


def test_an_expired_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes and the leeway for clocks that drift, no more."""
    made = Sessions(KeyRing((_NEW,)))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 700)
    token, _ = made.mint("app0123456789abcdef", "ada", "live", None)
    with pytest.raises(AuthError):
        made.read(token)
