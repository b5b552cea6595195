"""The shapes that the OpenAPI document states."""

from gateway.edge.openapi_schemas import schemas


def test_every_schema_has_an_example_of_its_own_members() -> None:
    """Each example has all required members of its schema and no unknown ones."""
    for name, schema in schemas().items():
        [example] = schema["examples"]
        assert set(schema.get("required", ())) <= set(example), name
        if name != "ModelRequest":
            assert set(example) <= set(schema["properties"]), name
