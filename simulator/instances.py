"""Makes an instance of a JSON schema, as the simulated structured output or tool arguments.

Rule: the same schema always gives the same instance, of at most MAX_SIZE, even if the schema is recursive.
Supported: type, enum, const, properties, required, items, prefixItems, anyOf, oneOf, allOf, $ref within the schema,
format, and limits of lengths, items and numbers. Ignored: pattern, not, if, dependencies, uniqueItems.
"""

from collections.abc import Mapping
from decimal import Decimal
from math import ceil, floor

import orjson

# Characters and values of one instance: some thousand tokens, made in a few milliseconds.
MAX_SIZE = 20_000
# Deeper than this, optional members are omitted and lists are as short as allowed, so that a recursive schema ends.
_FULL_DEPTH = 6
# A schema that requires itself has no instance; this limit finds that before Python's recursion limit.
_MAX_DEPTH = 60
# A limit beyond the integers that a double represents exactly is ignored.
_MOST = 2**53

_FORMATS = {
    "date": "2026-01-02",
    "date-time": "2026-01-02T03:04:05Z",
    "duration": "PT1H",
    "email": "ada@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "03:04:05Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def instance_of(schema: object) -> object:
    """Return a JSON value that `schema` allows. Raises ValueError if there is none within MAX_SIZE."""
    return _Maker(schema).make(schema, 0)


class _Maker:
    """Makes one instance. `_left`: how much of MAX_SIZE remains."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._left = MAX_SIZE

    def make(self, schema: object, depth: int) -> object:
        self._spend(1)
        if depth > _MAX_DEPTH:
            raise ValueError("The schema has no finite instance.")
        if not isinstance(schema, dict):
            if schema is False:
                raise ValueError("The schema allows nothing.")
            return "text"
        if "$ref" in schema:
            return self.make(self._resolved(schema["$ref"]), depth + 1)
        for name in ("const", "enum"):
            if name in schema:
                return self._given(schema[name] if name == "const" else next(iter(_list(schema["enum"])), None))
        if options := _list(schema.get("anyOf")) or _list(schema.get("oneOf")):
            return self.make(self._shallowest(options) if depth > _FULL_DEPTH else options[0], depth + 1)
        if parts := _list(schema.get("allOf")):
            return self.make(self._joined(schema, parts), depth + 1)
        kind = schema.get("type")
        kind = next(iter(_list(kind)), kind)
        if kind == "object" or (kind is None and ("properties" in schema or "required" in schema)):
            return self._object(schema, depth)
        if kind == "array" or (kind is None and "items" in schema):
            return self._array(schema, depth)
        if kind in ("integer", "number"):
            return _number(schema, whole=kind == "integer")
        if kind in ("boolean", "null"):
            return True if kind == "boolean" else None
        return self._string(schema)

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError(f"An instance of the schema takes more than {MAX_SIZE} characters and values.")

    def _given(self, value: object) -> object:
        self._spend(len(orjson.dumps(value, default=float)))
        return value

    def _resolved(self, reference: object) -> object:
        """Return the schema at `#/…`. Raises ValueError if there is none."""
        path = str(reference)
        self._spend(len(path))
        place = self._root
        for name in path.removeprefix("#").split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            if not isinstance(place, dict) or name not in place:
                raise ValueError(f"The schema has nothing at {path[:100]}.")
            place = place[name]
        return place

    def _shallowest(self, options: list[object]) -> object:
        self._spend(len(options))
        plain = [each for each in options if isinstance(each, dict) and each.get("type") in _LEAVES]
        return (plain or options)[-1]

    def _joined(self, schema: Mapping[str, object], parts: list[object]) -> dict[str, object]:
        joined: dict[str, object] = {name: value for name, value in schema.items() if name != "allOf"}
        for part in parts:
            resolved = self._resolved(part["$ref"]) if isinstance(part, dict) and "$ref" in part else part
            for name, value in resolved.items() if isinstance(resolved, dict) else ():
                held = joined.get(name)
                if isinstance(held, dict) and isinstance(value, dict):
                    self._spend(len(held) + len(value))
                    joined[name] = {**held, **value}
                elif isinstance(held, list) and isinstance(value, list):
                    self._spend(len(held) + len(value))
                    joined[name] = [*held, *value]
                else:
                    self._spend(1)
                    joined[name] = value
        return joined

    def _object(self, schema: Mapping[str, object], depth: int) -> dict[str, object]:
        listed = schema.get("properties")
        properties: Mapping[str, object] = listed if isinstance(listed, dict) else {}
        required = _list(schema.get("required"))
        self._spend(len(required))
        names = [name for name in required if isinstance(name, str)]
        if depth <= _FULL_DEPTH:
            names = [*properties, *(name for name in names if name not in properties)]
        made: dict[str, object] = {}
        for name in names:
            self._spend(len(name) + 1)
            made[name] = self.make(properties.get(name, True), depth + 1)
        return made

    def _array(self, schema: Mapping[str, object], depth: int) -> list[object]:
        first = _list(schema.get("prefixItems"))
        least, most = _limit(schema, "minItems"), _limit(schema, "maxItems")
        wanted = max(least or 0, len(first), 1 if depth <= _FULL_DEPTH and schema.get("items") is not False else 0)
        count = wanted if most is None else max(min(wanted, most), 0)
        self._spend(count + len(first))
        rest = [schema.get("items", True)] * (count - len(first))
        return [self.make(each, depth + 1) for each in (first + rest)[:count]]

    def _string(self, schema: Mapping[str, object]) -> str:
        least, most = _limit(schema, "minLength") or 0, _limit(schema, "maxLength")
        self._spend(max(least, 0))
        text = _FORMATS.get(str(schema.get("format")), "text")
        return text.ljust(least, "x")[: max(most, 0) if most is not None else None]


_LEAVES = ("null", "boolean", "integer", "number", "string")


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _limit(schema: Mapping[str, object], name: str) -> int | None:
    value = schema.get(name)
    return int(value) if isinstance(value, int | float | Decimal) and -_MOST < value < _MOST else None


def _number(schema: Mapping[str, object], *, whole: bool) -> int | float:
    """Return the least allowed number from 1 up, else the largest allowed one."""
    step = _exact(schema, "multipleOf") or (Decimal(1) if whole else Decimal("0.5"))
    least = _exact(schema, "minimum", "exclusiveMinimum")
    most = _exact(schema, "maximum", "exclusiveMaximum")
    if step <= 0:
        step = Decimal(1)
    number = step * max(1, ceil(least / step) if least is not None else 1)
    if least is not None and number == _exact(schema, "exclusiveMinimum"):
        number += step
    if most is not None and (number > most or number == _exact(schema, "exclusiveMaximum")):
        number = floor(most / step) * step
        number -= step if number == _exact(schema, "exclusiveMaximum") or number > most else 0
        if least is not None and (number < least or number == _exact(schema, "exclusiveMinimum")):
            number = (least + most) / 2
    return int(number) if whole or number % 1 == 0 else float(number)


def _exact(schema: Mapping[str, object], *names: str) -> Decimal | None:
    """Return the first limit that is a number within ±2^53, else None."""
    for name in names:
        value = schema.get(name)
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and -_MOST < value < _MOST:
            return Decimal(str(value))
    return None
