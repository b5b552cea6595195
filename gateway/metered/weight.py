"""An upper bound of what a request body adds to the prompt: bytes, images, and whether it has unbounded parts.

Every key and value counts, because an unknown field may become part of the prompt too.
"""

import json
import re
import string
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from json.encoder import encode_basestring_ascii
from typing import Any

from gateway.metered.media import Size, image_size

# Tokens that a chat template adds. Role markers and separators have 3 to 8 tokens a message in the published templates
# (ChatML, Llama 3, Gemma, Harmony); default system prompts some tens of tokens (longer ones of some providers are
# counted in `pricing`); Anthropic documents 313 to 530 tokens of instructions for tools.
OBJECT_ALLOWANCE = 16
REQUEST_ALLOWANCE = 128
TOOLS_ALLOWANCE = 640

# Quotes, colon, comma and blank that a template may put around a key or value when it writes JSON into the prompt.
_VALUE_ALLOWANCE = 4
# A number may be reformatted upstream: `1e20` becomes 21 digits in JavaScript. This is the longest result.
_NUMBER_BYTES = 25
_FRACTIONS = frozenset({float, Decimal})

_IMAGE_PARTS = frozenset({"image_url", "input_image", "image"})
_IMAGE_PAYLOADS = frozenset({"image_url", "source", "url", "data", "image"})
# Parts billed by the second, the page or the frame, which no token count bounds.
_UNBOUNDED_PARTS = frozenset(
    {"input_audio", "audio", "audio_url", "file", "input_file", "document", "video", "video_url", "input_video"}
)
_MEDIA_FIELDS = frozenset({"messages", "input", "prompt", "system"})
# Fields that make a provider add its own instructions to the prompt.
_INSTRUCTING_FIELDS = frozenset({"tools", "functions", "response_format", "output_config", "text"})
# Fields that request a cache write. OpenRouter translates one dialect's into another's, so all count.
_CACHE_FIELDS = frozenset({"cache_control", "prompt_cache_breakpoint", "prompt_cache_options"})
# If a body has none of these fields, and an object none of these keys, as most have, only their size counts.
TELLING_FIELDS = _INSTRUCTING_FIELDS | _CACHE_FIELDS
_TELLING_KEYS = _CACHE_FIELDS | {"ttl", "type"}
# Words by Claude's tokenizer: runs of letters, except Han, Hangul and all beyond the first plane, which it separates.
_WORDS = re.compile(r"[^\W\d_\u3005\u3006\u3031-\u303c\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00010000-\U0010ffff]+")
_MARKED_SIGNS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ^~`\\/"
# A regex search holds the GIL: a piece takes milliseconds, 32 MB at once took ten seconds. A word split between two
# pieces counts more, never less.
_PIECE_CHARS = 65_536
_ASCII = bytes(range(128))
_ASCII_LETTERS = string.ascii_letters.encode()
_OTHER_DATA = re.compile(r"\s*data:(?!image/)", re.IGNORECASE)


class Weight:
    """The upper bound of what a document adds to the prompt; `values`: their number in it.

    `allowance`: the part of `bytes` that a provider may add, independent of the content. `images`: the size of each
    image, None if unknown. `unbounded`: it has parts that tokens do not bound. `asks_for_cache`: it requests that the
    prompt is written to a cache; `long_cache`: for an hour.
    """

    __slots__ = ("allowance", "asks_for_cache", "bytes", "images", "long_cache", "unbounded", "values")
    allowance: int
    asks_for_cache: bool
    bytes: int
    images: list[Size | None]
    long_cache: bool
    unbounded: bool
    values: int


def weigh(document: Mapping[str, object], *, is_marked: bool = False, is_telling: bool = True) -> Weight:
    """Count every key and value of the body.

    `is_marked`: the tokenizer adds marks to words and capitals, as Claude's does. `is_telling`: whether it may have one
    of TELLING_FIELDS. Image payloads are left out at places where OpenRouter accepts images; tool schemas are always
    text. Iterative, so that nesting does not use the stack.
    """
    weight, size, values = Weight(), REQUEST_ALLOWANCE, 0
    weight.unbounded = weight.asks_for_cache = weight.long_cache = False
    weight.images = []
    if is_telling and not TELLING_FIELDS.isdisjoint(document):
        weight.asks_for_cache = not _CACHE_FIELDS.isdisjoint(document)
        if any(document.get(field) for field in _INSTRUCTING_FIELDS):
            size += TOOLS_ALLOWANCE
    weight.allowance = size
    texts: list[str] = []
    others: list[str] = []  # keys, whole numbers, true, false and null, which have no marks
    schema_texts: list[str] = []
    schema_keys: list[str] = []
    for field, member in document.items():
        field_texts, keys = texts, others
        if field in _INSTRUCTING_FIELDS:
            field_texts, keys = schema_texts, schema_keys
        found: list[Any] = [member]
        for value in found:  # which grows by what each value contains
            kind = type(value)
            if kind is str:
                field_texts.append(value)
            elif kind is dict:
                size += OBJECT_ALLOWANCE
                keys += value
                found += value.values() if _TELLING_KEYS.isdisjoint(value) else _textual(value, weight, field)
            elif kind is list:
                found += value
            elif kind in _FRACTIONS:
                size += max(len(str(value)), _NUMBER_BYTES)
            else:
                others.append(str(value))
        values += len(found)
    # Joined, because bytes and expansions are counted letter by letter.
    size += _most_bytes("".join(texts + others))
    if schema_texts or schema_keys:
        size += _most_escaped(schema_texts + schema_keys)
    if is_marked:
        size += _most_marks(texts + schema_texts)
    weight.values, weight.bytes = values, size + _VALUE_ALLOWANCE * values
    return weight


def _textual(members: Mapping[str, object], weight: Weight, field: str) -> Iterable[object]:
    """Return the values of one object below `field` of the body without image payloads; note in `weight` what it is."""
    if not _CACHE_FIELDS.isdisjoint(members):
        weight.asks_for_cache = True
    if members.get("ttl") == "1h":
        weight.long_cache = True
    kind = members.get("type") if field in _MEDIA_FIELDS else None
    if not isinstance(kind, str):
        return members.values()
    if kind in _UNBOUNDED_PARTS:
        weight.unbounded = True
    if kind not in _IMAGE_PARTS:
        return members.values()
    payloads = [value for key, value in members.items() if key in _IMAGE_PAYLOADS]
    weight.unbounded |= any(_is_other_media(each) for each in payloads)
    weight.images += _sizes(payloads)
    return [value for key, value in members.items() if key not in _IMAGE_PAYLOADS]


def _sizes(payloads: list[object]) -> list[Size | None]:
    """Return the size of each image in a part: one, unless it names several."""
    found: list[str] = []
    for payload in payloads:
        if isinstance(payload, str):
            found.append(payload)
        elif isinstance(payload, dict):
            found += [each for key, each in payload.items() if key in _IMAGE_PAYLOADS and isinstance(each, str)]
            if any(isinstance(each, dict | list) for each in payload.values()):
                found.append("")
        elif payload is not None:
            found.append("")
    return [image_size(each) for each in found] or [None]


@dataclass(slots=True)
class Texts:
    """The separate texts of a prompt, and the numbers of their values and objects."""

    texts: list[str]
    values: int = 0
    objects: int = 0


def prompt_texts(document: Mapping[str, object]) -> Texts:
    """Return the texts that `weigh` counts: every key and value except image payloads."""
    found = Texts([])
    todo: list[tuple[object, str]] = [(value, field) for field, value in document.items()]
    while todo:
        value, field = todo.pop()
        found.values += 1
        if isinstance(value, str):
            # Some templates write a schema as JSON with all non-ASCII letters escaped, which is never shorter.
            is_escaped = field in _INSTRUCTING_FIELDS and not value.isascii()
            found.texts.extend(map(json.dumps, _pieces(value)) if is_escaped else (value,))
        elif isinstance(value, dict):
            found.objects += 1
            found.texts.extend(value)
            is_image = _is_image(value, field)
            todo.extend((each, field) for key, each in value.items() if not (is_image and key in _IMAGE_PAYLOADS))
        elif isinstance(value, list):
            todo.extend((each, field) for each in value)
        else:
            found.texts.append(str(Decimal(repr(value)) if isinstance(value, float) else value))
    return found


def _pieces(text: str) -> Iterable[str]:
    if len(text) <= _PIECE_CHARS:
        return (text,)
    return (text[at : at + _PIECE_CHARS] for at in range(0, len(text), _PIECE_CHARS))


def _is_image(members: Mapping[str, object], field: str) -> bool:
    kind = members.get("type")
    return field in _MEDIA_FIELDS and isinstance(kind, str) and kind in _IMAGE_PARTS


def _is_other_media(payload: object) -> bool:
    """Return whether a value in an image's place is labelled as a document, audio or video."""
    url = payload.get("url") if isinstance(payload, dict) else payload
    kind = payload.get("media_type") if isinstance(payload, dict) else None
    is_named = isinstance(kind, str) and not kind.strip().lower().startswith("image/")
    return is_named or (isinstance(url, str) and _OTHER_DATA.match(url) is not None)


def _most_bytes(text: str) -> int:
    """Return the most bytes of a text at the time of its tokenization.

    Some tokenizers expand characters first (NFKC: one Arabic ligature becomes 18 letters).
    """
    if text.isascii():
        return len(text)
    return sum([len(each.encode()) + growth(each) for each in _pieces(text)])


def _most_escaped(texts: list[str]) -> int:
    """Return the same of texts that some templates write as JSON, with all non-ASCII letters escaped."""
    joined = "".join(texts)
    if len(joined) <= _PIECE_CHARS and joined.isascii():
        # Each of them has two quotes.
        return len(encode_basestring_ascii(joined)) + 2 * len(texts) - 2
    pieces = [each for text in texts for each in _pieces(text)]
    return sum([max(len(encode_basestring_ascii(each)), _most_bytes(each)) for each in pieces])


def _most_marks(texts: list[str]) -> int:
    """Return the most tokens of marks for words and capitals, which have no byte in the texts."""
    joined = "".join(texts)
    # Joined, words outside ASCII could become one.
    pieces = [each for text in ([joined] if joined.isascii() else texts) for each in _pieces(text)]
    return sum(map(_marks, pieces))


def _marks(text: str) -> int:
    """Return the most marks of a text.

    By the reconstructed vocabularies of Claude (the package ctok): a capital has a mark, and so have some single signs;
    a word or sign outside ASCII has one on each side.
    """
    written = text.encode()
    marks = len(written) - len(written.translate(None, _MARKED_SIGNS))
    if not text.isascii():
        # Without the letters of ASCII, which do not separate words, these are the words with other letters.
        marks += 2 * len(_WORDS.findall(written.translate(None, _ASCII_LETTERS).decode()))
        marks += sum([2 * (not letter.isalpha()) + (letter.lower() != letter) for letter in _others(text)])
    return marks


def growth(text: str) -> int:
    """Return by how many bytes a non-ASCII text grows when every character is expanded."""
    others = _others(text)
    growing = {letter: more for letter in set(others) if (more := _growth(letter))}
    # Letter by letter, because normalizing a text with many combining marks in a row takes quadratic time.
    return sum([growing.get(letter, 0) for letter in others]) if growing else 0


def _others(text: str) -> str:
    """Return the characters outside ASCII."""
    return text.encode().translate(None, _ASCII).decode()


@cache
def _growth(letter: str) -> int:
    """Return by how many bytes a letter grows when it is expanded or written in lower case.

    A later composition only shortens it.
    """
    written = [unicodedata.normalize("NFKD", each) for each in (letter, letter.lower())]
    return max(0, *(len(each.encode()) - len(letter.encode()) for each in written))
