"""Request bodies: what is refused, what is understood, and the one rewrite."""

import contextlib
import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.metered.body import ChatRequest
from gateway.openrouter.dialects import Dialect

MINIMAL = {"model": "a/b", "messages": [{"role": "user", "content": "hi"}]}


def body(**fields: object) -> bytes:
    return json.dumps({**MINIMAL, **fields}).encode()


def parsed(**fields: object) -> ChatRequest:
    return ChatRequest.parse(body(**fields))


def refused(raw: bytes, dialect: Dialect = Dialect.CHAT) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        ChatRequest.parse(raw, dialect)
    return caught.value


def test_a_plain_request_is_understood() -> None:
    """The defaults: one answer, not streamed, no ceiling, bounded by its tokens."""
    raw = body()

    request = ChatRequest.parse(raw)

    assert request.body is raw
    assert request.document == MINIMAL
    assert (request.model, request.fallbacks, request.stream, request.choices) == ("a/b", (), False, 1)
    assert (request.max_tokens, request.ceiling_field, request.open_ended) == (None, None, False)
    assert request.weight.images == []


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"  \n", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"{", b"[]", b'"model"', b"null", b"{'model':1}", b"{}x",
        b'{"model":"m","messages":[],"temperature":NaN}', b'{"model":"m","messages":[],"x":-Infinity}',
        b'{"model":"m","model":"m","messages":[]}', b'{"model":"m","mod\\u0065l":"n","messages":[]}',
        b'{"model":"m","messages":[{"role":"user","role":"system"}]}',
        b'{"model":"m","messages":[],"a":{"b":[{"c":1,"c":1}]}}',
        b'{"model":"m","messages":' + b"[" * 100_000, b'{"model":"m","messages":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"model":"m","messages":["\\ud800"]}', b'{"model":"m","messages":[{"\\uDC00":1}]}',
        b'{"model":"m","messages":["\xed\xa0\x80"]}', b'{"model":"m","messages":["a\nb"]}',
        b'{"model":"m","messages":[],"max_tokens":' + b"9" * 5000 + b"}",
        b'{"model":"m","messages":[],"x":1e99999999999999999999}',
    ],
)  # fmt: skip
def test_what_is_no_unambiguous_json_object_is_refused_with_400(raw: bytes) -> None:
    """Two parsers must read the body alike, or the bill and the hold part ways."""
    assert refused(raw).status == 400


def test_a_key_that_stands_twice_is_found_at_once_among_very_many() -> None:
    """Hundreds of thousands of keys fit into a body: looking each of them up in all would take hours."""
    members = ",".join(f'"{number}":0' for number in range(300_000))
    refusal = refused(f'{{{members},"same":1,"same":2}}'.encode())
    assert (refusal.status, "'same'" in refusal.message) == (400, True)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": None}, {"model": ""}, {"model": " "}, {"model": 7}, {"model": "m" * 257}, {"model": ["m"]},
        {"models": "m"}, {"models": [1]}, {"models": [""]}, {"models": ["m"] * 65}, {"stream": "true"}, {"stream": 1},
        {"max_tokens": 0}, {"max_tokens": -1}, {"max_tokens": True}, {"max_tokens": 1.5}, {"max_tokens": "5"},
        {"max_tokens": 10_000_001}, {"max_completion_tokens": 0}, {"max_tokens": 5, "max_completion_tokens": "5"},
        {"n": 0}, {"n": 129}, {"n": 1.5}, {"n": True},
        {"fallbacks": "m"}, {"fallbacks": ["m"]}, {"fallbacks": [{}]}, {"messages": "hi"}, {"messages": {}},
        {"messages": None}, {"messages": None, "prompt": 7},
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_422_and_named(fields: dict[str, object]) -> None:
    """The message names the field to correct."""
    error = refused(body(**fields))

    assert error.status == 422
    assert any(f"`{name}" in error.message for name in fields)


@pytest.mark.parametrize("literal", [b"900", b"900.0", b"9e2", b"90000E-2"])
def test_a_whole_number_is_one_however_it_is_written(literal: bytes) -> None:
    """JSON has one kind of number; shortened, its literal is replaced whole."""
    raw = b'{"model":"m","prompt":"","max_tokens":%s}'
    request = ChatRequest.parse(raw % literal)

    assert (request.max_tokens, type(request.max_tokens)) == (900, int)
    assert request.shortened(42) == raw % b"42"


def test_anthropics_fallbacks_may_answer_too() -> None:
    """`fallbacks` of /messages names models as `models[]` does elsewhere."""
    request = parsed(models=["c/d"], fallbacks=[{"model": "e/f"}])

    assert (request.model, request.fallbacks) == ("a/b", ("c/d", "e/f"))


@pytest.mark.parametrize(
    ("dialect", "field", "value", "prompts", "choices"),
    [
        (Dialect.COMPLETIONS, "prompt", ["a", "b", "c"], 3, 6),
        (Dialect.COMPLETIONS, "prompt", [[1, 2], [3]], 2, 4),
        (Dialect.COMPLETIONS, "prompt", [1, 2, 3], 1, 2),
        (Dialect.COMPLETIONS, "prompt", [], 1, 2),
        (Dialect.EMBEDDINGS, "input", ["a", "b"], 2, 4),
        (Dialect.EMBEDDINGS, "input", [1, 2], 1, 2),
        (Dialect.RESPONSES, "input", [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], 1, 2),
    ],
)
def test_each_prompt_of_a_list_is_answered_by_itself(
    dialect: Dialect, field: str, value: object, prompts: int, choices: int
) -> None:
    """A list of tokens, or of a conversation's turns, is one prompt."""
    request = ChatRequest.parse(json.dumps({"model": "m", "n": 2, field: value}).encode(), dialect)

    assert (request.prompts, request.choices) == (prompts, choices)


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"reasoning": {"max_tokens": 2000}}, 2000),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, 1024),
        ({"reasoning": {"effort": "high"}}, 0),
        ({"reasoning": {"max_tokens": "many"}}, 0),
        ({"reasoning": {"max_tokens": -5}}, 0),
        ({"reasoning": True, "thinking": None}, 0),
    ],
)
def test_a_budget_for_reasoning_is_read(fields: dict[str, object], tokens: int) -> None:
    """In either dialect's name; what cannot be read is left to OpenRouter."""
    assert parsed(**fields).thinking_tokens == tokens


def test_a_long_body_value_is_never_repeated_in_a_message() -> None:
    """What a caller sent may be a prompt: messages name fields, not contents."""
    assert "secret" not in refused(body(max_tokens="secret")).message
    assert "secret" not in refused(b'{"model":"m","messages":["secret"').message


def test_null_is_as_good_as_absent() -> None:
    """OpenAI's clients send null for what was not set."""
    request = parsed(stream=None, max_tokens=None, n=None, models=None, tools=None, plugins=None, service_tier=None)

    assert (request.stream, request.max_tokens, request.choices, request.open_ended) == (False, None, 1, False)


def test_unknown_fields_pass() -> None:
    """OpenRouter may learn a field tomorrow."""
    assert parsed(tomorrow={"a": [1.25]}).document["tomorrow"] == {"a": [Decimal("1.25")]}


def test_a_paired_surrogate_escape_is_a_character() -> None:
    """An unpaired surrogate is refused anywhere; a `u` after an escaped backslash is not an escape."""
    assert ChatRequest.parse(b'{"model":"m","messages":["\\ud83d\\ude00","\\\\ud800"]}').weight.images == []


def test_models_stand_in_for_model() -> None:
    """The first of the list is used, the others are its fallbacks; with `model` all are fallbacks."""
    alone = ChatRequest.parse(b'{"models":["x","y"],"prompt":"hi"}')
    both = parsed(models=["x", "y"])

    assert (alone.model, alone.fallbacks) == ("x", ("y",))
    assert (both.model, both.fallbacks) == ("a/b", ("x", "y"))


def test_of_two_ceilings_the_larger_counts() -> None:
    """Whichever OpenRouter reads, the hold covers it."""
    request = parsed(max_tokens=10, max_completion_tokens=20)

    assert (request.max_tokens, request.ceiling_field) == (20, "max_completion_tokens")


@pytest.mark.parametrize(
    ("dialect", "fields", "ceiling"),
    [
        (Dialect.COMPLETIONS, {"prompt": "hi", "max_tokens": 5}, 5),
        (Dialect.RESPONSES, {"input": "hi", "max_output_tokens": 6, "max_tokens": 9}, 6),
        (Dialect.MESSAGES, {"messages": [], "max_tokens": 7}, 7),
        (Dialect.EMBEDDINGS, {"input": ["a", "b"], "max_tokens": 7}, None),
    ],
)
def test_each_dialect_names_its_own_ceiling(dialect: Dialect, fields: dict[str, object], ceiling: int | None) -> None:
    """The metered endpoints differ in what they call prompt and ceiling."""
    request = ChatRequest.parse(json.dumps({"model": "m", **fields}).encode(), dialect)

    assert request.max_tokens == ceiling
    assert request.has_output == (dialect is not Dialect.EMBEDDINGS)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_each_dialect_needs_its_prompt(dialect: Dialect) -> None:
    """A body without a prompt is refused before anything is held."""
    assert refused(b'{"model":"m"}', dialect).status == 422


def test_best_of_counts_as_answers() -> None:
    """The legacy endpoint bills the answers it throws away."""
    assert ChatRequest.parse(b'{"model":"m","prompt":"x","n":2,"best_of":5}', Dialect.COMPLETIONS).choices == 5


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "openrouter:web_search"}]}, {"tools": [{"type": "function"}, {"type": "web_search"}]},
        {"tools": [{}]}, {"tools": ["x"]}, {"tools": {"type": "function"}}, {"plugins": [{"id": "web"}]},
        {"web_search_options": {}}, {"model": "a/b:online"}, {"models": ["a/b", "c/d:online"]},
        {"model": "@preset/x"}, {"model": "a/b@preset/x"}, {"preset": "x"}, {"service_tier": "priority"},
        {"speed": "fast"}, {"modalities": ["text", "audio"]}, {"prediction": {"type": "content", "content": "x"}},
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": "data:x"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x"}}]}]},
        {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "data:application/pdf;base64,A"}}]}]},
        {"provider": {"only": ["openai/priority"]}}, {"provider": {"order": ["a", "b/FAST"]}},
        {"context_management": {"edits": [{"type": "compact_20260112"}]}}, {"context_management": {"edits": 7}},
    ],
)  # fmt: skip
def test_what_tokens_do_not_bound_is_open_ended(fields: dict[str, object]) -> None:
    """Searches, plugins, presets, dearer tiers, audio, files and video are billed by something else."""
    assert parsed(**fields).open_ended


def test_a_prompt_that_is_stored_elsewhere_is_open_ended() -> None:
    """/responses may name a text of any length by its id."""
    raw = b'{"model":"m","input":"x","prompt":%s}'

    assert ChatRequest.parse(raw % b'{"id":"stored"}', Dialect.RESPONSES).open_ended
    assert not ChatRequest.parse(raw % b"null", Dialect.RESPONSES).open_ended


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": {"parameters": {"type": "file"}}}]}, {"tools": []}, {"plugins": []},
        {"service_tier": "flex"}, {"modalities": ["text", "image"]}, {"model": "a/b:nitro"},
        {"provider": {"only": ["openai"], "order": ["azure", 7], "sort": "price"}}, {"provider": {"only": "x/fast"}},
        {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "DATA:image/png;base64,A"}}]}]},
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, {"context_management": None},
        {"tools": [{"type": "function", "function": {"parameters": {"properties": {"type": {"type": "audio"}}}}}]},
    ],
)  # fmt: skip
def test_what_tokens_bound_is_not_open_ended(fields: dict[str, object]) -> None:
    """A tool the client runs costs its tokens, whatever its schema speaks of."""
    assert not parsed(**fields).open_ended


def test_anthropics_client_tools_have_no_type() -> None:
    """Its server tools carry a dated one."""
    raw = b'{"model":"m","messages":[],"tools":[{"name":"x","input_schema":{}}%s]}'

    assert not ChatRequest.parse(raw % b"", Dialect.MESSAGES).open_ended
    assert ChatRequest.parse(raw % b',{"type":"web_search_20250305"}', Dialect.MESSAGES).open_ended


def test_only_the_number_changes_when_a_request_is_shortened() -> None:
    """Key order, blanks, number literals and escapes stay byte for byte."""
    raw = (
        '{ "temperature" : 1.0e0,\r\n"messages":[{"role":"user","content":"\\u00e9 é \\/ \\"max_tokens\\": 7"}],'
        '"a":{"max_tokens":900},\t"max\\u005ftokens"  : 5000 , "model":"m","seed":12345678901234567890}\n'
    ).encode()

    assert ChatRequest.parse(raw).shortened(42) == raw.replace(b": 5000 ,", b": 42 ,")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"model":"m","prompt":""}', b'{"model":"m","prompt":"","max_tokens":42}'),
        (b' { "model":"m","prompt":"}" \n} ', b' { "model":"m","prompt":"}","max_tokens":42 \n} '),
        (b'{"max_tokens":null,"model":"m","prompt":""}', b'{"max_tokens":42,"model":"m","prompt":""}'),
        (
            b'{"max_completion_tokens":null,"model":"m","prompt":""}',
            b'{"max_completion_tokens":42,"model":"m","prompt":""}',
        ),
        (
            b'{"max_tokens":null,"max_completion_tokens":99,"model":"m","prompt":""}',
            b'{"max_tokens":null,"max_completion_tokens":42,"model":"m","prompt":""}',
        ),
        (
            b'{"max_tokens":7,"max_completion_tokens":99,"model":"m","prompt":""}',
            b'{"max_tokens":7,"max_completion_tokens":42,"model":"m","prompt":""}',
        ),
        (
            b'{"max_tokens":70,"max_completion_tokens":99,"model":"m","prompt":""}',
            b'{"max_tokens":42,"max_completion_tokens":42,"model":"m","prompt":""}',
        ),
    ],
)
def test_a_ceiling_is_lowered_set_or_appended(raw: bytes, expected: bytes) -> None:
    """A lower field is kept; if there is none, `max_tokens` is appended."""
    assert ChatRequest.parse(raw).shortened(42) == expected


def test_the_ceiling_of_responses_is_its_own() -> None:
    """/responses calls it max_output_tokens."""
    request = ChatRequest.parse(b'{"model":"m","input":"x"}', Dialect.RESPONSES)

    assert request.shortened(16) == b'{"model":"m","input":"x","max_output_tokens":16}'


def test_embeddings_cannot_be_shortened() -> None:
    """They have no output to shorten."""
    with pytest.raises(ValueError, match="shortened"):
        ChatRequest.parse(b'{"model":"m","input":"x"}', Dialect.EMBEDDINGS).shortened(16)


def test_a_body_nested_as_deep_as_the_stack_is_shortened_or_refused() -> None:
    """What parsed at the door may be too deep further in: then it is the caller's fault, not a bug of ours."""
    deep = b"[" * 850 + b"]" * 850
    request = ChatRequest.parse(b'{"model":"m","prompt":"","x":' + deep + b"}")

    def further_in(frames: int) -> bytes:
        return further_in(frames - 1) if frames else request.shortened(42)

    with contextlib.suppress(InvalidRequest):
        assert further_in(150).endswith(b',"max_tokens":42}')


KEYS = st.text(max_size=4) | st.sampled_from(["max_tokens", "max_completion_tokens"])
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=4) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(
    extra=st.dictionaries(st.text(max_size=4), VALUES, max_size=5),
    ceiling=st.integers(min_value=50, max_value=10_000) | st.none(),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
)
def test_a_shortened_request_means_the_same_but_for_its_ceiling(
    extra: dict[str, object], ceiling: int | None, *, ascii_only: bool, indent: int | None
) -> None:
    """For any body, parsing the rewritten one gives the old document with the new ceiling."""
    document = {**MINIMAL, "max_tokens": ceiling, **extra, "zz": 1}
    try:
        raw = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
        request = ChatRequest.parse(raw)
    except (UnicodeEncodeError, InvalidRequest):
        return

    shortened = ChatRequest.parse(request.shortened(42))

    assert shortened.document == {**request.document, "max_tokens": 42}
    assert shortened.max_tokens == 42


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode(errors="surrogatepass")))
def test_garbage_is_refused_and_nothing_else_is_raised(raw: bytes) -> None:
    """Whatever is sent, the answer is one of ours."""
    with pytest.raises(InvalidRequest):
        ChatRequest.parse(raw)
