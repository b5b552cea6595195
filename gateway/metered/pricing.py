"""The bound of a request's cost before it is sent, and the estimate that is booked if the cost is never stated.

A hold is not a bill: it uses the prices of a model's top provider; requests are settled at `usage.cost`.

Prompt tokens are bounded by bytes. A byte-level BPE token (GPT, Llama 3, Qwen, DeepSeek, Mistral) has at least one byte
of the text, and so has a SentencePiece token with byte fallback, so a text of b UTF-8 bytes has at most b tokens;
Claude's tokenizers also mark words and capitals. `weight.py` counts all keys, numbers and unknown fields, because any
of them may become part of the prompt; text that a tokenizer may expand first (NFKC) at its expanded length; and an
allowance for what a chat template adds. Real text has a tenth to two fifths of the bound
(`python -m benchmarks.prompt_bound`). Images are counted separately.

Not bounded, because the list does not state it: a provider dearer than the model's top one, which causes an overrun.

Internally amounts are whole zepto-USD (1e-21), so that a per-token price is exact; results are whole nano-USD.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal

from gateway.ledger.worst_case import WorstCase
from gateway.memo import Memo
from gateway.metered.body import ChatRequest
from gateway.metered.media import image_tokens as image_tokens_of
from gateway.metered.weight import Weight
from gateway.money import capped_nano, nano_from_zepto
from gateway.openrouter.pricelist import (
    Price,
    PriceList,
    Rates,
    Tier,
    obeys_ceiling,
    searches_by_itself,
    usd_amount,
    zepto_from_usd,
)
from gateway.openrouter.usage import Usage

# In an older list every price may be wrong (CONTRACT §3.5); OpenRouter itself permits an hour of staleness.
MAX_AGE_MS = 24 * 3600 * 1000

# The rule of thumb for English; text in other languages has two or three bytes a token.
ESTIMATE_BYTES_PER_TOKEN = 4

# Some providers add a system prompt to a conversation without one. The most tokens billed beyond the body in recorded
# exchanges of late 2025: Devstral 1,234, Mistral Small 561, Llama 3.3 956, Grok 4 687.
_OWN_PROMPT_TOKENS_OF_FAMILY = {"mistralai/": 1536, "meta-llama/": 1024, "x-ai/": 1024}

# OpenRouter skips providers whose ceiling is below the body's. If neither the list nor the caller states a ceiling, a
# shortened request therefore gets one that most providers offer.
_USUAL_CEILING_TOKENS = 32_768

# At Anthropic, writing a prompt to a cache costs 1.25 times (five minutes) or 2 times (one hour) its price, the only
# premium listed; `max_price` is compared with the plain price, so the bound is this multiple of it.
_CACHE_WRITE_PREMIUM = Decimal("1.25")
_LONG_CACHE_PREMIUM = Decimal(2)

# Families that charge a premium only for cache writes requested by the body. Their automatic writes are free (Gemini's
# implicit cache, DeepSeek). Others, such as GPT from 5.6 on, may list a premium for automatic writes, so it is always
# counted (https://openrouter.ai/docs/guides/best-practices/prompt-caching).
_ASKED_CACHE_FAMILIES = ("anthropic/", "google/", "qwen/", "deepseek/")
_STORAGE_FAMILY = "google/"

_PLAIN_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
_NO_LIST = PriceList({}, fetched_ms=0)
_NO_CAPS: Mapping[str, int] = {}
# This suffix permits providers' priority tiers, whose prices are not in the list.
_DEARER_SUFFIX = ":nitro"
# From 128,000 tokens on, prompts cost twice as much at every provider with a tier for them (Claude, Gemini).
_LONG_PROMPT_TOKENS = 128_000


Prompt = tuple[int, int]
"""The prompt tokens for one model: of the text, and of the images."""
Count = Callable[[ChatRequest, str], Prompt]


def bounded_prompt(request: ChatRequest, model: str) -> Prompt:
    """Return the upper bound of the prompt tokens."""
    weight = request.weight
    text_tokens = weight.bytes
    if request.has_output:
        text_tokens += _own_prompt(model)
    return text_tokens, sum([image_tokens_of(model, size) for size in weight.images]) if weight.images else 0


def worst_case(
    request: ChatRequest,
    prices: PriceList | None,
    *,
    now_ms: int,
    count: Count = bounded_prompt,
) -> WorstCase | None:
    """Return the bound of `request`'s cost, or None without a bound, when all that is left must be held.

    `count`: returns the prompt tokens for one of its models; with another function the result is not a bound.
    """
    if request.open_ended or prices is None or now_ms - prices.fetched_ms > MAX_AGE_MS:
        return None
    caps = _max_price(request.document) if "provider" in request.document else _NO_CAPS
    bound = _bound(request, request.model, prices, caps, count)
    for model in request.fallbacks:
        bound = _either(bound, _bound(request, model, prices, caps, count))
    return bound


def _either(one: WorstCase | None, other: WorstCase | None) -> WorstCase | None:
    """Return the bound if either of two models may answer."""
    if one is None or other is None:
        return None
    is_shortened = one.least_tokens is not None and other.least_tokens is not None
    usual = [bound.usual_tokens for bound in (one, other) if bound.usual_tokens is not None]
    return WorstCase(
        max(one.fixed_nano, other.fixed_nano),
        max(one.per_token_zepto, other.per_token_zepto),
        max(one.max_tokens, other.max_tokens),
        max(one.least_tokens or 0, other.least_tokens or 0) if is_shortened else None,
        min(usual, default=None),
    )


def estimate_nano(
    request: ChatRequest,
    prices: PriceList | None,
    *,
    completion_bytes: int,
    usage: Usage | None = None,
) -> int:
    """Return the amount to settle at, marked `estimated`, if the true cost cannot be obtained.

    Stated tokens are used, cached ones at cache rates; otherwise four bytes count as a token. Rates are the list's
    plain ones for the dearest of the named models, whatever the list's age; for an unlisted model the dearest of the
    list; without a list a constant above most prices.
    """
    prompt_tokens = completion_tokens = None
    cached = written = 0
    if usage is not None:
        prompt_tokens, completion_tokens = usage.prompt_tokens, usage.completion_tokens
        if prompt_tokens:
            cached, written = usage.cached_tokens, usage.written_tokens
            prompt_tokens = max(prompt_tokens, cached + written)
    if prompt_tokens is None:
        prompt_tokens = -(-request.weight.bytes // ESTIMATE_BYTES_PER_TOKEN)
    if completion_tokens is None:
        completion_tokens = _estimated_completion(request, completion_bytes) if completion_bytes else 0
    listed = _NO_LIST if prices is None else prices
    tokens = prompt_tokens, cached, written, completion_tokens
    estimate = _estimate_for(request.model, request, listed, tokens)
    for model in request.fallbacks:
        estimate = max(estimate, _estimate_for(model, request, listed, tokens))
    return estimate


def _estimated_completion(request: ChatRequest, completion_bytes: int) -> int:
    if not request.has_output:
        return 0
    tokens = -(-completion_bytes // ESTIMATE_BYTES_PER_TOKEN)
    return tokens if request.max_tokens is None else min(tokens, request.max_tokens * request.choices)


_Tokens = tuple[int, int, int, int]
"""The tokens of an estimate: of the prompt, of these read from and written to a cache, and of the completion."""


def _estimate_for(model: str, request: ChatRequest, prices: PriceList, tokens: _Tokens) -> int:
    prompt_tokens, cached, written, completion_tokens = tokens
    price = prices.find(model)
    if price is None:
        return capped_nano(prices.dearest_prompt * prompt_tokens + prices.dearest_completion * completion_tokens)
    rates = price.rates(prompt_tokens)
    zepto = rates.request + rates.prompt * (prompt_tokens - cached - written)
    if completion_tokens:
        zepto += rates.completion * completion_tokens
    if request.weight.images:
        zepto += rates.image * len(request.weight.images)
    if cached:
        zepto += (rates.cache_read or rates.prompt) * cached
    if written:
        hour = rates.cache_write_1h if request.weight.long_cache else 0
        zepto += max(rates.prompt, rates.cache_write, hour) * written
    return capped_nano(zepto)


def _bound(
    request: ChatRequest, model: str, prices: PriceList, caps: Mapping[str, int], count: Count
) -> WorstCase | None:
    """Return the bound for one model, or None if it has no price, or its output no ceiling."""
    price = None if model.endswith(_DEARER_SUFFIX) else prices.find(model)
    if price is None:
        price = _price_from_caps(model, caps)
    if price is None or (max_tokens := _output_ceiling(request, price)) is None:
        return None
    if caps:
        price = _capped(price, caps)
    weight, asked = request.weight, request.max_tokens
    text_tokens, image_tokens = count(request, price.model)
    context = None if price.context_length is None else price.context_length * request.prompts
    prompt_tokens = _at_most(context, text_tokens + image_tokens)
    rates = price.rates(prompt_tokens)
    prompt_rate = rates.prompt
    if rates.cache_write or weight.long_cache:
        prompt_rate = _prompt_rate(weight, price.model, rates)
    fixed = prompt_rate * prompt_tokens
    if weight.images:
        image = max(rates.image * len(weight.images), rates.image_token * image_tokens)
        fixed = max(fixed, prompt_rate * _at_most(context, text_tokens) + image)
    per_token = rates.output * request.choices if max_tokens else 0
    least: int | None = None
    if price.obeys_ceiling:
        # A ceiling within the reasoning budget is refused upstream, or raised by the budget, so it is not lowered: the
        # request fits as it is, or is refused. Otherwise a body could choose to have no bound.
        least = request.least_tokens if asked is None or asked > request.thinking_tokens else max_tokens
    usual: int | None = None
    if asked is None and request.has_output and price.max_completion_tokens is None:
        usual = _USUAL_CEILING_TOKENS + request.thinking_tokens
    return WorstCase(nano_from_zepto(fixed + rates.request), per_token, max_tokens, least, usual)


def _prompt_rate(weight: Weight, model: str, rates: Rates) -> int:
    """Return the dearest possible rate of a prompt token if a cache write may happen."""
    plain, written = rates.prompt, rates.cache_write
    if not weight.asks_for_cache and model.removeprefix("~").startswith(_ASKED_CACHE_FAMILIES):
        return plain
    if written < plain:
        # For Gemini some lists state the storage price only, which is added to the prompt's price.
        written = plain + written if model.removeprefix("~").startswith(_STORAGE_FAMILY) else plain
    if weight.long_cache:
        written = max(written, rates.cache_write_1h, int(plain * _LONG_CACHE_PREMIUM))
    return written


def _output_ceiling(request: ChatRequest, price: Price) -> int | None:
    """Return the most output tokens of one answer: the least of the caller's, the provider's and the context's."""
    asked = request.max_tokens
    if asked is None or not price.obeys_ceiling:
        return (price.max_completion_tokens or price.context_length) if request.has_output else 0
    if request.thinking_tokens >= asked:
        # A provider that accepts such a ceiling must raise it by the budget.
        asked += request.thinking_tokens
    return _at_most(price.context_length, asked)


def _at_most(limit: int | None, tokens: int) -> int:
    return tokens if limit is None or tokens <= limit else limit


def _most_added(model: str) -> int:
    """Return the most tokens that providers of a model's family add to the prompt."""
    return next((tokens for family, tokens in _OWN_PROMPT_TOKENS_OF_FAMILY.items() if family in model), 0)


_own_prompt = Memo(_most_added, 4096).__getitem__


def _capped(price: Price, caps: Mapping[str, int]) -> Price:
    """Return `price` with its base rates lowered to the caller's `max_price`.

    Tiers for long prompts are kept, as a provider is selected by its base price.
    """
    base = price.tiers[0].rates
    lowered = {
        name: min(rate, limit) if (limit := _cap_of(name, caps)) is not None else rate for name, rate in base.items()
    }
    return replace(price, tiers=(Tier(0, lowered), *price.tiers[1:]))


def _cap_of(name: str, caps: Mapping[str, int]) -> int | None:
    """Return the maximum of the named rate under the caller's `max_price`, None if that does not bound it."""
    if name == "input_cache_write" and "prompt" in caps:
        return int(caps["prompt"] * _CACHE_WRITE_PREMIUM)
    if name == "input_cache_write_1h" and "prompt" in caps:
        return int(caps["prompt"] * _LONG_CACHE_PREMIUM)
    return caps.get(name)


def _price_from_caps(model: str, caps: Mapping[str, int]) -> Price | None:
    """Return a price for an unpriced model, if the caller bounds both prompt and completion.

    Neither bounds a router's own fees.
    """
    if not caps.keys() >= {"prompt", "completion"} or searches_by_itself(model) or model.startswith("openrouter/"):
        return None
    names = ("prompt", "completion", "request", "image", "input_cache_write", "input_cache_write_1h")
    rates = {name: cap for name in names if (cap := _cap_of(name, caps)) is not None}
    long = Tier(_LONG_PROMPT_TOKENS, {name: 2 * rate for name, rate in rates.items()})
    return Price(model, (Tier(0, rates), long), None, None, obeys_ceiling(model, None))


def _max_price(document: Mapping[str, object]) -> Mapping[str, int]:
    """Parse `provider.max_price` leniently: USD per million tokens, USD per request and image; the rest is ignored.

    If OpenRouter read request and image per million, the bound here would only be higher.
    """
    provider = document.get("provider")
    listed = provider.get("max_price") if isinstance(provider, dict) else None
    if not isinstance(listed, dict):
        return {}
    units = {"prompt": 1_000_000, "completion": 1_000_000, "request": 1, "image": 1}
    given = ((name, usd_amount(_plain(listed.get(name))), unit) for name, unit in units.items())
    return {name: -(-zepto_from_usd(usd) // unit) for name, usd, unit in given if usd is not None}


def _plain(limit: object) -> object:
    """Return a limit that every parser reads as the same number, else None: OpenRouter may ignore any other."""
    return limit if not isinstance(limit, str) or _PLAIN_NUMBER.fullmatch(limit) else None
