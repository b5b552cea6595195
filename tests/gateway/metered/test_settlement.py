"""An ending as a posting; `test_closing.py` holds what each fault of an answer is booked at."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.keys import Budget
from gateway.ledger.outcomes import HandOver, Settlement
from gateway.metered.body import ChatRequest
from gateway.metered.inflight import OpenRequest
from gateway.metered.meter import Meter
from gateway.metered.settlement import posting
from gateway.openrouter.dialects import WIRE, Dialect

_CHAT = ChatRequest.parse(b'{"model":"acme/large","messages":[{"role":"user","content":"Hi"}]}')


def _ended(meter: Meter, *, mode: str = "live", is_held: bool = True) -> Settlement | HandOver:
    request = SimpleNamespace(
        meter=meter,
        chat=_CHAT,
        budget=Budget.of_user(mode, "appx", "ada"),
        admission=object() if is_held else None,
        ended_by="complete",
    )
    return posting(cast("OpenRequest", cast("Any", request)), None)


def _meter(body: bytes, *, generation_id: str | None = "gen-1") -> Meter:
    meter = Meter(WIRE[Dialect.CHAT])
    meter.sent()
    meter.opened(200, generation_id=generation_id)
    meter.body(body)
    meter.ended()
    return meter


def test_a_stated_cost_is_settled_with_its_id() -> None:
    """The id of a whole answer rides in the settlement."""
    owed = _ended(_meter(b'{"id":"gen-1","usage":{"prompt_tokens":3,"completion_tokens":1,"cost":0.5}}'))
    assert owed == Settlement("settled", 500_000_000, "gen-1", "acme/large", 3, 1, "works", "complete")


def test_a_cost_that_was_not_stated_is_asked_for_where_there_is_an_id() -> None:
    """Handed over with an estimate; without an id the estimate is booked; in test mode nothing is."""
    owed = _ended(_meter(b'{"id":"gen-1","choices":[{"message":{"content":"Hi"}}]}'))
    assert isinstance(owed, HandOver)
    assert (owed.generation_id, owed.funding) == ("gen-1", "")
    assert owed.estimate_nano > 0
    estimated = _ended(_meter(b'{"choices":[{"message":{"content":"Hi"}}]}', generation_id=None))
    assert isinstance(estimated, Settlement)
    assert estimated.status == "estimated"
    assert _ended(_meter(b'{"choices":[{"message":{"content":"Hi"}}]}'), mode="test") == Settlement(
        "void", model="acme/large", funding="works"
    )


@pytest.mark.parametrize("is_held", [True, False])
def test_what_never_left_is_void(*, is_held: bool) -> None:
    """A request that was not sent is voided, with or without a known hold."""
    assert _ended(Meter(WIRE[Dialect.CHAT]), is_held=is_held) == Settlement("void", model="acme/large")
