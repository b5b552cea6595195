"""One JSON object of an answer: foreign shapes are absent, never an error. The scanners' tests hold the rest."""

import json
from decimal import Decimal, localcontext
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.openrouter.usage import Usage, find_errors, find_id, find_usage, merged, parsed, parsed_answer, read_usage


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"7", b'"x"', b"{", b"\xff", b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"]
)
def test_what_is_no_object_is_empty(raw: bytes) -> None:
    """Nothing that upstream sends raises here."""
    assert parsed(raw) == parsed_answer(raw) == {}


@given(cost=st.from_regex(r"(0|[1-9][0-9]{0,5})(\.[0-9]{1,25})?([eE]-?[0-9]{1,3})?", fullmatch=True))
def test_a_cost_is_read_to_its_last_digit(cost: str) -> None:
    """Rounded up to the nano, or absent where no amount is that large."""
    with localcontext(prec=400):
        nano = ceil(Decimal(cost) * 10**9)
    expected = nano if nano < 2**53 else None

    answer = parsed_answer(b'{"usage":{"cost":%s}}' % cost.encode())
    assert find_usage(answer) == Usage(expected, None, None, is_byok=False)


def exact(value: object) -> object:
    match value:
        case float():
            return Decimal(repr(value))
        case list():
            return [exact(each) for each in value]
        case dict():
            return {name: exact(each) for name, each in value.items()}
        case _:
            return value


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"b":{"c":[1,2.5,-0.0,1E2]},"a":"\\u00e9\\n"}',
        b' {"a" : true, "b":[null,{}]}\n',
        b'{"usage":{"a":12345678901234567890,"b":0.12345678901234567,"c":1e-320}}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xc3\xa9"}',
    ],
)
def test_an_answer_is_read_as_by_a_plain_parser(raw: bytes) -> None:
    """Of two members of one name the last counts; a whole number is one, however long."""
    assert exact(parsed_answer(raw)) == parsed(raw) == json.loads(raw, parse_float=Decimal)


def test_an_object_may_stand_on_top_in_a_response_or_in_a_message() -> None:
    """Chat, /responses and /messages differ in where they put id and usage."""
    for nested in ("response", "message"):
        document = parsed(b'{"%s":{"id":"gen-1","usage":{"input_tokens":2,"output_tokens":3}}}' % nested.encode())

        assert find_id(document) == "gen-1"
        assert find_usage(document) == Usage(None, 2, 3, is_byok=False)


@pytest.mark.parametrize("count", [-1, True, "7", 1.5, 2**53, None, []])
def test_a_count_that_is_none_is_absent(count: object) -> None:
    """Tokens are whole numbers that Redis can hold."""
    assert read_usage({"prompt_tokens": count, "cost": 0}) == Usage(0, None, None, is_byok=False)


def test_a_stated_cost_is_not_lost_to_a_later_usage_without_one() -> None:
    """Members that a later event omits are kept; members that it states are replaced."""
    first = Usage(5, 10, 1, is_byok=False)

    assert merged(first, Usage(None, None, 9, is_byok=False)) == Usage(5, 10, 9, is_byok=False)
    assert merged(first, Usage(0, 11, 0, is_byok=True)) == Usage(0, 11, 0, is_byok=True)
    assert merged(None, first) == merged(first, None) == first
    assert merged(None, None) is None


def test_an_error_with_a_status_instead_of_a_code_is_read() -> None:
    """Availability errors of August 2026 carry `http_status` and `error_type`."""
    (error,) = find_errors({"error": {"http_status": 404, "error_type": "not_found", "message": 7}})

    assert (error.code, error.error_type, error.message) == (404, "not_found", "")


@pytest.mark.parametrize("error", [None, "", 7, [], True])
def test_a_null_error_is_no_error(error: object) -> None:
    """/responses sends `error: null` on every event."""
    assert find_errors({"error": error, "response": {"error": error}, "choices": [{"error": error}, 7]}) == ()


def test_cached_and_written_tokens_are_counted_in_each_dialect() -> None:
    """Anthropic counts them beside the prompt, chat and /responses within it."""
    chat: dict[str, object] = {
        "prompt_tokens": 100,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
    }
    responses: dict[str, object] = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
    }
    messages: dict[str, object] = {"input_tokens": 10, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 30}
    for usage in (chat, responses, messages):
        assert read_usage(usage) == Usage(None, 100, None, is_byok=False, cached_tokens=60, written_tokens=30)


def test_what_a_cache_took_is_not_lost_to_a_later_usage() -> None:
    """/messages states cached tokens at the start, and final counts without them at the end."""
    start, end = Usage(None, 100, 1, is_byok=False, cached_tokens=60, written_tokens=30), Usage(7, 10, 5, is_byok=False)
    assert merged(start, end) == Usage(7, 100, 5, is_byok=False, cached_tokens=60, written_tokens=30)


def test_what_is_an_error_as_a_whole_is_read_flat() -> None:
    """An event that is an error as a whole is recognised by its type, with or without code and message."""
    (flat,) = find_errors({"type": "error", "code": "rate_limit_exceeded", "message": "slow", "param": None})
    (bare,) = find_errors({"type": "response.failed", "response": {"status": "failed", "error": None}})
    (nested,) = find_errors({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})
    assert (flat.code, flat.message, flat.error_type) == ("rate_limit_exceeded", "slow", None)
    assert (bare.code, bare.message) == (None, "")
    assert (nested.code, nested.error_type) == (None, "overloaded_error")
