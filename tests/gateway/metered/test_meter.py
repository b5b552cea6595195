"""What is owed for a request, for each way it can end."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import FundingInvalid
from gateway.metered.meter import TRANSITIONS, Meter, Reconcile, RequestEvent, Settle, State, Void
from gateway.money import nano_from_usd
from gateway.openrouter.dialects import WIRE, Dialect
from gateway.openrouter.refusals import refusal
from gateway.openrouter.usage import Usage
from tests.gateway.recordings import Recording, each_recording

FIRST = b'data: {"id":"gen-1","choices":[{"delta":{"content":"Hello there"}}]}\n\n'
SECOND = b'data: {"id":"gen-1","choices":[{"delta":{"content":"!"}}]}\n\n'
USAGE = b'data: {"id":"gen-1","usage":{"prompt_tokens":3,"completion_tokens":4,"cost":0.5}}\n\n'
STATED = Settle(500_000_000, Usage(500_000_000, 3, 4, is_byok=False), "gen-1")
FAILURE = b'data: {"error":{"code":502,"message":"no"}}\n\n'


def streaming(*chunks: bytes, status: int = 200, header_id: str | None = None) -> Meter:
    meter = Meter()
    meter.sent()
    meter.opened(status, generation_id=header_id)
    for chunk in chunks:
        meter.body(chunk)
    return meter


def answered(body: bytes, status: int = 200, header_id: str | None = None) -> Meter:
    meter = Meter()
    meter.opened(status, generation_id=header_id)
    meter.body(body)
    meter.ended()
    return meter


def reconciled(meter: Meter) -> Reconcile:
    outcome = meter.outcome()
    assert isinstance(outcome, Reconcile)
    return outcome


ENDINGS = pytest.mark.parametrize("ending", [Meter.ended, Meter.cut, Meter.client_gone, Meter.revoked])


@ENDINGS
def test_a_stated_cost_is_settled_at_however_it_ends_once_its_end_was_seen(ending: object) -> None:
    """Once cost and end were seen nothing that happens later changes it."""
    meter = streaming(FIRST, USAGE, b"data: [DONE]\n\n")

    assert callable(ending)
    ending(meter)

    assert meter.outcome() == STATED


@pytest.mark.parametrize("ending", [Meter.cut, Meter.client_gone, Meter.revoked])
def test_a_cost_stated_before_the_end_is_asked_about(ending: object) -> None:
    """More may have been billed: the id is looked up, and the stated cost is the fallback."""
    meter = streaming(FIRST, USAGE)

    assert callable(ending)
    ending(meter)
    outcome = reconciled(meter)

    assert (outcome.generation_id, outcome.is_free, outcome.is_outdone) == ("gen-1", False, False)
    assert outcome.usage == STATED.usage


def test_a_cost_that_work_came_after_is_no_last_word() -> None:
    """Such a cost is a lower limit of the estimate."""
    meter = streaming(FIRST, USAGE, SECOND)
    meter.cut()

    assert reconciled(meter).is_outdone


def test_a_cost_without_an_id_is_settled_at() -> None:
    """Without an id, the stated cost cannot be checked and is booked."""
    meter = streaming(USAGE.replace(b'"id":"gen-1",', b""))
    meter.cut()

    assert meter.outcome() == Settle(500_000_000, STATED.usage, None)


@ENDINGS
def test_a_stream_without_a_cost_is_reconciled_however_it_ends(ending: object) -> None:
    """An absent cost is not zero: it is looked up by the id, or estimated from the bytes."""
    meter = streaming(FIRST, SECOND)

    assert callable(ending)
    ending(meter)

    assert meter.outcome() == Reconcile("gen-1", False, 2 * 4 + 10)


def test_usage_after_an_error_is_settled_at() -> None:
    """A 502 chunk was recorded before a billed usage chunk."""
    meter = streaming(FIRST, FAILURE, USAGE)
    meter.ended()

    assert meter.outcome() == STATED


def test_an_error_with_a_cost_of_zero_is_settled_at_zero() -> None:
    """Zero-completion insurance states a cost of 0, which is a known cost, not an absent one."""
    meter = streaming(b'data: {"id":"gen-1","error":{"code":400},"usage":{"cost":0}}\n\n')
    meter.ended()

    assert meter.outcome() == Settle(0, Usage(0, None, None, is_byok=False), "gen-1")


def test_the_last_event_counts_without_its_blank_line() -> None:
    """Upstream may break off right behind the usage."""
    meter = streaming(FIRST, USAGE.rstrip(b"\n"))
    meter.cut()

    assert reconciled(meter).usage == STATED.usage


def test_tokens_without_a_cost_feed_the_estimate() -> None:
    """The shape of October 2025."""
    meter = streaming(b'data: {"id":"gen-1","usage":{"prompt_tokens":13,"completion_tokens":15}}\n\ndata: [DONE]\n\n')
    meter.ended()
    outcome = reconciled(meter)

    assert (outcome.generation_id, outcome.usage) == ("gen-1", Usage(None, 13, 15, is_byok=False))
    assert meter.is_done


def test_a_bare_error_inside_a_200_owes_nothing() -> None:
    """No id, no usage, no content: upstream failed before any work."""
    meter = streaming(b": OPENROUTER PROCESSING\n\n", FAILURE)
    meter.ended()

    assert meter.outcome() == Void("failed")
    assert answered(b'\n   \n{"error":{"code":502,"message":"no"},"user_id":"user_x"}').outcome() == Void("failed")


def test_a_bare_error_with_an_id_is_asked_for_and_free_otherwise() -> None:
    """Insurance covers it, but searches may be billed."""
    header = streaming(FAILURE, header_id="gen-7")
    header.ended()
    own = streaming(b'data: {"id":"gen-7","error":{"code":429},"choices":[{"delta":{"content":""}}]}\n\n')
    own.ended()

    assert (reconciled(header).generation_id, reconciled(header).is_free) == ("gen-7", True)
    assert (reconciled(own).generation_id, reconciled(own).is_free) == ("gen-7", True)


def test_an_error_after_content_is_not_free() -> None:
    """Tokens were made; a provider may bill them."""
    meter = streaming(FIRST, FAILURE)
    meter.ended()
    partial = answered(b'{"id":"gen-1","choices":[{"error":{"code":502},"message":{"content":"Hel"}}]}')

    assert not reconciled(meter).is_free
    assert not reconciled(partial).is_free


def test_what_was_never_sent_owes_nothing() -> None:
    """A failed connection, or a client that left while we waited for Redis."""
    for leave in (Meter.cut, Meter.client_gone, Meter.revoked):
        meter = Meter()
        leave(meter)
        assert meter.outcome() == Void("not_sent")
    assert Meter().outcome() == Void("not_sent")


def test_what_was_sent_and_never_answered_may_be_owed() -> None:
    """Upstream may have done the work before its headers were lost."""
    meter = Meter()
    meter.sent()
    meter.cut()

    assert meter.outcome() == Reconcile(None, False, 0)


def test_a_request_may_be_sent_again_on_a_new_connection() -> None:
    """A kept connection that upstream had closed is no answer."""
    meter = Meter()
    meter.sent()
    meter.sent()
    meter.client_gone()

    assert meter.outcome() == Reconcile(None, False, 0)


@pytest.mark.parametrize("status", [302, 400, 401, 402, 403, 404, 408, 429, 500, 502, 524, 529])
def test_a_refusal_owes_nothing(status: int) -> None:
    """Upstream did no work."""
    assert answered(b'{"error":{"code":1,"message":"no"}}', status).outcome() == Void("refused")
    assert answered(b"<html>", status).outcome() == Void("refused")


def test_a_refusal_that_states_a_cost_is_settled_at() -> None:
    """Searches may have been paid for before the model failed."""
    body = b'{"error":{"code":502},"id":"gen-1","usage":{"prompt_tokens":3,"completion_tokens":4,"cost":0.5}}'

    assert answered(body, 502).outcome() == STATED
    assert answered(body.replace(b"0.5", b"0"), 400).outcome() == Void("refused")


def test_a_failure_with_an_id_is_asked_for_and_free_otherwise() -> None:
    """A 5xx may have done work; a 4xx has not."""
    assert answered(b"", 502, "gen-1").outcome() == Reconcile("gen-1", True, 0)
    assert answered(b"", 400, "gen-1").outcome() == Void("refused")


def test_a_json_answer_is_settled_at_its_cost() -> None:
    """Keep-alive blanks stand before it."""
    body = b'\n         \n{"id":"gen-1","usage":{"prompt_tokens":3,"completion_tokens":4,"cost":0.5}}'

    assert answered(body).outcome() == STATED


def test_a_json_answer_cut_short_is_reconciled_by_its_id() -> None:
    """Non-streamed answers are billed in full, even if the caller has disconnected."""
    meter = Meter()
    meter.opened(200)
    meter.body(b'{"id":"gen-1","choices":[{"mess')
    meter.client_gone()

    assert reconciled(meter).generation_id == "gen-1"


def test_a_200_that_ends_without_any_work_owes_nothing() -> None:
    """Blanks, an HTML page, comments: with an id it is looked up, without one voided."""
    for body in (b"", b"\n   \n", b"<html><body>Bad gateway</body></html>", b": OPENROUTER PROCESSING\n\n"):
        assert answered(body).outcome() == Void("failed")
        assert reconciled(answered(body, header_id="gen-9")).is_free


def test_a_200_that_breaks_off_without_any_work_may_be_owed() -> None:
    """Such an answer does not state that it failed, so it may have been billed."""
    meter = streaming(b": OPENROUTER PROCESSING\n\n")
    meter.cut()

    assert not reconciled(meter).is_free


def test_the_headers_id_is_known_before_the_body_and_wins() -> None:
    """The id must be posted to Redis before the first body byte is written to the client."""
    meter = streaming(header_id="gen-7")
    assert meter.generation_id == "gen-7"

    meter.body(FIRST)

    assert meter.generation_id == "gen-7"


@pytest.mark.parametrize("code", ["402", '"402"', "401", '"payment_required"'])
def test_a_refused_key_inside_a_200_is_noticed(code: str) -> None:
    """The stream is relayed unchanged; the connection is marked as having a refused key."""
    assert streaming(f'data: {{"error":{{"code":{code},"message":"x"}}}}\n\n'.encode()).funding_refused
    assert not streaming(FAILURE).funding_refused


def test_a_client_may_leave_while_upstream_is_still_read() -> None:
    """Some providers bill in full anyway: then reading on gives the true cost."""
    meter = streaming(FIRST)
    meter.client_gone()
    meter.body(USAGE)
    meter.ended()

    assert meter.outcome() == STATED


def test_late_news_about_a_closed_request_changes_nothing() -> None:
    """A client hangs up behind the last byte, and bytes behind the end are none of the answer."""
    meter = streaming(FIRST, USAGE)
    meter.ended()
    meter.client_gone()
    meter.cut()
    meter.body(USAGE.replace(b"0.5", b"9"))

    assert meter.outcome() == STATED
    assert meter.state == "closed"


def test_an_outcome_may_be_asked_for_twice() -> None:
    """The answer is the same."""
    meter = streaming(FIRST)

    assert meter.outcome() == meter.outcome()


def test_the_table_names_every_state_and_only_known_events() -> None:
    """An event that is not in the table is a bug of the caller."""
    assert set(TRANSITIONS) == set(get_args(State))
    assert {event for row in TRANSITIONS.values() for event in row} == set(get_args(RequestEvent))
    with pytest.raises(KeyError):
        Meter().ended()


@each_recording
def test_a_recorded_stream_is_settled_at_its_cost_or_reconciled(recording: Recording) -> None:
    """With a cost: that. Without: its id. With neither, and an error: nothing."""
    meter = streaming(*recording.chunks())
    meter.ended()
    outcome = meter.outcome()

    if recording.cost is not None:
        assert isinstance(outcome, Settle)
        assert outcome.cost_nano == nano_from_usd(recording.cost)
    elif recording.generation_id is not None:
        assert reconciled(meter).generation_id == recording.generation_id
    else:
        assert outcome == Void("failed")


@each_recording
def test_a_recorded_stream_cut_anywhere_is_never_void_once_its_id_is_known(recording: Recording) -> None:
    """Cut at every 37th byte: before the cost an id to ask by, after it the cost."""
    for end in range(0, len(recording.body), 37):
        meter = streaming(recording.body[:end])
        meter.cut()
        if meter.generation_id is not None:
            assert not isinstance(meter.outcome(), Void)


@settings(max_examples=300, deadline=None)
@given(
    status=st.sampled_from([200, 201, 400, 402, 502]),
    steps=st.lists(st.sampled_from([FIRST, SECOND, USAGE, FAILURE, b"junk", "gone", "revoked"]), max_size=8),
    ending=st.sampled_from([Meter.ended, Meter.cut, None]),
)
def test_a_200_with_content_is_never_void(status: int, steps: list[bytes | str], ending: object) -> None:
    """Whatever the order of things, an answer that carried output is settled or reconciled."""
    meter = streaming(status=status)
    for step in steps:
        if isinstance(step, bytes):
            meter.body(step)
        else:
            (meter.client_gone if step == "gone" else meter.revoked)()
    if callable(ending):
        ending(meter)
    outcome = meter.outcome()

    if status < 300 and FIRST in steps:
        assert isinstance(outcome, Settle | Reconcile)


@pytest.mark.parametrize("bad", ["gen 1", "", "x" * 129, "gen-\udcff"])
def test_a_header_that_is_no_id_leaves_the_bodys_to_be_asked_by(bad: str) -> None:
    """A value that cannot be stored or put into a URL is not an id, in the header or in the body."""
    meter = Meter()
    meter.sent()
    meter.opened(200, generation_id=bad)
    meter.body(b'data: {"id":"gen-2","choices":[]}\n\n')
    assert meter.generation_id == "gen-2"


@pytest.mark.parametrize(
    ("status", "body", "is_refused"),
    [
        (429, b'{"error":{"message":"You exceeded your current quota, please check your plan and billing"}}', False),
        (502, b'{"error":{"code":401,"message":"No auth credentials found"}}', False),
        (502, b'{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}', False),
        (400, b'{"error":{"type":"authentication_error","message":"no"}}', False),
        (403, b'{"error":{"message":"Key limit exceeded"}}', True),
        (402, b'{"error":{"message":"Payment Required"}}', True),
        (401, b'{"error":{"code":401,"message":"User not found"}}', True),
    ],
)
def test_a_refusal_is_of_the_funding_by_its_status(status: int, body: bytes, *, is_refused: bool) -> None:
    """A provider's rate limit or fault that mentions keys or quota does not concern the payer's key or credit."""
    meter = Meter(WIRE[Dialect.CHAT])
    meter.sent()
    meter.opened(status)
    meter.body(body)
    meter.ended()
    assert meter.funding_refused is is_refused
    told = refusal(status, {}, body, now_ms=0)
    assert isinstance(told, FundingInvalid) is is_refused
