"""What Lua wrote of a request, read again."""

import pytest

from gateway.ledger.record import Hold, read_entry, read_hold

ADMITTED = b"1000\n20000\n1728000000001\n3\n1\n128\n5"
OPEN = b"open\ngen-1\nclient\nacme/large\n" + ADMITTED + b"\n77\n2\n1728000000009\nk:\n\x00sealed\n"
CLOSED = b"settled\ngen-1\ncomplete\nacme/large\n" + ADMITTED + b"\n1200\n200\n15 \n1728000000042"


def test_an_open_hold_is_read_with_its_sealed_key() -> None:
    """Which is bytes, line ends among them."""
    assert read_hold(OPEN) == Hold(
        "open",
        "gen-1",
        "client",
        "acme/large",
        1000,
        20000,
        1728000000001,
        3,
        estimate_nano=77,
        attempts=2,
        reconcile_ms=1728000000009,
        funding=b"k:\n\x00sealed\n",
    )


def test_a_closed_hold_is_read_with_its_outcome() -> None:
    """All fields of a closed hold are read; unknown ones are None."""
    hold = read_hold(CLOSED)
    assert (hold.state, hold.cost_nano, hold.overrun_nano, hold.settled_ms) == ("settled", 1200, 200, 1728000000042)
    assert (hold.prompt_tokens, hold.completion_tokens, hold.is_open, hold.funding) == (15, None, False, b"")


def test_a_void_of_what_was_never_admitted_has_no_times() -> None:
    """A void of a request without a hold has an outcome and no times."""
    hold = read_hold(b"void\n\ncrash\n\n0\n\n\n0\n\n0\n0\n0\n0\n \n1728000000042")
    assert (hold.state, hold.day, hold.admitted_ms, hold.cost_nano) == ("void", None, None, 0)


@pytest.mark.parametrize("raw", [b"", b"open", OPEN.replace(b"77", b"many"), CLOSED.replace(b"15 ", b"15")])
def test_what_cannot_be_read_is_no_hold(raw: bytes) -> None:
    """ValueError, never a guess."""
    with pytest.raises(ValueError, match="a hold that cannot be read"):
        read_hold(raw)


def test_an_entry_is_read_by_name() -> None:
    """An entry has the request, the difference, and the fields of the hold at the time of writing."""
    closed = CLOSED.rpartition(b"\n")[0]
    entry = read_entry(b"1728000000042-0", {b"request_id": b"req_a", b"delta_nano": b"-300", b"closed": closed})
    assert entry == {
        "entry": "1728000000042-0",
        "request_id": "req_a",
        "status": "settled",
        "day": "20000",
        "delta_nano": "-300",
        "cost_nano": "1200",
        "hold_nano": "1000",
        "overrun_nano": "200",
        "generation_id": "gen-1",
        "model": "acme/large",
        "funding_version": "3",
        "prompt_tokens": "15",
        "completion_tokens": "",
        "admitted_ms": "1728000000001",
        "settled_ms": "1728000000042",
        "ended_by": "complete",
    }
