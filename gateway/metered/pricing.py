"""What a request can cost at most before it is sent, and what it is booked at when nobody tells.

A hold is a bound, never a bill: prices are those of a model's top provider, requests are settled at `usage.cost`.

Prompt tokens are bounded from bytes. A byte-level BPE token (GPT, Llama 3, Qwen, DeepSeek, Mistral) stands for
at least one byte of the text, and a SentencePiece token with byte fallback too, so a text of b UTF-8 bytes is at most
b tokens; Claude's mark words and capitals besides. `weight.py` counts them: keys, numbers and unknown fields too,
because any of them may reach the prompt, text that a tokenizer may write out first (NFKC) at its written-out length,
and an allowance for what a chat template adds without any byte of the body. Real text takes a tenth to two fifths of
the bound (`python -m benchmarks.prompt_bound`). Images are counted apart.

Not bounded, because the list does not say it: a provider dearer than the model's top one. It is an overrun then.

Amounts are whole zepto-USD (1e-21) inside, so that a per-token price is exact, and whole nano-USD outside.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from gateway.ledger.worst_case import WorstCase
from gateway.metered.body import ChatRequest
from gateway.metered.floor import fewest_tokens
from gateway.metered.media import image_tokens as image_tokens_of
from gateway.money import MAX_NANO, nano_from_zepto
from gateway.openrouter.pricelist import (
    COMPLETION_RATES,
    LONG_CACHE_RATES,
    PROMPT_RATES,
    Price,
    PriceList,
    Tier,
    obeys_ceiling,
    searches_by_itself,
    usd_amount,
    zepto_from_usd,
)
from gateway.openrouter.usage import Usage

# A list this old may be wrong about every price (CONTRACT §3.5); OpenRouter itself allows an hour of staleness.
MAX_AGE_MS = 24 * 3600 * 1000

# Text in other languages than English runs to two or three bytes a token; four is the usual rule of thumb for English.
ESTIMATE_BYTES_PER_TOKEN = 4

# Some providers put a system prompt of their own before a conversation that has none. The most that was billed beyond
# the body in recorded exchanges of late 2025: Devstral 1,234 tokens and Mistral Small 561, Llama 3.3 956, Grok 4 687.
_OWN_PROMPT_TOKENS_OF_FAMILY = {"mistralai/": 1536, "meta-llama/": 1024, "x-ai/": 1024}

# OpenRouter leaves out providers whose own ceiling is lower than the one a body names: where the list knows none and
# the caller named none, a shortened request asks for no more than most providers give.
_USUAL_CEILING_TOKENS = 32_768

# Writing a prompt into a cache costs 1.25 times (five minutes) or 2 times (one hour) its price at Anthropic, the only
# premium listed; `max_price` is compared with the plain price, so it bounds no more than this multiple.
_CACHE_WRITE_PREMIUM = Decimal("1.25")
_LONG_CACHE_PREMIUM = Decimal(2)

# Families whose caches are written only where the body asks for it, at a premium then; those that write by themselves
# take none (Gemini's implicit cache, DeepSeek) or list it (GPT from 5.6 on), and so may any that is not named here
# (https://openrouter.ai/docs/guides/best-practices/prompt-caching).
_ASKED_CACHE_FAMILIES = ("anthropic/", "google/", "qwen/", "deepseek/")
_STORAGE_FAMILY = "google/"

_PLAIN_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
_NO_LIST = PriceList({}, fetched_ms=0)
# Lets providers' priority tiers answer, at prices that the list does not name.
_DEARER_SUFFIX = ":nitro"
# Long prompts cost twice as much at every provider that has a tier for them (Claude, Gemini), from 128,000 tokens on.
_LONG_PROMPT_TOKENS = 128_000


class Prompt(NamedTuple):
    """What the prompt of one model counts: tokens of its text, and of its images."""

    text_tokens: int
    image_tokens: int


def bounded_prompt(request: ChatRequest, model: str) -> Prompt:
    """Return what the prompt can count at most."""
    image_tokens = sum([image_tokens_of(model, size) for size in request.images])
    return Prompt(request.prompt_bytes + (_own_prompt(model) if request.has_output else 0), image_tokens)


def worst_case(
    request: ChatRequest,
    prices: PriceList | None,
    *,
    now_ms: int,
    count: Callable[[ChatRequest, str], Prompt] = bounded_prompt,
) -> WorstCase | None:
    """Return what `request` can cost at most, or None when nothing bounds it and all that is left must be held.

    `count`: what its prompt counts for one of its models; with another than the default this is no bound.
    """
    if request.open_ended or prices is None or now_ms - prices.fetched_ms > MAX_AGE_MS:
        return None
    caps = _max_price(request.document)
    bounds: list[WorstCase] = []
    for model in (request.model, *request.fallbacks):
        listed = None if model.endswith(_DEARER_SUFFIX) else prices.find(model)
        price = listed or _price_from_caps(model, caps)
        bound = None if price is None else _bound(request, price, caps, count(request, price.model))
        if bound is None:
            return None
        bounds.append(bound)
    return bounds[0] if len(bounds) == 1 else _any_of(bounds)


def _any_of(bounds: list[WorstCase]) -> WorstCase:
    """Return the bound of a request that any of several models may answer."""
    least = [bound.least_tokens for bound in bounds]
    usual = [bound.usual_tokens for bound in bounds if bound.usual_tokens is not None]
    return WorstCase(
        max(bound.fixed_nano for bound in bounds),
        max(bound.per_token_zepto for bound in bounds),
        max(bound.max_tokens for bound in bounds),
        None if None in least else max(each for each in least if each is not None),
        min(usual, default=None),
    )


def estimate_nano(
    request: ChatRequest,
    prices: PriceList | None,
    *,
    completion_bytes: int,
    usage: Usage | None = None,
) -> int:
    """Return what to settle at, marked `estimated`, when the true cost cannot be had.

    Stated tokens count, those that a cache gave or took at its rates; else four bytes are a token. Rates are the list's
    plain ones for the dearest of the named models, however old the list is; for a model it does not hold, its dearest;
    without a list, a constant above most.
    """
    prompt_tokens = usage.prompt_tokens if usage else None
    completion_tokens = usage.completion_tokens if usage else None
    cached, written = (usage.cached_tokens, usage.written_tokens) if usage and usage.prompt_tokens else (0, 0)
    if prompt_tokens is None:
        prompt_tokens = estimated_prompt_tokens(request)
    if completion_tokens is None:
        completion_tokens = -(-completion_bytes // ESTIMATE_BYTES_PER_TOKEN) if request.has_output else 0
        if request.max_tokens is not None:
            completion_tokens = min(completion_tokens, request.max_tokens * request.choices)
    listed = prices or _NO_LIST
    models = (request.model, *request.fallbacks)
    tokens = _Tokens(max(0, prompt_tokens - cached - written), cached, written, completion_tokens)
    return max([_estimate_for(each, request, listed, tokens) for each in models])


def estimated_prompt_tokens(request: ChatRequest) -> int:
    """Return what the text of a prompt is expected to count, without its images."""
    return -(-request.prompt_bytes // ESTIMATE_BYTES_PER_TOKEN)


class _Tokens(NamedTuple):
    """What an estimate is made of: the prompt's tokens by what a cache had to do with them, and the completion's."""

    plain: int
    cached: int
    written: int
    completion: int

    @property
    def prompt(self) -> int:
        return self.plain + self.cached + self.written


def _estimate_for(model: str, request: ChatRequest, prices: PriceList, tokens: _Tokens) -> int:
    price = prices.find(model)
    if price is None:
        prompt, completion = prices.dearest_prompt, prices.dearest_completion
        return min(MAX_NANO, nano_from_zepto(prompt * tokens.prompt + completion * tokens.completion))
    once = price.rate(("request",), 0)
    if request.images:
        once += len(request.images) * price.rate(("image",), 0)
    prompt = price.rate(("prompt",), tokens.prompt)
    in_all = prompt * tokens.plain + price.rate(("completion",), tokens.prompt) * tokens.completion
    if tokens.cached:
        in_all += (price.rate(("input_cache_read",), tokens.prompt) or prompt) * tokens.cached
    if tokens.written:
        in_all += price.rate(LONG_CACHE_RATES if request.long_cache else PROMPT_RATES, tokens.prompt) * tokens.written
    return min(MAX_NANO, nano_from_zepto(once + in_all))


def _bound(request: ChatRequest, price: Price, caps: Mapping[str, int], prompt: Prompt) -> WorstCase | None:
    """Return the bound for one model, or None when its output has no ceiling."""
    max_tokens = _output_ceiling(request, price)
    if max_tokens is None:
        return None
    price = _capped(price, caps)
    context = None if price.context_length is None else price.context_length * request.prompts
    prompt_tokens = _at_most(context, prompt.text_tokens + prompt.image_tokens)
    prompt_rate = _prompt_rate(request, price, prompt_tokens)
    fixed = prompt_rate * prompt_tokens
    if request.images:
        each_image = len(request.images) * price.rate(("image",), prompt_tokens)
        image = max(each_image, prompt.image_tokens * price.rate(("image_token",), prompt_tokens))
        fixed = max(fixed, prompt_rate * _at_most(context, prompt.text_tokens) + image)
    fixed += price.rate(("request",), prompt_tokens)
    per_token = price.rate(COMPLETION_RATES, prompt_tokens) * request.choices if max_tokens else 0
    least: int | None = None
    if price.obeys_ceiling:
        # A ceiling within the budget for reasoning is refused upstream, or raised by the budget: it fits as it is, or
        # is refused. Else a body could choose that none bounds it.
        is_firm = request.max_tokens is None or request.max_tokens > request.thinking_tokens
        least = fewest_tokens(request.document, request.thinking_tokens) if is_firm else max_tokens
    is_open = request.has_output and request.max_tokens is None and price.max_completion_tokens is None
    usual = _USUAL_CEILING_TOKENS + request.thinking_tokens if is_open else None
    return WorstCase(nano_from_zepto(fixed), per_token, max_tokens, least, usual)


def _prompt_rate(request: ChatRequest, price: Price, prompt_tokens: int) -> int:
    """Return the dearest rate that a token of the prompt can have: written to a cache where that may be."""
    plain = price.rate(("prompt",), prompt_tokens)
    if not request.asks_for_cache and price.model.removeprefix("~").startswith(_ASKED_CACHE_FAMILIES):
        return plain
    written = price.rate(("input_cache_write",), prompt_tokens)
    if written < plain:
        # Some lists name Gemini's storage alone, which comes on top of the prompt's own price.
        written = plain + written if price.model.removeprefix("~").startswith(_STORAGE_FAMILY) else plain
    if request.long_cache:
        written = max(written, price.rate(LONG_CACHE_RATES, prompt_tokens), int(plain * _LONG_CACHE_PREMIUM))
    return written


def _output_ceiling(request: ChatRequest, price: Price) -> int | None:
    """Return the most output tokens one answer can have: the caller's ceiling, the provider's, the context's."""
    if not request.has_output:
        return 0
    if request.max_tokens is None or not price.obeys_ceiling:
        return price.max_completion_tokens or price.context_length
    asked = request.max_tokens
    if request.thinking_tokens >= asked:
        # Whoever lets that through has to raise the ceiling by the budget.
        asked += request.thinking_tokens
    return _at_most(price.context_length, asked)


def _at_most(limit: int | None, tokens: int) -> int:
    return tokens if limit is None else min(limit, tokens)


@lru_cache(4096)
def _own_prompt(model: str) -> int:
    """Return what the providers of a model's family write into the prompt, in tokens."""
    return next((tokens for family, tokens in _OWN_PROMPT_TOKENS_OF_FAMILY.items() if family in model), 0)


def _capped(price: Price, caps: Mapping[str, int]) -> Price:
    """Return `price` with its base rates lowered to what the caller allows a provider to ask for.

    Tiers for long prompts stay: a provider is chosen by its base price.
    """
    if not caps:
        return price
    base = price.tiers[0].rates
    lowered = {
        name: min(rate, limit) if (limit := _cap_of(name, caps)) is not None else rate for name, rate in base.items()
    }
    return replace(price, tiers=(Tier(0, lowered), *price.tiers[1:]))


def _cap_of(name: str, caps: Mapping[str, int]) -> int | None:
    """Return the most the named rate can be under the caller's `max_price`, None when that does not bound it."""
    if name == "input_cache_write" and "prompt" in caps:
        return int(caps["prompt"] * _CACHE_WRITE_PREMIUM)
    if name == "input_cache_write_1h" and "prompt" in caps:
        return int(caps["prompt"] * _LONG_CACHE_PREMIUM)
    return caps.get(name)


def _price_from_caps(model: str, caps: Mapping[str, int]) -> Price | None:
    """Return a price for a model that has none, when the caller bounds both its prompt and its completion.

    A router's own fees are bounded by neither.
    """
    if not caps.keys() >= {"prompt", "completion"} or searches_by_itself(model) or model.startswith("openrouter/"):
        return None
    names = ("prompt", "completion", "request", "image", "input_cache_write", "input_cache_write_1h")
    rates = {name: cap for name in names if (cap := _cap_of(name, caps)) is not None}
    long = Tier(_LONG_PROMPT_TOKENS, {name: 2 * rate for name, rate in rates.items()})
    return Price(model, (Tier(0, rates), long), None, None, obeys_ceiling(model, None))


def _max_price(document: Mapping[str, object]) -> Mapping[str, int]:
    """Read `provider.max_price` leniently: USD per million tokens, USD for each request and image; the rest is ignored.

    Reading request and image per unit, not per million, can only leave the bound higher.
    """
    provider = document.get("provider")
    listed = provider.get("max_price") if isinstance(provider, dict) else None
    if not isinstance(listed, dict):
        return {}
    units = {"prompt": 1_000_000, "completion": 1_000_000, "request": 1, "image": 1}
    given = ((name, usd_amount(_plain(listed.get(name))), unit) for name, unit in units.items())
    return {name: -(-zepto_from_usd(usd) // unit) for name, usd, unit in given if usd is not None}


def _plain(limit: object) -> object:
    """Return a limit that everybody reads as the same number, else None: one that OpenRouter ignores bounds nothing."""
    return limit if not isinstance(limit, str) or _PLAIN_NUMBER.fullmatch(limit) else None
