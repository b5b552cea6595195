"""One JSON object of an answer: foreign shapes are absent, never an error. The scanners' tests hold the rest."""

import pytest

from gateway.openrouter.usage import Usage, find_errors, find_id, find_usage, merged, parsed, parsed_prefix, read_usage


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"7", b'"x"', b"{", b"\xff", b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"]
)
def test_what_is_no_object_is_empty(raw: bytes) -> None:
    """Nothing that upstream sends raises here."""
    assert parsed(raw) == {}
    assert parsed_prefix(raw) == {}


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
    """What a later event leaves out stays; what it states replaces."""
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
