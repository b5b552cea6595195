"""The webhooks of `/openapi.json`."""

from gateway.edge import openapi
from gateway.edge.openapi_webhooks import examples
from gateway.webhooks.messages import TYPES


def test_every_event_is_described_with_an_example() -> None:
    """And the example has what its schema asks for."""
    described = openapi.document("https://api.example")["webhooks"]
    assert tuple(described) == TYPES
    for name, example in examples().items():
        schema = described[name]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert schema["examples"] == [example]
        assert schema["properties"]["type"] == {"const": name}
        assert set(schema["properties"]["data"]["required"]) == set(example["data"])
