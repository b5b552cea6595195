"""An image's size is read from its file, or is the largest allowed: never below what a provider decodes."""

import base64
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.metered.media import MOST_IMAGE_TOKENS, image_size, image_tokens, usual_image_tokens


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I4s", len(data), kind) + data + bytes(4)


def png(width: int = 640, height: int = 480, *more: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", b"x")


def segment(kind: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(data) + 2) + data


def frame(width: int, height: int, kind: int = 0xC2) -> bytes:
    return segment(kind, struct.pack(">BHHB", 8, height, width, 3) + bytes(9))


def jpeg(*parts: bytes) -> bytes:
    # The preview inside the camera's own data has a frame header too.
    return b"\xff\xd8" + segment(0xE1, b"Exif\0\0" + frame(16, 16)) + b"".join(parts) + segment(0xDA, bytes(10))


def picture(width: int, height: int) -> bytes:
    return b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02xx\x00"


def gif(*parts: bytes, screen: tuple[int, int] = (640, 480)) -> bytes:
    comment = b"\x21\xfe\x03abc\x00"
    return b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6) + comment + b"".join(parts) + b"\x3b"


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(struct.pack("<4sI", kind, len(data)) + data + bytes(len(data) & 1) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


LOSSY = (b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 640 | 0x4000, 480) + bytes(5))
LOSSLESS = (b"VP8L", b"\x2f" + struct.pack("<I", 639 | 479 << 14))


def canvas(flags: int, width: int = 640, height: int = 480) -> tuple[bytes, bytes]:
    return b"VP8X", bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


GOOD = {
    "png": png(),
    "png with more before its pixels": png(640, 480, chunk(b"tEXt", b"IDAT acTL")),
    "jpeg": jpeg(frame(640, 480)),
    "gif": gif(picture(640, 480)),
    "webp": webp(LOSSY),
    "webp without loss": webp(LOSSLESS),
    "webp with a canvas": webp(canvas(0x10), (b"ALPH", b"abc"), LOSSY),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("url", ["", "data:image/png;base64,", "data:image/svg+xml;charset=utf-8;name=a.b;base64,"])
def test_the_size_is_read_from_the_file_itself(name: str, url: str) -> None:
    """The media type in the URL is ignored; bytes after the image change nothing."""
    assert image_size(url + encoded(GOOD[name])) == (640, 480)
    assert image_size(url + encoded(GOOD[name] + GOOD["png"])) == (640, 480)


@pytest.mark.parametrize("name", GOOD)
def test_a_file_that_ends_early_has_its_size_or_none(name: str) -> None:
    """Cut anywhere."""
    for end in range(len(GOOD[name])):
        assert image_size(encoded(GOOD[name][:end])) in (None, (640, 480))


BAD = {
    "no image": b"%PDF-1.7 ",
    "empty": b"",
    "a moving png": png(8, 8, chunk(b"acTL", bytes(8))),
    "two headers": png(8, 8, chunk(b"IHDR", struct.pack(">IIBBBBB", 9999, 9999, 8, 2, 0, 0, 0))),
    "no header first": b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt", b"a") + png()[8:],
    "nothing wide": png(0, 8),
    "beyond any decoder": png(1 << 20, 8),
    "thousands of parts": png(8, 8, *[chunk(b"tEXt")] * 2000),
    "two frames of a jpeg": jpeg(frame(8, 8), frame(999, 999)),
    "a height told later": jpeg(frame(640, 0)),
    "a scan before its frame": b"\xff\xd8" + segment(0xDA, bytes(10)) + frame(8, 8),
    "marks that fill": b"\xff\xd8\xff\xff" + frame(8, 8),
    "a moving gif": gif(picture(8, 8), picture(8, 8)),
    "larger than its screen": gif(picture(640, 480), screen=(8, 8)),
    "no picture": gif(),
    "a moving webp": webp(canvas(0x02), LOSSY),
    "a canvas alone": webp(canvas(0)),
    "another riff": b"RIFF\x04\0\0\0WAVE",
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_trusted_has_no_size(name: str) -> None:
    """It counts as the largest image there is."""
    assert image_size(encoded(BAD[name])) is None


def test_the_larger_of_canvas_and_picture_counts() -> None:
    """Decoders differ in what they take."""
    assert image_size(encoded(webp(canvas(0, 8, 8), LOSSY))) == (640, 480)


@pytest.mark.parametrize(
    "payload",
    [
        "https://example.com/a.png",
        "data:image/png," + encoded(png()),
        "data:image/png;base64," + encoded(png())[:-4] + "\n" + encoded(png())[-4:],
        "data:image/png;base64," + encoded(b"xx") + encoded(png()),
        " data:image/png;base64," + encoded(png()),
        "data:application/pdf;base64," + encoded(png()),
        encoded(png()).replace("A", "-"),
        "\u0661" + encoded(png()),
    ],
)
def test_base64_that_is_read_in_two_ways_has_no_size(payload: str) -> None:
    """Blanks, padding in the middle and other alphabets are skipped by some decoders and end others."""
    assert image_size(payload) is None


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(sorted(GOOD)), at=st.integers(0, 60), put=st.binary(min_size=1, max_size=4))
def test_no_damage_raises(name: str, at: int, put: bytes) -> None:
    """Whatever is written over the head of a file."""
    size = image_size(encoded(GOOD[name][:at] + put + GOOD[name][at + len(put) :]))

    assert size is None or all(0 < side <= 65_535 for side in size)


@pytest.mark.parametrize(
    ("model", "size", "documented"),
    [
        ("anthropic/claude-sonnet-4", (1092, 1092), 1590),
        ("anthropic/claude-sonnet-4", (200, 200), 54),
        ("anthropic/claude-opus-4.7", (2576, 1449), 4784),
        ("openai/gpt-4o", (1024, 1024), 765),
        ("openai/gpt-4o", (2048, 4096), 1105),
        ("openai/gpt-4o-mini", (1024, 1024), 25_501),
        ("openai/gpt-4.1-nano", (1024, 1024), 2520),
        ("google/gemini-2.5-pro", (960, 540), 1548),
        ("google/gemini-3-pro", (64, 64), 2240),
        ("qwen/qwen2.5-vl-72b-instruct", (1024, 1024), 1369),
        ("mistralai/pixtral-large-2411", (1024, 1024), 4160),
        ("meta-llama/llama-3.2-90b-vision-instruct", (100, 100), 6404),
    ],
)
def test_no_documented_count_is_above_what_is_held(model: str, size: tuple[int, int], documented: int) -> None:
    """The providers' documented examples, and their documented maximum of an image."""
    assert documented <= image_tokens(model, size) <= MOST_IMAGE_TOKENS * 2
    assert usual_image_tokens(model, size) == image_tokens(model, size)


@pytest.mark.parametrize("model", ["anthropic/claude-3", "openai/gpt-4o", "openai/gpt-4o-mini", "qwen/a", "x/y"])
def test_an_image_without_a_size_counts_most(model: str) -> None:
    """No size makes more of it, and what is expected of it is no more."""
    flat = image_tokens(model, None)

    assert all(image_tokens(model, (side, side)) <= flat for side in (1, 500, 3000, 65_535))
    assert usual_image_tokens(model, None) <= flat
