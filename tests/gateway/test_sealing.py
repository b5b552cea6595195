"""Sealed keys open in their own place, under any key of the ring, and nowhere else."""

import pytest

from gateway.key_rings import KeyRing
from gateway.sealing import SealBroken, Sealer

_OLD, _NEW = ("old", b"o" * 32), ("new", b"n" * 32)
_PLACE = "connection:x"


def test_what_is_sealed_opens_in_its_place() -> None:
    """And shows nothing of itself."""
    sealer = Sealer(KeyRing((_NEW,)))
    sealed = sealer.seal("sk-or-v1-é", place=_PLACE)
    assert sealer.open(sealed, place=_PLACE) == "sk-or-v1-é"
    assert b"sk-or" not in sealed
    assert sealed != sealer.seal("sk-or-v1-é", place=_PLACE)


def test_it_does_not_open_in_another_place() -> None:
    """A sealed key copied to another connection is worth nothing."""
    sealer = Sealer(KeyRing((_NEW,)))
    with pytest.raises(SealBroken):
        sealer.open(sealer.seal("key", place=_PLACE), place="connection:y")


def test_an_older_key_of_the_ring_still_opens() -> None:
    """The newest seals; a ring without the old key does not open what the old one sealed."""
    sealed = Sealer(KeyRing((_OLD,))).seal("key", place=_PLACE)
    both = Sealer(KeyRing((_NEW, _OLD)))
    assert both.open(sealed, place=_PLACE) == "key"
    assert not both.is_newest(sealed)
    assert both.is_newest(both.seal("key", place=_PLACE))
    with pytest.raises(SealBroken):
        Sealer(KeyRing((_NEW,))).open(sealed, place=_PLACE)
    with pytest.raises(SealBroken):
        Sealer(KeyRing((("old", b"x" * 32),))).open(sealed, place=_PLACE)


@pytest.mark.parametrize("sealed", [b"", b":", b"new", b"new:", b"new:short", b"\xff:x", b"new:" + bytes(40)])
def test_garbage_does_not_open(sealed: bytes) -> None:
    """Whatever lies there, it is SealBroken and nothing else."""
    with pytest.raises(SealBroken):
        Sealer(KeyRing((_NEW,))).open(sealed, place=_PLACE)


def test_one_altered_bit_breaks_the_seal() -> None:
    """Anywhere behind the key id."""
    sealer = Sealer(KeyRing((_NEW,)))
    sealed = bytearray(sealer.seal("key", place=_PLACE))
    for place in range(4, len(sealed)):
        altered = bytearray(sealed)
        altered[place] ^= 1
        with pytest.raises(SealBroken):
            sealer.open(bytes(altered), place=_PLACE)
