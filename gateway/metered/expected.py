"""What a request is expected to cost at most: its prompt counted with a real tokenizer, for the model's family.

Rule: never above the bound. It is asked for only where the bound does not fit, and counted beside the event loop.
docs/ledger.md has what was measured.
"""

import asyncio
import math
import re
from functools import cache, partial
from typing import NamedTuple

from gateway.ledger.worst_case import WorstCase
from gateway.metered.body import ChatRequest
from gateway.metered.media import usual_image_tokens
from gateway.metered.pricing import Prompt, bounded_prompt, worst_case
from gateway.metered.tokenizer import Measure, measured
from gateway.openrouter.pricelist import PriceList


class Margin(NamedTuple):
    """What a family's tokenizer takes at most: o200k's tokens of ASCII times a factor, and the rest of a `Measure`.

    Bytes outside ASCII count one each (rare Han and cuneiform are that at nearly all), repeats as they are measured.
    `is_o200k`: it is that tokenizer itself, so that its count of all of the text holds.
    """

    ascii_tokens: float
    digits: float
    capitals: float = 0.5
    blanks: float = 1.0
    is_o200k: bool = False


# By the first pattern that a model's id matches. Each factor is above what the corpus takes at any tokenizer of the
# family that can be had as a package: `python -m benchmarks.token_margins` measures it, docs/ledger.md has the table.
_MARGINS = (
    # The published vocabulary of GPT-4o and all since; a few tokens more for what its template cuts.
    (
        r"openai/(gpt-4o|chatgpt-4o|gpt-4\.1|gpt-4\.5|gpt-5|gpt-oss|o[134]\b|codex)",
        Margin(1.05, 0, 0, 0, is_o200k=True),
    ),
    (r"openai/gpt-(4|3\.5)", Margin(1.25, 0)),
    # Claude 3 to Opus 4.6; what follows counts half as many again (English 1.5, German compounds 2.4).
    (r"anthropic/claude-(3|instant|2|(sonnet|opus|haiku)-4(\.[0-6])?(:|$))", Margin(1.5, 0, 1.0)),
    (r"anthropic/", Margin(2.2, 0)),
    (r"deepseek/", Margin(1.4, 0)),
    (r"meta-llama/llama-(3|4)", Margin(1.4, 0)),
    (r"google/(gemini|gemma)", Margin(1.5, 1)),
    (r"qwen/", Margin(1.4, 1)),
    # Its older vocabulary has no piece for two blanks but spaces.
    (r"mistralai/", Margin(1.5, 1, 0.5, 4.0)),
)
# Above all of these but the newest Claude, whose tokenizer is like no other.
_UNKNOWN = Margin(1.7, 1, 1.0, 2.0)

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
    tokens = family_tokens(measure, model) + _frame(measure) + own
    images = sum([usual_image_tokens(model, size) for size in request.images])
    return Prompt(min(most.text_tokens, tokens), min(most.image_tokens, images))


def family_tokens(measure: Measure, model: str) -> int:
    """Return how many tokens a text is expected to be at most for the tokenizer of a model's family."""
    margin = _margin(model)
    if margin.is_o200k:
        return math.ceil(measure.tokens * margin.ascii_tokens)
    return measure.other_bytes + math.ceil(
        measure.ascii_tokens * margin.ascii_tokens
        + measure.digits * margin.digits
        + measure.capitals * margin.capitals
        + measure.blanks * margin.blanks
        + measure.repeats
    )


def _frame(measure: Measure) -> int:
    return 3 * measure.values + 2 * measure.objects


@cache
def _margin(model: str) -> Margin:
    name = model.removeprefix("~")
    return next((margin for family, margin in _MARGINS if re.match(family, name)), _UNKNOWN)
