"""An instance is one of its schema, the same each time, and no schema makes it large."""

import pytest

from simulator.instances import MAX_SIZE, instance_of


@pytest.mark.parametrize(
    ("schema", "instance"),
    [
        (True, "text"),
        ({}, "text"),
        ({"type": "string"}, "text"),
        ({"type": "string", "minLength": 6, "maxLength": 8}, "textxx"),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": "string", "format": "date"}, "2026-01-02"),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 5, "maximum": 9}, 5),
        ({"type": "integer", "exclusiveMinimum": 5}, 6),
        ({"type": "integer", "maximum": -3}, -3),
        ({"type": "integer", "multipleOf": 7, "minimum": 10}, 14),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5}, 0.25),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["integer", "null"]}, 1),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": 0}, 0),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
        (
            {"allOf": [{"properties": {"a": {"type": "null"}}}, {"properties": {"b": {"const": 1}}}]},
            {"a": None, "b": 1},
        ),
        ({"type": "object"}, {}),
        (
            {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city", "x"]},
            {"city": "text", "x": "text"},
        ),
        ({"type": "array", "items": {"type": "integer"}}, [1]),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, [1, 1, 1]),
        ({"type": "array", "maxItems": 0}, []),
        ({"type": "array", "prefixItems": [{"const": 1}], "items": False}, [1]),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"n": {"type": "integer"}}}}}, {"n": 1}),
    ],
)
def test_an_instance_is_one_of_its_schema(schema: object, instance: object) -> None:
    """Each supported keyword is respected."""
    assert instance_of(schema) == instance


def test_a_schema_of_itself_ends() -> None:
    """Where it may end, it does."""
    tree = {
        "$ref": "#/$defs/T",
        "$defs": {
            "T": {
                "type": "object",
                "properties": {"left": {"anyOf": [{"$ref": "#/$defs/T"}, {"type": "null"}]}},
                "required": ["left"],
            }
        },
    }
    found = instance_of(tree)
    while found is not None:
        assert isinstance(found, dict)
        found = found["left"]


_WIDE = {f"p{each}": {"$ref": "#/$defs/A"} for each in range(9)}


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"type": "string", "minLength": MAX_SIZE + 1},
        {"type": "array", "minItems": 10**9},
        {"type": "array", "minItems": 19_000, "items": {"required": [0] * 100_000}},
        {"type": "array", "minItems": 19_000, "items": {"prefixItems": [0] * 100_000, "maxItems": 0, "items": {}}},
        {"type": "array", "minItems": 100, "items": {"const": "x" * 1000}},
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": _WIDE, "required": list(_WIDE)}}},
        {"type": "object", "properties": {"self": {"$ref": "#"}}, "required": ["self"]},
    ],
)
def test_what_has_no_small_instance_is_said(schema: object) -> None:
    """Neither time nor memory is spent on it."""
    with pytest.raises(ValueError, match=r"schema"):
        instance_of(schema)
