"""OpenRouter's price list: its models with their rates, tiers and limits. Immutable.

An unreadable entry, or one whose price is stated as unknown (`-1`), is left out, so its model has no bound.
Rates are whole zepto-USD (1e-21), so that a per-token price is exact.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Self

ZEPTO_PER_USD = 10**21

# Families that do not count reasoning towards `max_tokens`: Grok 3 Mini was billed 417 tokens of 50, Seed 1.6 142 of 10
# (recorded).
_DEAF_FAMILIES = ("x-ai/", "bytedance-seed/")

# The dearest model family that OpenRouter has listed (o1-pro), USD per token: for an estimate without a list.
_DEAREST_PROMPT = Decimal("0.00015")
_DEAREST_COMPLETION = Decimal("0.0006")

_EXACT = Context(prec=60)
_ROUTING_SUFFIXES = (":nitro", ":floor", ":exacto")
# Models that search by themselves: each search is billed, and no field of the request bounds their number.
_SELF_SEARCHING = ("perplexity/", "deep-research", "-search")

_LONGEST_NAME = 100  # characters; a longer one is not a typing error, and comparing takes quadratic time
_NEAR = 0.8  # a ratio: typing errors (gpt-4o-mimi, claude-3-5-sonnet) are above, two models of a family mostly below

_COMPLETION_RATES = ("completion", "internal_reasoning", "image_output", "audio_output")
_RATES = (
    *("prompt", "input_cache_write", "input_cache_write_1h", "input_cache_read"),
    *(*_COMPLETION_RATES, "request", "image", "image_token", "web_search"),
)


@dataclass(frozen=True, slots=True)
class Tier:
    """Rates in zepto-USD that may apply to prompts longer than `above_tokens` (0: to all)."""

    above_tokens: int
    rates: Mapping[str, int]

    def dearest(self, names: Iterable[str]) -> int:
        """Return the highest of the named rates, 0 if none is listed."""
        return max((self.rates.get(name, 0) for name in names), default=0)


@dataclass(slots=True)  # not frozen, because that makes each of its fields cost a call
class Rates:
    """The rates that a request may be billed at, in zepto-USD, 0 if not listed. Immutable.

    `output`: the dearest of a completion's rates, with those of reasoning and media.
    """

    prompt: int
    cache_write: int
    cache_write_1h: int
    cache_read: int
    completion: int
    output: int
    request: int
    image: int
    image_token: int


@dataclass(frozen=True, slots=True)
class Price:
    """One model of the list: its rates by tier (the first always applies), and its token limits.

    `obeys_ceiling`: the request's ceiling bounds its output.
    """

    model: str
    tiers: tuple[Tier, ...]
    context_length: int | None
    max_completion_tokens: int | None
    obeys_ceiling: bool = True
    _steps: list[tuple[int, Rates]] = field(default_factory=list, init=False, repr=False, compare=False)

    def rates(self, prompt_tokens: int) -> Rates:
        """Return the dearest rates over every tier that a prompt of up to `prompt_tokens` can reach."""
        if not self._steps:
            limits = sorted({tier.above_tokens for tier in self.tiers}, reverse=True)
            self._steps.extend((limit, _dearest_rates(self.tiers, limit)) for limit in limits)
        for above_tokens, rates in self._steps:
            if prompt_tokens > above_tokens:
                return rates
        return self._steps[-1][1]  # those of an empty prompt


def _dearest_rates(tiers: Iterable[Tier], limit: int) -> Rates:
    reached = [tier for tier in tiers if tier.above_tokens <= limit]

    def dearest(*names: str) -> int:
        return max(tier.dearest(names) for tier in reached)

    return Rates(
        prompt=dearest("prompt"),
        cache_write=dearest("input_cache_write"),
        cache_write_1h=dearest("input_cache_write_1h"),
        cache_read=dearest("input_cache_read"),
        completion=dearest("completion"),
        output=dearest(*_COMPLETION_RATES),
        request=dearest("request"),
        image=dearest("image"),
        image_token=dearest("image_token"),
    )


class PriceList:
    """OpenRouter's `/models`, immutable: prices by id and by canonical slug. An unusable entry is left out."""

    def __init__(self, prices: Mapping[str, Price], *, fetched_ms: int) -> None:
        self._prices = prices
        self.fetched_ms = fetched_ms
        bases = [price.tiers[0] for price in prices.values()]
        self.dearest_prompt = max((base.rates["prompt"] for base in bases), default=zepto_from_usd(_DEAREST_PROMPT))
        self.dearest_completion = max(
            (base.dearest(_COMPLETION_RATES) for base in bases), default=zepto_from_usd(_DEAREST_COMPLETION)
        )

    @classmethod
    def parse(cls, raw: bytes, *, fetched_ms: int) -> Self:
        """Parse the JSON of `/models`. Raises ValueError if it has no list of models."""
        try:
            document = json.loads(raw)
        except RecursionError:
            raise ValueError("the price list is nested too deeply") from None
        listed = document.get("data") if isinstance(document, dict) else None
        if not isinstance(listed, list):
            raise ValueError("the price list has no `data` list")
        prices: dict[str, Price] = {}
        slugs: dict[str, list[Price]] = {}
        for entry in listed:
            if isinstance(entry, dict) and (price := _price(entry)) is not None:
                prices[price.model] = price
                if isinstance(slug := entry.get("canonical_slug"), str):
                    slugs.setdefault(slug, []).append(price)
        # A free variant and its model share one slug, which may mean either.
        return cls({slug: _dearest(shared) for slug, shared in slugs.items()} | prices, fetched_ms=fetched_ms)

    def __len__(self) -> int:
        return len(self._prices)

    def find(self, model: str) -> Price | None:
        """Return the price of an id, a canonical slug, or the base of `:nitro`, `:floor`, `:exacto`; else None."""
        found = self._prices.get(model)
        if found is None:
            for suffix in _ROUTING_SUFFIXES:
                if model.endswith(suffix):
                    return self._prices.get(model.removesuffix(suffix))
        return found

    def did_you_mean(self, model: str) -> str:
        """Return " (did you mean …?)" with up to three listed models for an unlisted one; "" if none is similar.

        Similar: the same name with an author, else a close match. It takes milliseconds, so it is for refusals only.
        """
        if self.find(model) is not None or len(model) > _LONGEST_NAME:
            return ""
        asked = model.lower()
        name = asked.rpartition("/")[2]
        near = [listed for listed in self._prices if listed.rpartition("/")[2] == name]
        if not near:
            named = {listed if "/" in asked else listed.rpartition("/")[2]: listed for listed in self._prices}
            near = [named[close] for close in get_close_matches(asked, named, cutoff=_NEAR)]
        return f" (did you mean {' or '.join(near[:3])}?)" if near else ""


def _price(entry: Mapping[str, object]) -> Price | None:
    """Parse one entry of the list; None if it is unusable or its price is stated as unknown (`-1`)."""
    model, pricing = entry.get("id"), entry.get("pricing")
    if not isinstance(model, str) or not isinstance(pricing, dict):
        return None
    base = _rates(pricing)
    if base is None or not base.keys() >= {"prompt", "completion"} or _is_unbounded(entry, model, base):
        return None
    overrides = pricing.get("overrides")
    if overrides is not None and not isinstance(overrides, list):
        return None
    tiers = [Tier(0, base)]
    for override in overrides or []:
        if (tier := _tier(override)) is None:
            return None
        tiers.append(tier)
    provider = entry.get("top_provider")
    top = provider if isinstance(provider, dict) else {}
    return Price(
        model,
        tuple(tiers),
        _limit(entry.get("context_length")),
        _limit(top.get("max_completion_tokens")),
        obeys_ceiling(model, entry.get("supported_parameters")),
    )


def obeys_ceiling(model: str, parameters: object) -> bool:
    """Return whether `max_tokens` bounds a model's output. `parameters`: those it supports, None if unknown."""
    reasons = "reasoning" in parameters if isinstance(parameters, list) else True
    return not (reasons and model.removeprefix("~").startswith(_DEAF_FAMILIES))


def _dearest(shared: list[Price]) -> Price:
    """Return a price that is at least as high as each of several."""
    if len(shared) == 1:
        return shared[0]
    bases = [price.tiers[0].rates for price in shared]
    base = {
        name: max(rates.get(name, 0) for rates in bases) for name in _RATES if any(name in rates for rates in bases)
    }
    contexts = [price.context_length for price in shared]
    outputs = [price.max_completion_tokens for price in shared]
    return Price(
        shared[0].model,
        (Tier(0, base), *(tier for price in shared for tier in price.tiers[1:])),
        None if None in contexts else max(each for each in contexts if each is not None),
        None if None in outputs else max(each for each in outputs if each is not None),
        all(price.obeys_ceiling for price in shared),
    )


def _is_unbounded(entry: Mapping[str, object], model: str, base: Mapping[str, int]) -> bool:
    """Return whether the model bills work without a listed token rate: its own searches, media."""
    if base.get("web_search") and searches_by_itself(model):
        return True
    architecture = entry.get("architecture")
    listed = architecture.get("output_modalities") if isinstance(architecture, dict) else None
    outputs = listed if isinstance(listed, list) else []
    return any(name in outputs and f"{name}_output" not in base for name in ("image", "audio", "video"))


def searches_by_itself(model: str) -> bool:
    return any(mark in model for mark in _SELF_SEARCHING)


def _tier(override: object) -> Tier | None:
    """Parse one override. One for a time of day counts as always, as a request may wait or run into it."""
    if not isinstance(override, dict):
        return None
    rates = _rates(override)
    above = override.get("min_prompt_tokens", 0)
    if rates is None or not isinstance(above, int) or isinstance(above, bool) or above < 0:
        return None
    return Tier(above, rates)


def _rates(listed: Mapping[str, object]) -> dict[str, int] | None:
    """Parse the rates by name; None if one of them is `-1` or not a price."""
    rates: dict[str, int] = {}
    for name in _RATES:
        if (value := listed.get(name)) is None:
            continue
        amount = usd_amount(value)
        if amount is None:
            return None
        rates[name] = zepto_from_usd(amount)
    return rates


def usd_amount(value: object) -> Decimal | None:
    """Return a price in USD, or None for an invalid one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    if not amount.is_finite() or amount < 0:
        return None
    # Bounds the exponent before any digit is written out.
    return amount if amount == 0 or amount.adjusted() < 12 else None


def zepto_from_usd(usd: Decimal) -> int:
    """Return USD as whole zepto-USD, rounded up."""
    return int(_EXACT.multiply(usd, ZEPTO_PER_USD).to_integral_value(rounding=ROUND_CEILING))


def _limit(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
