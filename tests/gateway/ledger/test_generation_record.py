"""The cost in OpenRouter's `/generation` record."""

import pytest

from gateway.ledger.sweeper import stated_settlement
from gateway.openrouter.client import Document


@pytest.mark.parametrize(
    ("body", "cost_nano"),
    [
        (b'{"data":{"total_cost":9e-7}}', 900),
        (b'{"data":{"total_cost":0.0076509169000000005}}', 7_650_917),
        (b'{"data":{"total_cost":0}}', 0),
        (b'{"data":{"total_cost":0.001,"is_byok":true,"upstream_inference_cost":0.02}}', 21_000_000),
        (b'{"data":{"total_cost":0.001,"is_byok":true,"upstream_inference_cost":null}}', 1_000_000),
        (b'{"data":{"total_cost":0.001,"is_byok":false,"upstream_inference_cost":0.02}}', 1_000_000),
        (b'{"data":{"total_cost":null}}', None),
        (b'{"data":{"total_cost":"0.001"}}', None),
        (b'{"data":{"total_cost":true}}', None),
        (b'{"data":{"total_cost":-0.001}}', None),
        (b'{"data":{}}', None),
        (b'{"data":[]}', None),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_a_generation_record_is_read_exactly_or_not_at_all(body: bytes, cost_nano: int | None) -> None:
    """Absent cost is not zero; with BYOK the provider's bill counts beside the fee."""
    stated = stated_settlement(Document(200, body, "application/json"), ended_by="crash")
    assert (stated.cost_nano if stated else None) == cost_nano
    assert stated_settlement(Document(404, body, "application/json"), ended_by="crash") is None
