"""What a body puts into the prompt: never less than what may be billed, and no image's payload."""

import base64
import json
import struct
import unicodedata
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

    assert request.images == (None, None)
    assert 2000 < request.prompt_bytes < 3000


def test_an_image_in_a_tool_result_is_counted() -> None:
    """Anthropic's bodies nest content in content."""
    image = {"type": "image", "source": {"type": "base64", "data": "A" * 10_000}}
    request = parsed(messages=[{"role": "user", "content": [{"type": "tool_result", "content": [image]}]}])

    assert (request.images, request.prompt_bytes < 1000) == ((None,), True)


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=200), field=st.sampled_from(["messages", "tools", "system", "tomorrow"]))
def test_every_text_is_counted_wherever_it_stands(text: str, field: str) -> None:
    """Fields we do not know may reach the prompt too; a schema may be written out as escaped JSON."""
    bare = ChatRequest.parse(json.dumps({"prompt": "", **MINIMAL, field: [{"a": ""}]}).encode())
    full = ChatRequest.parse(json.dumps({"prompt": "", **MINIMAL, field: [{"a": text}]}).encode())

    counted = full.prompt_bytes - bare.prompt_bytes
    assert counted >= len(text.encode())
    assert counted >= len(unicodedata.normalize("NFKC", text).encode())
    if field == "tools":
        assert counted >= len(json.dumps(text)) - 2


def test_a_text_of_marks_is_counted_in_the_time_of_its_length() -> None:
    """Normalized as a whole, a megabyte of them in the wrong order would stop the process for an hour."""
    marks = "a" + "\u0301" * 250_000 + "\u0316" * 250_000

    assert parsed(messages=[{"role": "user", "content": marks}]).prompt_bytes >= len(marks.encode())


@pytest.mark.parametrize("field", ["messages", "tools"])
def test_a_ligature_counts_as_the_letters_it_stands_for(field: str) -> None:
    """One of them may be written out as eighteen."""
    text = "\ufdfa" * 100
    request = parsed(**{field: [{"role": "user", "content": text}]})

    assert request.prompt_bytes >= len(unicodedata.normalize("NFKC", text).encode())


def test_a_fraction_counts_as_it_may_be_written_anew() -> None:
    """`1e20` is sent on with 21 digits by some."""
    raw = b'{"model":"m","messages":[],"x":[%s]}'
    short, long = (ChatRequest.parse(raw % number).prompt_bytes for number in (b"1", b"1e20"))

    assert long - short >= 20


def test_a_one_hour_cache_is_noticed() -> None:
    """Its write price is another one."""
    part = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}

    assert parsed(messages=[{"role": "user", "content": [part]}]).long_cache
    assert not parsed().long_cache


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

    assert sorted(request.images, key=str) == [(32, 64), (640, 480), (640, 480)]
    escaped = json.dumps({**MINIMAL, "messages": [{"role": "user", "content": content[:1]}]}).replace("/", "\\/")
    assert ChatRequest.parse(escaped.encode()).images == ((640, 480),)


@pytest.mark.parametrize(
    ("part", "images"),
    [
        ({"image_url": {"url": png(9, 9)}, "source": {"data": png(8, 8)}}, ((9, 9), (8, 8))),
        ({"image_url": {"url": png(9, 9), "data": "https://a.example/b.png"}}, ((9, 9), None)),
        ({"image_url": [png(9, 9), png(8, 8)]}, (None,)),
        ({"image_url": {"url": png(9, 9), "image": {"url": "https://a.example/b.png"}}}, ((9, 9), None)),
        ({"source": {"type": "file", "file_id": "f"}}, (None,)),
        ({}, (None,)),
    ],
)
def test_an_image_part_with_more_than_one_payload_counts_all(part: object, images: object) -> None:
    """Which of them is taken is not known."""
    request = parsed(messages=[{"role": "user", "content": [{"type": "image_url", **cast(dict[str, object], part)}]}])

    assert request.images == images


def test_what_says_that_it_is_no_image_is_not_counted_as_one() -> None:
    """A document in an image's place is billed by its pages, where a provider takes it."""
    for kind, is_open in (("application/pdf", True), ("video/mp4", True), ("image/png", False)):
        source = {"type": "base64", "media_type": kind, "data": png(9, 9)}
        assert (
            parsed(messages=[{"role": "user", "content": [{"type": "image", "source": source}]}]).open_ended == is_open
        )


@pytest.mark.parametrize("model", ["a/b", "anthropic/claude-opus-5"])
def test_a_long_text_is_weighed_in_pieces(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """Python's lock is held while one is searched: of 32 MB in one piece every stream stands still for seconds."""
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
    assert request.prompt_bytes >= 2 * len(text.encode())
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
    """Asked of Claude, by name, by an alias or as a fallback."""
    for model in ({"model": "anthropic/claude-opus-4.7"}, {"model": "~anthropic/x"}, {"models": ["anthropic/x"]}):
        counted = parsed(messages=[text], **model).prompt_bytes - parsed(messages=[""], **model).prompt_bytes
        assert counted >= MARKED[text]


def test_other_tokenizers_have_no_marks() -> None:
    """Each token of theirs stands for a byte at least."""
    assert parsed(messages=["Q" * 50]).prompt_bytes - parsed(messages=[""]).prompt_bytes == 50
