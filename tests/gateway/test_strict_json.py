"""One JSON object, or a refusal; `metered/test_body.py` holds what a metered body is refused for."""

from decimal import Decimal

import pytest

from gateway.errors import InvalidRequest
from gateway.strict_json import strict_json


def test_fractions_are_exact() -> None:
    """A number with a fraction or an exponent is a Decimal, a whole one an int."""
    assert strict_json(b'{"a": 0.1, "b": 1, "c": 1e2}') == {"a": Decimal("0.1"), "b": 1, "c": Decimal(100)}


@pytest.mark.parametrize(
    "raw", [b'{"a": 1, "a": 2}', b'{"a": {"b": 1, "b": 1}}', b'{"a": NaN}', b'{"a": "\\ud800"}', b"[]"]
)
def test_what_two_parsers_read_differently_is_refused(raw: bytes) -> None:
    """Duplicate keys at any depth, NaN, half a surrogate pair, and what is no object."""
    with pytest.raises(InvalidRequest):
        strict_json(raw)


def test_a_byte_order_mark_is_refused_by_its_name() -> None:
    """Editors and Windows tools write one; "not JSON at character 0" would leave people searching."""
    with pytest.raises(InvalidRequest, match="byte order mark"):
        strict_json(b'\xef\xbb\xbf{"a": 1}')


@pytest.mark.parametrize("many", [b"[],", b"{},", b"1,", b'"",'])
def test_a_body_of_more_values_than_any_prompt_has_is_refused_unread(many: bytes) -> None:
    """A few megabytes of them take a gigabyte, and stop the event loop for seconds."""
    with pytest.raises(InvalidRequest, match="fewer values"):
        strict_json(b'{"a": [' + many * 1_000_000 + b"1]}")
    text = "word, " * 400_000
    assert strict_json(f'{{"a": "{text}"}}'.encode()) == {"a": text}
