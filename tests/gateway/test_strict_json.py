"""One JSON object, or a refusal; `metered/test_body.py` holds what a metered body is refused for."""

from decimal import Decimal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import strict_json as reader
from gateway.errors import InvalidRequest
from gateway.strict_json import canonical_json, strict_json


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


# Texts, keys among them, that end in a backslash, hold what looks like a key, or are one text written in two ways.
TEXTS = st.sampled_from([r'"a"', r'"\u0061"', r'"a\\"', r'"a\":"', r'"\\\":"', r'"\u0022:"'])
LONG_NUMBERS = st.sampled_from(["0.12345678901234567", "9007199254740993.5", "36893488147419103233", "1e-999", "1E25"])
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?", fullmatch=True) | LONG_NUMBERS


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Generate objects whose keys may be repeated; `~` is replaced by a colon with blanks around it."""
    return st.lists(st.builds("{}~{}".format, TEXTS, inner), max_size=4).map(lambda each: "{" + ",".join(each) + "}")


def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return objects(inner) | st.lists(inner, max_size=3).map(lambda each: "[" + ", ".join(each) + "]")


@settings(max_examples=300, deadline=None)
@given(
    document=objects(st.recursive(TEXTS | NUMBERS, nested, max_leaves=4)),
    colon=st.sampled_from([":", ":", ": ", ":\n", " :"]),
)
def test_what_is_read_fast_is_what_is_read_strictly(document: str, colon: str) -> None:
    """The fast parser's result equals the strict one's in every digit, or it declines; repeated keys are refused."""
    body = document.replace("~", colon).encode()
    fast = reader._canonically_read(body)

    if fast is not None:
        assert exact(fast) == reader._strictly_read(body)


@given(
    document=st.dictionaries(
        st.text(),
        st.recursive(
            st.text() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.none(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
    )
)
def test_what_most_clients_write_is_read_fast(document: dict[str, object]) -> None:
    """No letter is escaped that need not be, and a double has the digits that were written; blanks do not matter."""
    for body in (orjson.dumps(document), orjson.dumps(document, option=orjson.OPT_INDENT_2) + b" \r\n\t"):
        assert reader._canonically_read(body) == document
        assert canonical_json(body) == document
        assert exact(document) == strict_json(body)


@pytest.mark.parametrize(
    "body", [b'{"a":1,"a":1}', b'{"a ":1,"a ":1}', b'{"a":1.10}', b'{"a":[' + b"[" * 300 + b"]" * 300 + b"]}"]
)
def test_what_is_not_certain_is_read_strictly(body: bytes) -> None:
    """Repeated keys, numbers whose digits a double does not keep, and what is nested too deeply to be written again."""
    assert reader._canonically_read(body) is None


def exact(value: object) -> object:
    """Return the value with its doubles as decimals."""
    match value:
        case float():
            return Decimal(repr(value))
        case dict():
            return {name: exact(each) for name, each in value.items()}
        case list():
            return [exact(each) for each in value]
        case _:
            return value
