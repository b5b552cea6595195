"""The OpenAPI document."""

from gateway import errors
from gateway.edge import openapi


def _references(node: object) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if "$ref" in node else set()
        return own.union(*(_references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(_references(value) for value in node))
    return set()


def test_every_reference_leads_somewhere() -> None:
    """A reference that names nothing breaks every generator."""
    document = openapi.document("https://api.example")

    for reference in _references(document):
        place: object = document
        for name in reference.removeprefix("#/").split("/"):
            assert isinstance(place, dict)
            place = place[name]


def test_every_error_code_is_listed() -> None:
    """Every error code that the gateway can answer is in the document."""
    codes = openapi.document("https://api.example")["components"]["schemas"]["Error"]["properties"]["error"][
        "properties"
    ]["code"]["enum"]

    assert {error.code for error in errors.WattfareError.__subclasses__()} <= set(codes)


def test_every_schema_is_used() -> None:
    """A schema that nothing names is dead."""
    document = openapi.document("https://api.example")

    used = {reference.rpartition("/")[2] for reference in _references(document)}

    assert set(document["components"]["schemas"]) <= used
