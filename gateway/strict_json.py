"""One JSON object from bytes, or an error.

Rule: what two parsers could read differently (duplicate keys, NaN, lone surrogates) is refused: OpenRouter's reading
decides the bill, ours decides the hold. So is a body of more values than any prompt has.
"""

import codecs
import json
import re
from collections import Counter
from decimal import Decimal, InvalidOperation
from typing import NoReturn

import orjson

from gateway.errors import InvalidRequest

# Read, a value takes up to a hundred bytes however short it is written, and the collector stops the event loop to look
# through all of them: 16 MB of `[],` took 800 MB and stopped it for nine seconds, a million of these signs for one.
# A prompt of a million tokens, as numbers or as JSON, has about half as many.
_MOST_SIGNS = 1_000_000

_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


# Every character of a number becomes one of these, and every blank a space, so that what may be read in two ways is
# found by a few plain searches.
_SHAPES = bytes.maketrans(b"0123456789.Ee+-\t\n\r", b"00000000000ee--   ")


def strict_json(body: bytes) -> dict[str, object]:
    """Return the one JSON object in `body`, numbers with a fraction as Decimal. Raises InvalidRequest (400)."""
    if len(body) > _MOST_SIGNS and sum(map(body.count, (b",", b"[", b"{"))) > _MOST_SIGNS:
        raise InvalidRequest(f"The request body has more than {_MOST_SIGNS} commas and brackets. Send fewer values.")
    document = _plainly_read(body)
    return _strictly_read(body) if document is None else document


def keeps_numbers(data: bytes) -> bool:
    """Tell whether a double holds each number in JSON as it is written: it is read back exactly by its `repr`."""
    return _are_kept(data.translate(_SHAPES))


def _are_kept(shapes: bytes) -> bool:
    """Sixteen digits in a row may be more than a double tells apart; so may an exponent of two digits.

    By `find`, not by `in`: that first tries its operand as a number, which costs as much as the search.
    """
    return shapes.find(b"0" * 16) < 0 and (
        shapes.find(b"0e") < 0 or (shapes.find(b"0e00") < 0 and shapes.find(b"0e-00") < 0)
    )


def _plainly_read(body: bytes) -> dict[str, object] | None:
    r"""Return what a fast parser reads, where that is surely what the strict one would; else None.

    The fast one takes duplicate keys, and rounds numbers. A key is followed by `":` once for each time it stands there,
    unless blanks come between: where there are none, and as many `":` as members, no key stands twice. Within a text
    it stands behind a backslash, and only there where no `\\":` can end a key.
    """
    shapes = body.translate(_SHAPES)
    if shapes.find(b" :") >= 0 or not _are_kept(shapes):
        return None
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    members, keys = _made_exact(document), body.count(b'":')
    if keys != members and b'\\\\":' not in body:
        keys -= body.count(b'\\":')
    return document if keys == members else None


def _made_exact(document: dict[str, object]) -> int:
    """Replace every double by the decimal it was written as; return how many members all objects have together."""
    members = 0
    todo: list[dict[str, object] | list[object]] = [document]
    while todo:
        place = todo.pop()
        if isinstance(place, dict):
            members += len(place)
            for key, value in place.items():
                if type(value) is float:
                    place[key] = Decimal(repr(value))
                elif type(value) is dict or type(value) is list:
                    todo.append(value)
        else:
            for index, value in enumerate(place):
                if type(value) is float:
                    place[index] = Decimal(repr(value))
                elif type(value) is dict or type(value) is list:
                    todo.append(value)
    return members


def _strictly_read(body: bytes) -> dict[str, object]:
    """Return the one JSON object in `body`, and refuse it with the reason. About 1 ms for 400 kB."""
    if not body.strip():
        raise InvalidRequest("The request body is empty. Send a JSON object.")
    if body.startswith(codecs.BOM_UTF8):
        # RFC 8259 §8.1 forbids it, and OpenRouter would get it byte for byte.
        raise InvalidRequest("The request body begins with a byte order mark (BOM). Send it as UTF-8 without one.")
    try:
        document = _DECODER.decode(body.decode())
        if _ESCAPED_SURROGATE.search(body):
            _require_whole_characters(document)
    except UnicodeDecodeError:
        raise InvalidRequest("The request body is not UTF-8. Encode it as UTF-8.") from None
    except RecursionError:
        raise InvalidRequest("The request body is nested too deeply.") from None
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"The request body is not JSON: {error.msg} at character {error.pos}.") from None
    except ValueError:
        raise InvalidRequest("The request body holds a number with too many digits.") from None
    if not isinstance(document, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise InvalidRequest(f"The key {twice[:64]!a} stands twice in one object. Send each key once.")
    return members


def _no_constant(literal: str) -> NoReturn:
    raise InvalidRequest(f"{literal} is not JSON. Send a number or null.")


def _decimal(literal: str) -> Decimal:
    try:
        return Decimal(literal)
    except InvalidOperation:
        raise InvalidRequest("The request body holds a number whose exponent is too large.") from None


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_decimal)


def _require_whole_characters(document: object) -> None:
    """Refuse half a surrogate pair: other parsers replace, drop or refuse it, so what they bill cannot be foreseen."""
    try:
        json.dumps(document, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise InvalidRequest("The request body holds half a surrogate pair (\\uD800 to \\uDFFF).") from None
