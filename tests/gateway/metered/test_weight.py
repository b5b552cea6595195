"""What a body puts into the prompt: never less than what may be billed, and no image's payload."""

import base64
import json
import struct
import unicodedata
from decimal import Decimal
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.metered import weight
from gateway.metered.body import ChatRequest

MINIMAL = {"model": "a/b", "messages": [{"role": "user", "content": "hi"}]}


def parsed(**fields: object) -> ChatRequest:
    return ChatRequest.parse(json.dumps({**MINIMAL, **fields}).encode())


def test_images_are_counted_and_their_payload_is_not() -> None:
    """A megabyte of base64 is some hundred tokens; the text beside it counts."""
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}},
        {"type": "text", "text": "x" * 1000},
        {"type": "image_url", "image_url": "https://example.com/a.png", "note": "y" * 1000},
    ]
    request = parsed(messages=[{"role": "user", "content": parts}])

    assert request.weight.images == [None, None]
    assert 2000 < request.weight.bytes < 3000


def test_an_image_in_a_tool_result_is_counted() -> None:
    """Anthropic's bodies nest content in content."""
    image = {"type": "image", "source": {"type": "base64", "data": "A" * 10_000}}
    request = parsed(messages=[{"role": "user", "content": [{"type": "tool_result", "content": [image]}]}])

    assert (request.weight.images, request.weight.bytes < 1000) == ([None], True)


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=200), field=st.sampled_from(["messages", "tools", "system", "tomorrow"]))
def test_every_text_is_counted_wherever_it_stands(text: str, field: str) -> None:
    """Fields we do not know may reach the prompt too; a schema may be written out as escaped JSON."""
    bare = ChatRequest.parse(json.dumps({"prompt": "", **MINIMAL, field: [{"a": ""}]}).encode())
    full = ChatRequest.parse(json.dumps({"prompt": "", **MINIMAL, field: [{"a": text}]}).encode())

    counted = full.weight.bytes - bare.weight.bytes
    assert counted >= len(text.encode())
    assert counted >= len(unicodedata.normalize("NFKC", text).encode())
    if field == "tools":
        assert counted >= len(json.dumps(text)) - 2


def test_a_text_of_marks_is_counted_in_the_time_of_its_length() -> None:
    """Normalized as a whole, a megabyte of them in the wrong order would stop the process for an hour."""
    marks = "a" + "\u0301" * 250_000 + "\u0316" * 250_000

    assert parsed(messages=[{"role": "user", "content": marks}]).weight.bytes >= len(marks.encode())


@pytest.mark.parametrize("field", ["messages", "tools"])
def test_a_ligature_counts_as_the_letters_it_stands_for(field: str) -> None:
    """One of them may be written out as eighteen."""
    text = "\ufdfa" * 100
    request = parsed(**{field: [{"role": "user", "content": text}]})

    assert request.weight.bytes >= len(unicodedata.normalize("NFKC", text).encode())


def test_a_fraction_counts_as_it_may_be_written_anew() -> None:
    """`1e20` is sent on with 21 digits by some."""
    raw = b'{"model":"m","messages":[],"x":[%s]}'
    short, long = (ChatRequest.parse(raw % number).weight.bytes for number in (b"1", b"1e20"))

    assert long - short >= 20


def test_a_one_hour_cache_is_noticed() -> None:
    """Its write price is another one."""
    part = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}

    assert parsed(messages=[{"role": "user", "content": [part]}]).weight.long_cache
    assert not parsed().weight.long_cache


def png(width: int, height: int) -> str:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", width, height, 8, 2, 0, 0, 0, 0)
    return base64.b64encode(head + struct.pack(">I4sI", 0, b"IDAT", 0)).decode()


def test_an_image_has_the_size_that_its_file_says() -> None:
    """In each dialect's place for it, nested or not, however its JSON is escaped."""
    url = f"data:image/png;base64,{png(640, 480)}"
    source = {"type": "base64", "media_type": "image/png", "data": png(32, 64)}
    nested = {"type": "tool_result", "content": [{"type": "image", "source": source}]}
    content = [{"type": "image_url", "image_url": {"url": url, "detail": "high"}}, nested]
    request = parsed(messages=[{"role": "user", "content": content}], input=[{"type": "input_image", "image_url": url}])

    assert sorted(request.weight.images, key=str) == [(32, 64), (640, 480), (640, 480)]
    escaped = json.dumps({**MINIMAL, "messages": [{"role": "user", "content": content[:1]}]}).replace("/", "\\/")
    assert ChatRequest.parse(escaped.encode()).weight.images == [(640, 480)]


@pytest.mark.parametrize(
    ("part", "images"),
    [
        ({"image_url": {"url": png(9, 9)}, "source": {"data": png(8, 8)}}, [(9, 9), (8, 8)]),
        ({"image_url": {"url": png(9, 9), "data": "https://a.example/b.png"}}, [(9, 9), None]),
        ({"image_url": [png(9, 9), png(8, 8)]}, [None]),
        ({"image_url": {"url": png(9, 9), "image": {"url": "https://a.example/b.png"}}}, [(9, 9), None]),
        ({"source": {"type": "file", "file_id": "f"}}, [None]),
        ({}, [None]),
    ],
)
def test_an_image_part_with_more_than_one_payload_counts_all(part: object, images: object) -> None:
    """All payloads count, as it is not known which one the provider uses."""
    request = parsed(messages=[{"role": "user", "content": [{"type": "image_url", **cast(dict[str, object], part)}]}])

    assert request.weight.images == images


def test_what_says_that_it_is_no_image_is_not_counted_as_one() -> None:
    """A document sent as an image is billed by its pages if a provider accepts it."""
    for kind, is_open in (("application/pdf", True), ("video/mp4", True), ("image/png", False)):
        source = {"type": "base64", "media_type": kind, "data": png(9, 9)}
        assert (
            parsed(messages=[{"role": "user", "content": [{"type": "image", "source": source}]}]).open_ended == is_open
        )


@pytest.mark.parametrize("model", ["a/b", "anthropic/claude-opus-5"])
def test_a_long_text_is_weighed_in_pieces(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """A regex search holds the GIL: one search over 32 MB would stop every stream for seconds."""
    lengths: list[int] = []

    def noted(text: str) -> int:
        lengths.append(len(text))
        return 0

    monkeypatch.setattr(weight, "growth", noted)
    monkeypatch.setattr(weight, "_marks", noted)
    text = "\ufdfa " * 100_000
    request = parsed(model=model, messages=[{"role": "user", "content": text}], tools=[{"name": text}])
    assert max(lengths) <= 65_536
    assert sum(lengths) >= 2 * len(text)
    assert request.weight.bytes >= 2 * len(text.encode())
    assert max(map(len, weight.prompt_texts(request.document).texts)) <= 6 * 65_536


# Texts of which Claude's rebuilt tokenizers (ctok 1.3.0) make more tokens than bytes, and how many.
MARKED = {
    "Q." * 16: 47,
    "^ " * 16: 48,
    "\u023e1" * 16: 111,
    "\u03a9" * 30: 61,
    "\U000182bb(/ " * 4: 32,
}


@pytest.mark.parametrize("text", MARKED)
def test_a_tokenizer_that_marks_words_makes_no_more_of_a_text_than_is_counted(text: str) -> None:
    """For Claude models, named directly, by an alias or as a fallback."""
    for model in ({"model": "anthropic/claude-opus-4.7"}, {"model": "~anthropic/x"}, {"models": ["anthropic/x"]}):
        counted = parsed(messages=[text], **model).weight.bytes - parsed(messages=[""], **model).weight.bytes
        assert counted >= MARKED[text]


def test_other_tokenizers_have_no_marks() -> None:
    """Each of their tokens has at least one byte."""
    assert parsed(messages=["Q" * 50]).weight.bytes - parsed(messages=[""]).weight.bytes == 50


def counted(value: object, field: str, *, is_marked: bool) -> int:
    """Return the count of one value below `field`, computed value by value."""
    is_schema = field in {"tools", "functions", "response_format", "output_config", "text"}

    def text_tokens(text: str) -> int:
        written = len(text.encode()) + weight.growth(text)
        return max(written, len(json.dumps(text))) if is_schema else written

    match value:
        case str():
            return 4 + text_tokens(value) + (weight._marks(value) if is_marked else 0)
        case dict():
            names = sum(map(text_tokens, value))
            is_image = field in {"messages", "input", "prompt", "system"} and value.get("type") == "image_url"
            inner = [each for name, each in value.items() if not (is_image and name == "image_url")]
            return 4 + 16 + names + sum(counted(each, field, is_marked=is_marked) for each in inner)
        case list():
            return 4 + sum(counted(each, field, is_marked=is_marked) for each in value)
        case Decimal():
            return 4 + max(25, len(str(value)))
        case _:
            return 4 + len(str(value))


TEXTS = st.text(st.sampled_from('Qa ^"\\\u00e9\u03a9\ufdfa\U000182bb'), max_size=12)
SCALARS = TEXTS | st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False)
NAMES = TEXTS | st.sampled_from(["type", "image_url", "content"])
VALUES = st.recursive(
    SCALARS | st.just("image_url"), lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=12
)


@settings(max_examples=200, deadline=None)
@given(
    document=st.dictionaries(st.sampled_from(["messages", "tools", "text", "system", "tomorrow"]), VALUES),
    is_marked=st.booleans(),
)
def test_a_body_weighs_what_its_values_count_one_by_one(document: dict[str, object], *, is_marked: bool) -> None:
    """Plain text takes a faster path, with the same result."""
    weighed = weight.weigh(document, is_marked=is_marked)
    instructions = 640 if any(document.get(field) for field in ("tools", "text")) else 0

    one_by_one = sum(counted(value, field, is_marked=is_marked) for field, value in document.items())
    assert weighed.bytes - weighed.allowance == one_by_one
    assert weighed.allowance == 128 + instructions
