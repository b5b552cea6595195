"""The expected cost of a request, for which its prompt is counted with a real tokenizer and a margin for its family.

Rule: it is never above the bound. It is computed only if the bound does not fit, in a thread. docs/ledger.md has the
measurements.
"""

import asyncio
import math
import re
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple

from gateway.ledger.worst_case import WorstCase
from gateway.metered.body import ChatRequest
from gateway.metered.media import usual_image_tokens
from gateway.metered.pricing import Prompt, bounded_prompt, worst_case
from gateway.metered.tokenizer import Measure, measured
from gateway.openrouter.pricelist import PriceList


class Margin(NamedTuple):
    """The most tokens of a family's tokenizer, as factors of a `Measure`: o200k's tokens of ASCII text, and the rest.

    Bytes outside ASCII count one token each (nearly all tokenizers need that for rare Han and cuneiform), repeated
    characters as measured. `is_o200k`: the family uses that tokenizer itself, so its count of the whole text is used.
    """

    ascii_tokens: float
    digits: float
    capitals: float = 0.5
    blanks: float = 1.0
    is_o200k: bool = False


# The first pattern that matches a model's id applies. Each factor is above the corpus's result with every tokenizer of
# the family that is a package: `python -m benchmarks.token_margins` measures, docs/ledger.md has the table.
_MARGINS = (
    # The published vocabulary of GPT-4o and later; a few tokens more, because its template splits texts.
    (
        r"openai/(gpt-4o|chatgpt-4o|gpt-4\.1|gpt-4\.5|gpt-5|gpt-oss|o[134]\b|codex)",
        Margin(1.05, 0, 0, 0, is_o200k=True),
    ),
    (r"openai/gpt-(4|3\.5)", Margin(1.25, 0)),
    # Claude 3 to Opus 4.6; later ones count half as many again (English 1.5, German compounds 2.4).
    (r"anthropic/claude-(3|instant|2|(sonnet|opus|haiku)-4(\.[0-6])?(:|$))", Margin(1.5, 0, 1.0)),
    (r"anthropic/", Margin(2.2, 0)),
    (r"deepseek/", Margin(1.4, 0)),
    (r"meta-llama/llama-(3|4)", Margin(1.4, 0)),
    (r"google/(gemini|gemma)", Margin(1.5, 1)),
    (r"qwen/", Margin(1.4, 1)),
    # Its older vocabulary has tokens for runs of spaces only, not for other blanks.
    (r"mistralai/", Margin(1.5, 1, 0.5, 4.0)),
)
# Above all families but the newest Claude, whose tokenizer differs from all others.
_UNKNOWN = Margin(1.7, 1, 1.0, 2.0)

# Counting holds the GIL for a part of its time, so more threads would gain nothing.
_COUNTING = asyncio.Semaphore(2)


async def expected_case(
    request: ChatRequest, prices: PriceList | None, bound: WorstCase | None, *, now_ms: int
) -> WorstCase | None:
    """Return the expected cost of `request` in the form of its bound, nowhere above it.

    None if it has no bound. Without a tokenizer it is the bound.
    """
    if bound is None:
        return None
    measure = await prompt_measure(request)
    if measure is None:
        return bound
    found = worst_case(request, prices, now_ms=now_ms, count=partial(_expected_prompt, measure))
    if found is None:
        return bound
    return replace(
        found,
        fixed_nano=min(found.fixed_nano, bound.fixed_nano),
        per_token_zepto=min(found.per_token_zepto, bound.per_token_zepto),
    )


async def prompt_measure(request: ChatRequest) -> Measure | None:
    """Return the measure of the prompt's text; None without a tokenizer."""
    async with _COUNTING:
        return await asyncio.to_thread(measured, request.document)


def expected_tokens(request: ChatRequest, model: str, measure: Measure | None) -> int:
    """Return the expected tokens of the prompt for `model`, including images."""
    return sum(bounded_prompt(request, model) if measure is None else _expected_prompt(measure, request, model))


def _expected_prompt(measure: Measure, request: ChatRequest, model: str) -> Prompt:
    most_text, most_image = bounded_prompt(request, model)
    own = most_text - request.weight.bytes + request.weight.allowance
    tokens = family_tokens(measure, model) + _frame(measure) + own
    images = sum([usual_image_tokens(model, size) for size in request.weight.images])
    return min(most_text, tokens), min(most_image, images)


def family_tokens(measure: Measure, model: str) -> int:
    """Return the expected tokens of a text for the tokenizer of a model's family."""
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
