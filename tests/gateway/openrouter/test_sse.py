"""The scanners read usage, id and errors off any stream, at any split, and never raise."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.money import nano_from_usd
from gateway.openrouter.dialects import WIRE, Dialect
from gateway.openrouter.sse import SseScanner
from gateway.openrouter.usage import AnswerError, Usage
from tests.gateway.openrouter.scans import CHAT, COSTS, HALF_A_DOLLAR, facts, pieces, read_json, scanned
from tests.gateway.recordings import Recording, each_recording


def assert_as_recorded(scanner: SseScanner, recording: Recording) -> None:
    usage = scanner.usage
    assert scanner.generation_id == recording.generation_id
    assert (usage is not None) == recording.has_usage
    assert (usage and usage.prompt_tokens) == recording.prompt_tokens
    assert (usage and usage.completion_tokens) == recording.completion_tokens
    assert (usage and usage.cost_nano) == (None if recording.cost is None else nano_from_usd(recording.cost))
    assert tuple(error.code for error in scanner.errors) == recording.error_codes
    assert scanner.done == recording.done


@each_recording
def test_a_recorded_stream_is_read_at_its_own_chunk_lengths(recording: Recording) -> None:
    """Usage, id and errors equal the recording's known values."""
    assert_as_recorded(scanned(*recording.chunks(), most=1 << 22), recording)


@each_recording
def test_a_recorded_stream_is_read_one_byte_at_a_time(recording: Recording) -> None:
    """The hardest split of all finds the same."""
    assert_as_recorded(scanned(*(recording.body[at : at + 1] for at in range(len(recording.body)))), recording)


@each_recording
def test_a_recorded_stream_is_read_with_crlf_and_cr_line_ends(recording: Recording) -> None:
    """The three line ends of the standard mean the same."""
    for end in (b"\r\n", b"\r"):
        body = recording.body.replace(b"\n", end)
        assert_as_recorded(scanned(body), recording)
        assert_as_recorded(scanned(*(body[at : at + 1] for at in range(len(body)))), recording)


@each_recording
@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(min_value=0), max_size=12))
def test_splits_never_change_what_a_recording_says(recording: Recording, cuts: list[int]) -> None:
    """Random cuts give every fact that the whole body gives."""
    assert facts(scanned(*pieces(recording.body, cuts))) == facts(scanned(recording.body))


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("kind", [b"{}", b'["ping"]', b"[[]]", b"7", b"null", b'{"ping":"ping"}'])
def test_a_type_that_is_no_word_raises_nothing(dialect: Dialect, kind: bytes) -> None:
    """Neither in a keep-alive event nor in one with a usage."""
    scanner = SseScanner(WIRE[dialect])
    scanner.feed(b'data: {"type":%b}\n\ndata: {"type":%b,"usage":{"cost":0.5}}\n\n' % (kind, kind))
    scanner.finish()
    assert scanner.usage is not None
    assert scanner.usage.cost_nano == 500_000_000


FRAGMENTS = st.sampled_from(
    [
        b"data: ", b"data:", b"data", b": comment", b"event: message", b"id: 7", b"\n", b"\r", b"\r\n", b"\n\n",
        b"\xef\xbb\xbf", b"[DONE]", b"{}", b'{"id":"gen-1"}', COSTS, b'{"usage":', b'{"error":{"code":402}}',
        b'{"response":{"id":"gen-2","usage":{"input_tokens":1,"cost":9e-7}}}', b'"usage"', b"\x00\xff", b"x" * 90,
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(body=st.lists(FRAGMENTS, max_size=40).map(b"".join), cuts=st.lists(st.integers(min_value=0), max_size=8))
def test_splits_never_change_what_any_stream_says(body: bytes, cuts: list[int]) -> None:
    """Whole or split, at a bound that some events pass, the facts are the same."""
    assert facts(scanned(*pieces(body, cuts), most=100)) == facts(scanned(body, most=100))


@settings(max_examples=200, deadline=None)
@given(chunks=st.lists(st.binary(max_size=60), max_size=8))
def test_garbage_never_raises(chunks: list[bytes]) -> None:
    """Whatever upstream sends, the relay is not disturbed."""
    facts(scanned(*chunks))
    facts(read_json(*chunks))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["usage", "cost", "error", "id", "response", "message", "choices", "code", "metadata", "is_byok",
             "cost_details", "upstream_inference_cost", "prompt_tokens"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(document=JSON_VALUES)
def test_any_shape_under_the_known_names_never_raises(document: object) -> None:
    """A usage that is a list, an error that is a number, a cost that is an object: none of it raises."""
    raw = json.dumps(document).encode()
    facts(scanned(b"data: " + raw + b"\n\n"))
    facts(read_json(raw))


# Lines of every dialect, each an event: work, ids, costs, errors, ends, pings, comments, and text that names them.
EVENTS = [
    b'data: {"id":"gen-1","choices":[{"delta":{"content":"some text that is a little longer"}}]}',
    b'data: {"id":"gen-1","choices":[{"delta":{"content":""}}],"usage":{"prompt_tokens":3,"cost":0.5}}',
    b'data: {"id":"gen-1","choices":[{"delta":{"content":"the \\"usage\\" and the \\"error\\" of it, message_stop"}}]}',
    b'data: {"choices":[{"delta":{"content":"x"},"error":{"code":502,"message":"provider"}}]}',
    b'data: {"type":"message_start","message":{"id":"gen-2","usage":{"input_tokens":9,"cost":0.1}}}',
    b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"some text of an answer"}}',
    b'data: {"type":"message_delta","delta":{},"usage":{"output_tokens":7,"cost":0.25}}',
    b'data: {"type":"message_stop"}',
    b'data: {"type":"response.output_text.delta","delta":"some text of a response, and more of it"}',
    b'data: {"type":"response.completed","response":{"id":"gen-3","usage":{"output_tokens":7,"cost":0.75}}}',
    b'data: {"type":"response.failed","response":{"error":{"code":"server_error","message":"broken"}}}',
    b'data: {"type":"ping"}',
    b"data: [DONE]",
    b": OPENROUTER PROCESSING",
    b"event: message\ndata: {}",
]


@pytest.mark.parametrize("dialect", Dialect)
@settings(max_examples=60, deadline=None)
@given(events=st.lists(st.tuples(st.sampled_from(EVENTS), st.booleans()), max_size=24))
def test_events_that_come_together_are_read_as_one_byte_at_a_time(
    dialect: Dialect, events: list[tuple[bytes, bool]]
) -> None:
    """Whatever a read holds of them: one, some or all, each counts once, and nothing that counts is passed over."""
    body = b"".join(event + b"\n\n" for event, _ in events)
    chunks = b"".join(event + (b"\n\n\0" if is_cut else b"\n\n") for event, is_cut in events).split(b"\0")
    found = []
    for split in (chunks, [body], [body[at : at + 1] for at in range(len(body))]):
        scanner = SseScanner(WIRE[dialect])
        for chunk in split:
            scanner.feed(chunk)
        scanner.finish()
        found.append((facts(scanner), scanner.events))
    assert found[0] == found[1] == found[2]


def test_depth_bombs_and_endless_digits_are_no_usage() -> None:
    """What Python's parser refuses is an event without usage, and the next event is still read."""
    bombs = (b'{"usage":{"a":' + b"[" * 100_000, b'{"usage":{"cost":' + b"9" * 5000 + b"}}")
    for bomb in bombs:
        assert scanned(b"data: " + bomb + b"\n\n", most=1 << 20).usage is None
        assert scanned(b"data: " + bomb + b"\n\ndata: " + COSTS, most=1 << 20).usage == HALF_A_DOLLAR
        assert read_json(bomb).usage is None


def test_the_last_usage_wins() -> None:
    """Of two usages the later one is owed."""
    later = COSTS.replace(b"0.5", b"0.25")
    assert scanned(b"data: " + COSTS + b"\n\ndata: " + later + b"\n\n").usage == Usage(250_000_000, 3, 4, is_byok=False)


def test_a_usage_null_or_empty_is_no_usage() -> None:
    """/responses sends `usage: null` on its first events; only an object counts."""
    body = b"data: " + COSTS + b'\n\ndata: {"usage":null}\n\ndata: {"usage":{}}\n\n'
    assert scanned(body).usage == HALF_A_DOLLAR


def test_usage_is_read_after_an_error_and_without_a_terminator() -> None:
    """A billed usage chunk was recorded after a 502 chunk, with no [DONE] and no blank line behind it."""
    scanner = scanned(b'data: {"error":{"code":502,"message":"no"}}\n\ndata: ' + COSTS)
    assert scanner.usage == HALF_A_DOLLAR
    assert scanner.errors == (AnswerError(502, "no", None),)
    assert not scanner.done


def test_an_anthropic_stream_adds_up_over_its_events() -> None:
    """/messages gives the input count first and the output count with the cost last."""
    start = b'{"type":"message_start","message":{"id":"gen-9","usage":{"input_tokens":25,"output_tokens":1}}}'
    delta = b'{"type":"message_delta","usage":{"output_tokens":15,"cost":0.001}}'
    scanner = scanned(b"event: message_start\ndata: " + start + b"\n\nevent: message_delta\ndata: " + delta + b"\n\n")
    assert scanner.generation_id == "gen-9"
    assert scanner.usage == Usage(1_000_000, 25, 15, is_byok=False)


def test_data_over_several_lines_is_one_event() -> None:
    """Lines of one event are joined by a line feed, with or without the blank after the colon."""
    assert scanned(b'data:{"usage":\ndata: {"cost":\ndata: 0.5}}\n\n').usage == Usage(
        500_000_000, None, None, is_byok=False
    )


def test_a_byte_order_mark_is_skipped() -> None:
    """A BOM before the first field is no part of its name."""
    assert scanned(b"\xef", b"\xbb\xbfdata: ", COSTS, b"\n\n").usage == HALF_A_DOLLAR
    assert scanned(b"\xef\xbb\xbfdata: " + COSTS + b"\n\n").usage == HALF_A_DOLLAR


def test_a_carriage_return_ends_a_line_of_a_chunk_that_could_be_skimmed() -> None:
    """A line ends with LF, CRLF or CR (WHATWG HTML, 9.2.5), also between the events of one chunk."""
    text = b'data: {"id":"gen-1","choices":[{"delta":{"content":"twenty letters or so"}}]}'
    said = scanned(text + b"\n\n", text + b"\r\rdata: [DONE]\n\n")
    assert (said.events, said.done) == (2, True)


def test_an_event_above_the_bound_is_skipped_and_later_ones_are_read() -> None:
    """Memory is bounded by one event; events after a too large one are still read."""
    huge = [b"data: "] + [b"x" * 50] * 10 + [b"\n"] + [b"data: y\n"] * 10 + [b"\n"]
    assert scanned(*huge, b"data: ", COSTS, b"\n\n", most=300).usage == HALF_A_DOLLAR
    assert scanned(b"".join(huge), b"data: ", COSTS, b"\n\n", most=300).usage == HALF_A_DOLLAR


def test_of_a_large_event_the_usage_and_the_end_are_read() -> None:
    """/responses sends all of its output once more in its last event, and the usage behind it."""
    output = [{"type": "message", "content": [{"type": "output_text", "text": "y" * 600_000}]}]
    response = {"id": "gen-7", "output": output, "usage": {"input_tokens": 3, "output_tokens": 4, "cost": 0.5}}
    event = b"data: " + json.dumps({"type": "response.completed", "response": response}).encode() + b"\n\n"
    for size in (len(event), 65_536, 999):
        scanner = SseScanner(WIRE[Dialect.RESPONSES])
        for at in range(0, len(event), size):
            scanner.feed(event[at : at + size])
        assert (scanner.usage, scanner.generation_id) == (HALF_A_DOLLAR, "gen-7")
        assert (scanner.done, scanner.has_work) == (True, True)


def test_the_end_needs_no_blank_line() -> None:
    """Upstream may hang open before it."""
    scanner = SseScanner(CHAT)
    scanner.feed(b"data: [DONE]\n")
    assert scanner.done


def test_endless_small_lines_do_not_pass_the_bound() -> None:
    """A million one-byte data lines without a blank line are held no more than a large event is."""
    scanner = SseScanner(CHAT, max_event_bytes=1000)
    for _ in range(1000):
        scanner.feed(b"data:\n")
    assert len(scanner._data) <= 20


def test_token_text_that_speaks_of_usage_is_not_usage() -> None:
    """Quotes inside a string are escaped on the wire, so text cannot pose as a field."""
    said = json.dumps({"choices": [{"delta": {"content": COSTS.decode()}}, {"delta": {"content": "usage"}}]}).encode()
    assert scanned(b"data: " + said + b"\n\n").usage is None
    assert read_json(said).usage is None


@pytest.mark.parametrize(
    "cost", [b"1e999999999", b"-0.1", b"NaN", b"Infinity", b'"0.1"', b"true", b"null", b"[]", b"1e99999999999999999999"]
)
def test_an_absurd_cost_is_no_cost(cost: bytes) -> None:
    """Tokens are kept and the cost stays unknown: it is looked up, never taken for zero."""
    assert scanned(b"data: " + COSTS.replace(b"0.5", cost) + b"\n\n").usage == Usage(None, 3, 4, is_byok=False)
    assert read_json(COSTS.replace(b"0.5", cost)).usage == Usage(None, 3, 4, is_byok=False)


@pytest.mark.parametrize(
    ("literal", "nano"), [(b"0", 0), (b"9e-7", 900), (b"0.0076509169000000005", 7_650_917), (b"1E-10", 1)]
)
def test_a_cost_is_read_from_its_literal_and_rounded_up(literal: bytes, nano: int) -> None:
    """Exponents and float noise are real; a fraction of a nano-USD rounds up."""
    usage = scanned(b"data: " + COSTS.replace(b"0.5", literal) + b"\n\n").usage
    assert usage is not None
    assert usage.cost_nano == nano


@pytest.mark.parametrize(
    ("cost", "bill", "nano"),
    [("0", "0.0003253", 325_300), ("0.01", "0.2", 210_000_000), ("0", "null", None), ("null", "1", None)],
)
def test_byok_counts_the_fee_and_the_providers_bill(cost: str, bill: str, nano: int | None) -> None:
    """With one of the two unknown, the cost is unknown."""
    raw = f'{{"usage":{{"cost":{cost},"is_byok":true,"cost_details":{{"upstream_inference_cost":{bill}}}}}}}'
    assert read_json(raw.encode()).usage == Usage(nano, None, None, is_byok=True)


def test_errors_are_found_on_top_in_a_response_and_in_a_choice() -> None:
    """Three shapes were recorded or are documented; names may stand for numbers."""
    nested = b'data: {"response":{"error":{"code":"server_error","message":"a"},"error_type":"server"}}\n\n'
    choice = (
        b'data: {"choices":[{"error":{"code":"402","message":"b","metadata":{"error_type":"payment_required"}}}]}\n\n'
    )
    plain = b'data: {"error":"c"}\n\n'
    assert scanned(nested, choice, plain).errors == (
        AnswerError("server_error", "a", "server"),
        AnswerError("402", "b", "payment_required", frozenset({"error_type"})),
        AnswerError(None, "c", None),
    )


@pytest.mark.parametrize("bad", ["gen 1", "", "x" * 129, "gen-\n1", "gen-é"])
def test_an_id_that_could_not_be_asked_for_is_no_id(bad: str) -> None:
    """The id is put into Redis and a URL: printable ASCII without blanks, at most 128 characters."""
    assert scanned(b"data: " + json.dumps({"id": bad}).encode() + b"\n\n").generation_id is None
    assert read_json(json.dumps({"id": bad}).encode()).generation_id is None


def test_the_id_is_known_with_the_first_event() -> None:
    """The id must be posted to Redis before the first byte is written to the client."""
    scanner = SseScanner(CHAT)
    scanner.feed(b': OPENROUTER PROCESSING\n\ndata: {"id":"gen-1","choices":[]}\n\n')
    assert scanner.generation_id == "gen-1"


def test_only_output_is_work() -> None:
    """Keep-alives, starts, empty deltas, errors and what is no event commit a 200 before any work was done."""
    idle = (
        b": OPENROUTER PROCESSING\n\n" * 5,
        b'data: {"error":{"code":502}}\n\n',
        b'event: error\nid: 7\nretry: 10\ndata: {"error":{"code":502}}\n\n',
        b'data: {"type": "ping"}\n\n',
        b'data: {"id":"gen-1","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":[{"id":"c","function":{"name":"f","arguments":""}}]}}]}\n\n',
        b"<html><body>\n<p>data: 502</p>\n</body></html>",
        b"junkdata: 7\n\n",
    )
    assert [scanned(body).has_work for body in idle] == [False] * len(idle)
    assert scanned(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n').has_work
    assert scanned(b'data: {"choices":[{"delta":{"content":"broken off').has_work
    assert scanned(b'junkdata: {"choices":[{"delta":{"content":"a"}}]}\n\n').has_work
