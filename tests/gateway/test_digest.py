"""The one digest of secrets."""

import hashlib

from gateway.digest import sha256_hex


def test_the_digest_is_that_of_the_text_in_utf_8() -> None:
    """What other tools compute of the same key is the same digest."""
    assert sha256_hex("sk-or-é") == hashlib.sha256("sk-or-é".encode()).hexdigest()


def test_a_text_that_is_no_utf_8_has_a_digest_of_its_own() -> None:
    """A caller's stray bytes are compared like any other wrong secret, and raise nothing."""
    assert len({sha256_hex(text) for text in ("\ud800", "\udcff", "?", "")}) == 4
