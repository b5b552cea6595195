"""Short builders of price lists and requests, for the tests of bounds and estimates."""

import json

from gateway.ledger.worst_case import WorstCase
from gateway.metered.body import ChatRequest
from gateway.metered.pricing import worst_case
from gateway.openrouter.dialects import Dialect
from gateway.openrouter.pricelist import PriceList

SONNET: dict[str, object] = {
    "id": "anthropic/claude-sonnet-4",
    "canonical_slug": "anthropic/claude-4-sonnet-20250522",
    "context_length": 1_000_000,
    "pricing": {
        "prompt": "0.000003",
        "completion": "0.000015",
        "web_search": "0.01",
        "input_cache_read": "0.0000003",
        "input_cache_write": "0.00000375",
        "input_cache_write_1h": "0.000006",
        "overrides": [
            {
                "min_prompt_tokens": 200_000,
                "prompt": "0.000006",
                "completion": "0.0000225",
                "input_cache_write": "0.0000075",
                "input_cache_write_1h": "0.000012",
            }
        ],
    },
    "top_provider": {"context_length": 200_000, "max_completion_tokens": 64_000, "is_moderated": True},
}


def entry(
    model: str = "a/b", *, context: int | None = 10_000, output: int | None = None, **pricing: object
) -> dict[str, object]:
    rates = {"prompt": "0.000001", "completion": "0.000002", **pricing}
    return {"id": model, "context_length": context, "pricing": rates, "top_provider": {"max_completion_tokens": output}}


def prices(*entries: object) -> PriceList:
    return PriceList.parse(json.dumps({"data": list(entries)}).encode(), fetched_ms=0)


def chat(text: str = "hi", dialect: Dialect = Dialect.CHAT, **fields: object) -> ChatRequest:
    document = {"model": "a/b", "messages": [{"role": "user", "content": text}], "input": text, **fields}
    return ChatRequest.parse(json.dumps(document).encode(), dialect)


def bound(request: ChatRequest, *entries: object) -> WorstCase:
    found = worst_case(request, prices(*entries), now_ms=0)
    assert found is not None
    return found


def unbounded(request: ChatRequest, *entries: object) -> bool:
    return worst_case(request, prices(*entries), now_ms=0) is None
