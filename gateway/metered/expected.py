"""What a request is expected to cost at most: its prompt counted with a real tokenizer, for the model's family.

Rule: never above the bound. It is asked for only where the bound does not fit, and counted beside the event loop.
docs/ledger.md has what was measured.
"""

import asyncio
import math
from functools import cache, partial

from gateway.ledger.worst_case import WorstCase
from gateway.metered.body import ChatRequest
from gateway.metered.pricing import Prompt, bounded_prompt, worst_case
from gateway.metered.tokenizer import Measure, measured
from gateway.openrouter.pricelist import PriceList

# Counting holds Python's lock for a part of its time: more at once would only take turns.
_COUNTING = asyncio.Semaphore(2)


async def expected_case(
    request: ChatRequest, prices: PriceList | None, bound: WorstCase | None, *, now_ms: int
) -> WorstCase | None:
    """Return what `request` is expected to cost at most, in the form of its bound and nowhere above it.

    None where nothing bounds it. Where there is no tokenizer it is the bound.
    """
    if bound is None:
        return None
    measure = await prompt_measure(request)
    if measure is None:
        return bound
    found = worst_case(request, prices, now_ms=now_ms, count=partial(_expected_prompt, measure))
    if found is None:
        return bound
    return found._replace(
        fixed_nano=min(found.fixed_nano, bound.fixed_nano),
        per_token_zepto=min(found.per_token_zepto, bound.per_token_zepto),
    )


async def prompt_measure(request: ChatRequest) -> Measure | None:
    """Return what the text of the prompt measures; None where there is no tokenizer."""
    async with _COUNTING:
        return await asyncio.to_thread(measured, request.document)


def expected_tokens(request: ChatRequest, model: str, measure: Measure | None) -> int:
    """Return how many tokens the prompt is expected to count for `model`, images among them."""
    prompt = bounded_prompt(request, model) if measure is None else _expected_prompt(measure, request, model)
    return prompt.text_tokens + prompt.image_tokens


def _expected_prompt(measure: Measure, request: ChatRequest, model: str) -> Prompt:
    most = bounded_prompt(request, model)
    own = most.text_tokens - request.prompt_bytes + request.allowance
    margin = _margin(model)
    tokens = measure.ascii_tokens * margin + measure.digits + measure.blanks + measure.other_bytes + _frame(measure)
    return Prompt(min(most.text_tokens, math.ceil(tokens) + own), most.image_tokens)


def _frame(measure: Measure) -> int:
    return 3 * measure.values + 2 * measure.objects


@cache
def _margin(_model: str) -> float:
    return 1.4
