"""The spans of a metered call: attribute names of the semantic conventions, times, and errors."""

from collections.abc import Mapping

import pytest

from gateway.metered.spans import OPERATIONS, CallRecord, Step, steps
from gateway.openrouter.dialects import Dialect

NOTES = {"app": "app2", "user": "abc", "mode": "live", "model": "acme/large", "stream": True, "hold_nano": 7}
SETTLED = {"ledger": "settled", "ended_by": "complete", "prompt_tokens": 3, "completion_tokens": 1, "cost_usd": 0.0015}
WHOLE = {"asked": 1.0, "held": 1.5, "sending": 2.0, "opened": 3.0, "relayed": 3.5, "closing": 9.0, "closed": 9.25}


def made(
    status: int = 200,
    *,
    notes: Mapping[str, object] | None = None,
    points: Mapping[str, float] | None = None,
    path: str = "/v1/chat/completions",
) -> list[Step]:
    known = {**NOTES, **SETTLED} if notes is None else notes
    record = CallRecord(path, status, "req_1", known, 0.5, 10.0, WHOLE if points is None else points)
    return list(steps(record, scheme="https", upstream="openrouter.ai"))


def test_a_whole_call_has_a_span_for_each_step() -> None:
    """Its own holds what was booked; the model's holds the tokens, so that no dashboard adds them twice."""
    own, admit, model, settle = made()
    assert (own.name, own.kind, own.begun, own.ended, own.fault) == ("POST /v1/chat/completions", "SERVER", 0.5, 10, "")
    assert own.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "url.scheme": "https",
        "wattfare.request_id": "req_1",
        "gen_ai.request.model": "acme/large",
        "wattfare.app": "app2",
        "wattfare.user": "abc",
        "wattfare.mode": "live",
        "wattfare.ledger": "settled",
        "wattfare.ended_by": "complete",
        "wattfare.hold_nano": 7,
        "wattfare.cost_usd": 0.0015,
    }
    assert (admit.name, admit.kind, admit.begun, admit.ended) == ("admit", "INTERNAL", 1, 1.5)
    assert (model.name, model.kind, model.begun, model.ended) == ("chat acme/large", "CLIENT", 2, 9)
    assert model.events == {"first_byte": 3.5}
    assert model.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openrouter",
        "gen_ai.request.model": "acme/large",
        "gen_ai.request.stream": True,
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 1,
        "server.address": "openrouter.ai",
    }
    assert (settle.name, settle.begun, settle.ended) == ("settle", 9, 9.25)


def test_a_call_that_was_refused_here_ends_where_it_came_to() -> None:
    """A caller's fault is no error of the server; what was begun and not ended lasts until the answer."""
    own, admit = made(402, notes={**NOTES, "code": "budget_exceeded"}, points={"asked": 1.0})
    assert (own.attributes["wattfare.code"], own.fault) == ("budget_exceeded", "")
    assert admit.ended == 10
    [own] = made(401, notes={"code": "auth"}, points={})
    assert "gen_ai.request.model" not in own.attributes


@pytest.mark.parametrize(("ended_by", "fault"), [("upstream", "upstream"), ("refused", "refused"), ("client", "")])
def test_a_fault_of_the_models_is_one_of_its_span(ended_by: str, fault: str) -> None:
    """A model's failure sets the error status of its span, and of the call's span if the answer is an error."""
    own, _, model, _ = made(502, notes={**NOTES, "code": "upstream", "ended_by": ended_by})
    assert (own.fault, model.fault) == ("upstream", fault)
    assert made(500, notes=NOTES)[0].fault == "500"


def test_an_answer_that_came_at_once_has_its_first_byte_within_its_span() -> None:
    """It is settled before it is handed on."""
    assert made(points={**WHOLE, "relayed": 9.5})[2].events == {"first_byte": 9.0}


def test_every_dialect_has_its_operation_under_both_prefixes() -> None:
    """And no other path is traced."""
    assert set(OPERATIONS) == {f"{prefix}/{dialect.value}" for prefix in ("/v1", "/api/v1") for dialect in Dialect}
    assert made(path="/api/v1/embeddings")[2].name == "embeddings acme/large"
