"""Reads an image's size from its file's head, and computes its prompt tokens for each model family.

Rule: an ambiguous, animated or truncated file has no size, and counts as the largest image. Nothing is decompressed.
"""

import binascii
import re
import struct
from collections.abc import Callable, Iterator
from math import ceil
from typing import NamedTuple

# The most prompt tokens of an image: 16,384 is the maximum of Qwen's vision models, above Claude's (about 5,000),
# Gemini (about 4,200) and GPT-5.
MOST_IMAGE_TOKENS = 16_384

Size = tuple[int, int]
"""Width and height in pixels."""

_DATA_URL = re.compile(r"data:image/[a-zA-Z0-9.+-]{1,40}((?:;[a-zA-Z0-9=._-]{1,80}){0,4});base64,")
# Segments of a file before its pixels: cameras write some dozens.
_MOST_PARTS = 1000
# The maximum in any of these formats.
_MOST_PIXELS_A_SIDE = 65_535


def image_size(payload: str) -> Size | None:
    """Return the size of a single still image in base64, bare or as a data URL; None if it is not certain."""
    url = _DATA_URL.match(payload)
    try:
        raw = binascii.a2b_base64(payload[url.end() :] if url else payload, strict_mode=True)
        size = next((read(raw) for magic, read in _READERS if raw.startswith(magic)), None)
    except (ValueError, IndexError, struct.error):
        return None
    return size if size and all(0 < side <= _MOST_PIXELS_A_SIDE for side in size) else None


def _png(raw: bytes) -> Size | None:
    """IHDR is the first chunk; `acTL` before the pixels marks an animation."""
    size: Size | None = None
    at = 8
    for _ in range(_MOST_PARTS):
        length, kind = struct.unpack_from(">I4s", raw, at)
        if (kind == b"IHDR") != (at == 8) or kind == b"acTL":
            return None
        if kind == b"IHDR":
            size = struct.unpack_from(">II", raw, at + 8)
        if kind == b"IDAT":
            return size
        at += 12 + length
    return None


def _jpeg(raw: bytes) -> Size | None:
    """Walk the segments up to the scan: exactly one frame header, with a height."""
    size: Size | None = None
    at = 2
    for _ in range(_MOST_PARTS):
        mark, kind, length = struct.unpack_from(">BBH", raw, at)
        if mark != 0xFF or kind in (0x00, 0x01, 0xFF) or 0xD0 <= kind <= 0xD9 or length < 2:
            return None
        if kind == 0xDA:
            return size
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            if size is not None:
                return None
            height, width = struct.unpack_from(">HH", raw, at + 5)
            size = (width, height)
        at += 2 + length
    return None


def _gif(raw: bytes) -> Size | None:
    """One picture, no larger than the stated screen."""
    width, height, flags = struct.unpack_from("<HHB", raw, 6)
    at, pictures = 13 + _palette(flags), 0
    while raw[at] != 0x3B:
        if raw[at] == 0x2C:
            left, top, wide, high, flags = struct.unpack_from("<HHHHB", raw, at + 1)
            pictures += 1
            if pictures > 1 or left + wide > width or top + high > height:
                return None
            at += 11 + _palette(flags)
        elif raw[at] == 0x21:
            at += 2
        else:
            return None
        while raw[at]:
            at += 1 + raw[at]
        at += 1
    return (width, height) if pictures else None


def _palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(raw: bytes) -> Size | None:
    """The picture's size, and the canvas's if there is one; None for an animation."""
    if raw[8:12] != b"WEBP":
        return None
    sizes = []
    for kind, at in _chunks(raw):
        if kind == b"VP8X":
            if raw[at] & 0x02:
                return None
            canvas = raw[at + 4 : at + 7], raw[at + 7 : at + 10]
            sizes.append((1 + int.from_bytes(canvas[0], "little"), 1 + int.from_bytes(canvas[1], "little")))
        elif kind == b"VP8 ":
            if raw[at + 3 : at + 6] != b"\x9d\x01\x2a":
                return None
            width, height = struct.unpack_from("<HH", raw, at + 6)
            sizes.append((width & 0x3FFF, height & 0x3FFF))
            break
        elif kind == b"VP8L":
            (bits,) = struct.unpack_from("<I", raw, at + 1)
            if raw[at] != 0x2F:
                return None
            sizes.append(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
            break
    else:
        return None
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def _chunks(raw: bytes) -> Iterator[tuple[bytes, int]]:
    at = 12
    for _ in range(_MOST_PARTS):
        kind, length = struct.unpack_from("<4sI", raw, at)
        yield kind, at + 8
        at += 8 + length + (length & 1)


_READERS = ((b"\x89PNG\r\n\x1a\n", _png), (b"\xff\xd8\xff", _jpeg), (b"GIF8", _gif), (b"RIFF", _webp))


def image_tokens(model: str, size: Size | None) -> int:
    """Return the most prompt tokens of an image for a model; without a size, the most of any image."""
    name = model.removeprefix("~")
    if _TILED_MINI in name:
        return 2833 + 5667 * (_MOST_TILES if size is None else _tiles(*size))
    if size is None:
        return MOST_IMAGE_TOKENS
    family = next((each for each in _FAMILIES if re.match(each.pattern, name)), _OTHER)
    return min(family.most, family.tokens(*size))


def usual_image_tokens(model: str, size: Size | None) -> int:
    """Return the same, but without a size the most of the model's own family."""
    name = model.removeprefix("~")
    if size is None and _TILED_MINI not in name:
        return next((each.most for each in _FAMILIES if re.match(each.pattern, name)), _OTHER.most)
    return image_tokens(model, size)


class _Family(NamedTuple):
    """A family's upper bound for an image: `tokens` of its width and height, and at most `most`."""

    pattern: str
    most: int
    tokens: Callable[[int, int], int]


def _patches(width: int, height: int, side: int) -> int:
    """Return how many squares of `side` pixels an image has, with a row and a column for rounding and separators."""
    return (width // side + 2) * (height // side + 2)


def _tiles(width: int, height: int) -> int:
    """Return the number of OpenAI's squares of 512 pixels, after scaling the short side down to at most 768."""
    long, short = max(width, height), min(width, height)
    return 2 * min(4, ceil(min(768 * long / short, 2048) / 512))


def _gemini_tiles(width: int, height: int) -> int:
    by_shape = 2 * ceil(1.5 * max(width, height) / min(width, height))
    return max(by_shape, ceil(width / 768) * ceil(height / 768))


# This model counts 2,833 tokens and 5,667 for each tile.
_TILED_MINI = "gpt-4o-mini"
_MOST_TILES = 8
_FAMILIES = (
    # One token for 750 pixels, or squares of 28 since Opus 4.7; scaled down above 1568 pixels (2576 since then).
    _Family(r"anthropic/", 5000, lambda wide, high: 16 + max(ceil(wide * high / 750), _patches(wide, high, 28))),
    # 85 tokens plus 170 for each of at most 8 tiles; or squares of 32, at most 1,536 times 2.46 (nano).
    _Family(
        r"openai/(gpt-4o|chatgpt-4o|gpt-4\.1|gpt-4-|gpt-5(-mini|-nano|-pro|-chat|\.1|\.2)?(-2|$)|o[134])",
        3800,
        lambda wide, high: max(1445, ceil(_patches(wide, high, 32) * 2.46)),
    ),
    # Gemini 2: 258 for each tile, of 768 pixels or of two thirds of the short side, up to 16; Gemini 3: up to 2,240.
    _Family(r"google/gemini", 4300, lambda wide, high: max(2240, 258 * _gemini_tiles(wide, high))),
    # Squares of 28; a small image may be scaled up to 256 of them.
    _Family(r"qwen/", MOST_IMAGE_TOKENS, lambda wide, high: max(512, _patches(wide, high, 28))),
)
# Squares of 16 pixels are the smallest in use (Pixtral); Llama 3.2 counts 1,601 tokens for each of 4 tiles, even for
# a small image.
_OTHER = _Family(r"", MOST_IMAGE_TOKENS, lambda wide, high: max(6416, _patches(wide, high, 16)))
