"""The price list and the worst case: never below what OpenRouter can charge at its list price."""

import json
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger.worst_case import WorstCase
from gateway.metered.body import ChatRequest
from gateway.metered.media import MOST_IMAGE_TOKENS
from gateway.metered.pricing import MAX_AGE_MS, estimate_nano, worst_case
from gateway.money import MAX_NANO
from gateway.openrouter.dialects import Dialect
from gateway.openrouter.usage import Usage
from tests.gateway.listed import SONNET, bound, chat, entry, prices, unbounded


def test_a_worst_case_is_prompt_bytes_and_output_ceiling_at_list_price() -> None:
    """1 USD a million in, 2 USD a million out: a thousand nano-USD a byte, two thousand a token."""
    request = chat(max_tokens=100, n=3)

    found = bound(request, entry())

    assert found == WorstCase(request.weight.bytes * 1000, 2000 * 3 * 10**12, 100)
    assert found.total_nano == request.weight.bytes * 1000 + 600_000


def test_a_fraction_of_a_nano_is_rounded_up_once() -> None:
    """Prices are exact to 1e-21 USD; only the sum is rounded."""
    worst = WorstCase(5, 37_500_000_000, 27)

    assert worst.total_nano == 5 + 2
    assert worst.cost_nano(26) == 5 + 1
    assert bound(chat(max_tokens=1000), entry(completion="0.0000000000375")).per_token_zepto == 37_500_000_000


def test_a_worst_case_stays_within_what_redis_can_count() -> None:
    """Absurd ceilings at absurd prices are held at the largest amount there is."""
    found = bound(chat(max_tokens=10_000_000, n=128), entry(context=None, completion="99"))

    assert found.total_nano == MAX_NANO


@pytest.mark.parametrize(
    ("asked", "output", "context", "expected"),
    [(50, 64, 100, 50), (None, 64, 100, 64), (None, None, 100, 100), (500, 64, 100, 100), (500, 64, None, 500)],
)
def test_the_output_ceiling_is_the_callers_the_providers_or_the_contexts(
    asked: int | None, output: int | None, context: int | None, expected: int
) -> None:
    """A caller's ceiling above the context cannot be reached."""
    assert bound(chat(max_tokens=asked), entry(context=context, output=output)).max_tokens == expected


def test_without_any_ceiling_there_is_no_bound() -> None:
    """If neither the caller nor the list states a ceiling, there is no bound."""
    assert unbounded(chat(), entry(context=None))


def test_embeddings_cost_their_prompt_alone() -> None:
    """No output token is held for an answer that has none."""
    request = chat(dialect=Dialect.EMBEDDINGS)

    assert bound(request, entry(context=None)) == WorstCase(request.weight.bytes * 1000, 0, 0)


def test_the_context_bounds_each_input_of_a_batch_by_itself() -> None:
    """A thousand texts of a context's length are embedded in one request."""
    request = ChatRequest.parse(json.dumps({"model": "a/b", "input": ["x" * 900] * 50}).encode(), Dialect.EMBEDDINGS)

    assert bound(request, entry(context=500)).fixed_nano == 50 * 500_000


def test_the_context_bounds_the_prompt() -> None:
    """More tokens than the context holds are refused upstream, so they are never billed."""
    assert bound(chat("x" * 5000, max_tokens=1), entry(context=700)).fixed_nano == 700_000


def test_a_long_prompts_price_is_held_only_when_the_prompt_can_be_long() -> None:
    """`min_prompt_tokens` is strictly greater than; a window of the day may always apply."""
    model = {"id": "a/b", "context_length": 10**6, "pricing": {"prompt": "0.000001", "completion": "0.000002"}}
    request = chat(max_tokens=1)
    exact = request.weight.bytes
    override = {"prompt": "0.000005", "completion": "0.000009"}

    def held(**condition: object) -> int:
        pricing = {**cast(dict[str, object], model["pricing"]), "overrides": [{**override, **condition}]}
        return bound(request, {**model, "pricing": pricing}).total_nano

    assert held(min_prompt_tokens=exact) == exact * 1000 + 2000
    assert held(min_prompt_tokens=exact - 1) == exact * 5000 + 9000
    assert held(utc_start="2200", utc_end="0400") == exact * 5000 + 9000


def test_a_cheaper_override_never_lowers_the_hold() -> None:
    """It may not apply: the dearest that can is held."""
    cheap = [{"prompt": "0", "completion": "0"}]

    assert bound(chat(max_tokens=1), entry(overrides=cheap)) == bound(chat(max_tokens=1), entry())


CACHED = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}


def cached(model: str = "a/b", **control: str) -> ChatRequest:
    part = {**CACHED, "cache_control": {"type": "ephemeral", **control}}
    return chat(model=model, max_tokens=1, messages=[{"role": "user", "content": [part]}])


def test_cache_writes_raise_the_prompt_where_the_body_asks_for_them() -> None:
    """For five minutes or, at another price, for an hour."""
    model = str(SONNET["id"])
    plain, five, hour = chat(model=model, max_tokens=1), cached(model), cached(model, ttl="1h")

    assert bound(plain, SONNET).fixed_nano == plain.weight.bytes * 3000
    assert bound(five, SONNET).fixed_nano == five.weight.bytes * 3750
    assert bound(hour, SONNET).fixed_nano == hour.weight.bytes * 6000


@pytest.mark.parametrize(
    "fields",
    [
        {"cache_control": {"type": "ephemeral"}},
        {"prompt_cache_options": {"mode": "explicit"}},
        {"tools": [{"type": "function", "function": {"name": "a"}, "cache_control": None}]},
        {"messages": [{"role": "tool", "content": [{"type": "text", "prompt_cache_breakpoint": {}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [CACHED]}]}]},
    ],
)
def test_every_way_to_ask_for_a_cache_is_seen(fields: dict[str, Any]) -> None:
    """OpenRouter translates one dialect's cache mark into another's, at any place in the body."""
    request = chat(model=str(SONNET["id"]), **{"max_tokens": 1, **fields})

    assert bound(request, SONNET).fixed_nano == request.weight.bytes * 3750


@pytest.mark.parametrize("model", ["openai/gpt-5.6", "somebody/new"])
def test_a_family_that_may_write_by_itself_is_held_at_that_price(model: str) -> None:
    """GPT bills automatic cache writes from 5.6 on; for other families it is not known."""
    request = chat(model=model, max_tokens=1)

    assert bound(request, entry(model, input_cache_write="0.00000125")).fixed_nano == request.weight.bytes * 1250


def test_storage_comes_on_top_where_the_list_names_it_alone() -> None:
    """A write price below the prompt's is Gemini's storage, not a discount."""
    model = "google/gemini-2.5-pro"
    request = cached(model)

    assert bound(request, entry(model, input_cache_write="0.0000003")).fixed_nano == request.weight.bytes * 1300
    assert bound(request, entry(model, input_cache_write="0.0000013")).fixed_nano == request.weight.bytes * 1300
    assert bound(chat(model=model, max_tokens=1), entry(model, input_cache_write="0.0000013")).fixed_nano % 1000 == 0


def test_an_hour_in_the_cache_costs_twice_the_prompt_where_the_list_is_silent() -> None:
    """Older lists name the five-minute price alone."""
    request = cached(ttl="1h")

    assert bound(request, entry(input_cache_write="0.00000125")).fixed_nano == request.weight.bytes * 2000


@pytest.mark.parametrize("name", ["internal_reasoning", "image_output", "audio_output"])
def test_the_dearest_kind_of_output_is_held(name: str) -> None:
    """Any output token may turn out to be of that kind."""
    model = entry()
    model["pricing"] = {"prompt": "0.000001", "completion": "0.000002", name: "0.00004"}

    found = bound(chat(max_tokens=10), model)

    assert found.per_token_zepto == 40_000 * 10**12


def test_a_price_per_request_counts_once() -> None:
    """Search models take 35 thousandths of a dollar each time."""
    plain = bound(chat(max_tokens=1), entry())

    assert bound(chat(max_tokens=1), entry(request="0.035")).fixed_nano == plain.fixed_nano + 35_000_000


def test_an_image_is_held_at_its_price_or_at_its_tokens() -> None:
    """Whichever is dearer, and never more tokens than the context holds."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,x"}}
    request = chat(max_tokens=1, messages=[{"role": "user", "content": [image, image]}])
    text = request.weight.bytes * 1000

    assert bound(request, entry(context=10**6)).fixed_nano == text + 2 * MOST_IMAGE_TOKENS * 1000
    assert bound(request, entry(context=10_000)).fixed_nano == 10_000 * 1000
    assert bound(request, entry(context=10**6, image="0.5")).fixed_nano == text + 1_000_000_000
    assert (
        bound(request, entry(context=10**6, image_token="0.001")).fixed_nano == text + 2 * MOST_IMAGE_TOKENS * 1_000_000
    )


def test_the_dearest_of_model_and_fallbacks_is_held() -> None:
    """Any of them may answer; one without a price leaves the request without a bound."""
    request = chat(max_tokens=10, models=["c/d"])
    found = bound(request, entry(prompt="0.000009"), entry("c/d", completion="0.00005"))

    assert found == WorstCase(request.weight.bytes * 9000, 50_000 * 10**12, 10)
    assert unbounded(request, entry())


def test_nitro_may_be_answered_from_a_dearer_tier() -> None:
    """Nothing but the caller's own limit bounds it."""
    limits = {"max_price": {"prompt": 3, "completion": 5}}

    assert unbounded(chat(model="a/b:nitro", max_tokens=10), entry())
    assert bound(chat(model="a/b:nitro", max_tokens=10, provider=limits), entry()).per_token_zepto == 5000 * 10**12


def test_a_budget_for_reasoning_is_neither_cut_nor_forgotten() -> None:
    """A ceiling within it is refused upstream: so the request is not shortened to one."""
    within = bound(chat(max_tokens=5000, reasoning={"max_tokens": 2000}), entry())
    beyond = bound(chat(max_tokens=100, reasoning={"max_tokens": 2000}), entry())

    assert (within.max_tokens, within.least_tokens) == (5000, 3024)
    assert (beyond.max_tokens, beyond.least_tokens) == (2100, 2100)


def test_a_request_without_any_ceiling_is_shortened_to_a_usual_one() -> None:
    """OpenRouter skips providers whose ceiling is below the requested one."""
    assert bound(chat(), entry(context=10**6)).usual_tokens == 32_768
    assert bound(chat(), entry(context=10**6, output=64_000)).usual_tokens is None
    assert bound(chat(max_tokens=50_000), entry(context=10**6)).usual_tokens is None


@pytest.mark.parametrize(
    ("model", "prompt_bytes", "billed"),
    [
        ("mistralai/devstral-small-2505", 288, 1234),
        ("mistralai/mistral-small-3.2-24b-instruct", 261, 561),
        ("meta-llama/llama-3.3-70b-instruct", 262, 956),
        ("x-ai/grok-4", 235, 687),
    ],
)
def test_a_providers_own_system_prompt_is_held_too(model: str, prompt_bytes: int, billed: int) -> None:
    """Recorded: what the body weighed, and what was billed."""
    request = chat(model=model, max_tokens=1)
    request.weight.bytes = prompt_bytes

    assert bound(request, entry(model)).fixed_nano >= billed * 1000


def test_an_old_or_absent_list_and_open_ended_work_have_no_bound() -> None:
    """All that is left is held then."""
    listed = prices(entry())

    assert worst_case(chat(max_tokens=1), listed, now_ms=MAX_AGE_MS) is not None
    assert worst_case(chat(max_tokens=1), listed, now_ms=MAX_AGE_MS + 1) is None
    assert worst_case(chat(max_tokens=1), None, now_ms=0) is None
    assert worst_case(chat(max_tokens=1, plugins=[{"id": "web"}]), listed, now_ms=0) is None


def limited(**max_price: object) -> ChatRequest:
    return chat(max_tokens=10, provider={"max_price": max_price})


def test_max_price_lowers_the_bound_and_never_raises_it() -> None:
    """It is USD per million tokens, as a number or a numeric string."""
    request = limited(prompt=0.5, completion="1.5")
    high = limited(prompt=100, completion=100)

    assert bound(request, entry()) == WorstCase(request.weight.bytes * 500, 1500 * 10**12, 10)
    assert bound(high, entry()) == WorstCase(high.weight.bytes * 1000, 2000 * 10**12, 10)


def test_max_price_bounds_a_model_without_a_price() -> None:
    """When it names prompt and completion; cache writes cost a quarter more than the plain price it names."""
    request = limited(prompt=4, completion=8)

    assert bound(request) == WorstCase(request.weight.bytes * 5000, 8000 * 10**12, 10)
    assert unbounded(limited(prompt=4))
    assert unbounded(limited(completion=4))
    assert unbounded(chat(model="openrouter/auto", max_tokens=1, provider=request.document["provider"]))


def test_max_price_allows_for_the_tier_of_long_prompts() -> None:
    """Where nothing is listed it is taken to cost twice as much."""
    request = limited(prompt=4, completion=8)
    request.weight.bytes = 128_001

    assert bound(request) == WorstCase(128_001 * 10_000, 16_000 * 10**12, 10)


def test_max_price_leaves_the_tier_for_long_prompts() -> None:
    """A provider is chosen by its base price, and then bills its own tiers."""
    request = limited(prompt=0.5)
    override = [{"min_prompt_tokens": 1, "prompt": "0.000003"}]

    assert bound(request, entry(overrides=override)).fixed_nano == request.weight.bytes * 3000


@pytest.mark.parametrize(
    "bad",
    [
        None, 7, [], {"prompt": -1}, {"prompt": "x"}, {"prompt": {}}, {"prompt": True}, {"completion": "0_0"},
        {"completion": "\uff10"}, {"completion": " 0 "}, {"completion": "0e0"},
    ],
)  # fmt: skip
def test_a_max_price_that_cannot_be_read_is_ignored(bad: object) -> None:
    """It is OpenRouter's to refuse."""
    assert bound(chat(max_tokens=1, provider={"max_price": bad}), entry()).per_token_zepto == 2000 * 10**12


def test_an_estimate_uses_stated_tokens_and_plain_prices() -> None:
    """If token counts are stated, cache premiums and bytes are ignored."""
    request = chat(model="anthropic/claude-sonnet-4", max_tokens=1)

    assert (
        estimate_nano(request, prices(SONNET), completion_bytes=999, usage=Usage(None, 10, 20, is_byok=False))
        == 330_000
    )
    assert (
        estimate_nano(request, prices(SONNET), completion_bytes=0, usage=Usage(None, 200_001, 0, is_byok=False))
        == 200_001 * 6000
    )


def test_an_estimate_from_bytes_takes_four_for_a_token() -> None:
    """And never more output than the request allowed."""
    request = chat(max_tokens=10, n=2)
    prompt = -(-request.weight.bytes // 4) * 1000

    assert estimate_nano(request, prices(entry()), completion_bytes=9) == prompt + 3 * 2000
    assert estimate_nano(request, prices(entry()), completion_bytes=9000) == prompt + 20 * 2000


def test_an_estimate_without_a_price_takes_the_dearest() -> None:
    """Of the list, or a constant without one: what was spent is not understated."""
    request = chat(model="x/y", max_tokens=10)
    listed = prices(entry(prompt="0.00001"), entry("c/d", completion="0.00002"))

    assert estimate_nano(request, listed, completion_bytes=0, usage=Usage(None, 1, 1, is_byok=False)) == 30_000
    assert estimate_nano(request, None, completion_bytes=0, usage=Usage(None, 1, 1, is_byok=False)) == 750_000
    assert estimate_nano(request, prices(), completion_bytes=0, usage=Usage(None, 1, 1, is_byok=False)) == 750_000


def test_an_estimate_uses_an_old_list_too() -> None:
    """An old price is nearer to the truth than the dearest."""
    assert estimate_nano(chat(), prices(entry()), completion_bytes=0, usage=Usage(None, 1, 0, is_byok=False)) == 1000


@settings(max_examples=200, deadline=None)
@given(
    prompt=st.integers(min_value=0, max_value=2_000_000),
    cached=st.integers(min_value=0, max_value=100),
    output=st.integers(min_value=0, max_value=5000),
)
def test_no_charge_by_the_list_is_above_the_worst_case(prompt: int, cached: int, output: int) -> None:
    """The hold covers any share of cache writes and any number of output tokens up to the ceiling."""
    request = chat("x" * (prompt // 10), model="anthropic/claude-sonnet-4", max_tokens=max(1, output), system=[CACHED])
    tokens = min(request.weight.bytes, 1_000_000)
    written = tokens * cached // 100
    long = 2 if tokens > 200_000 else 1
    charge = (tokens - written) * Decimal(3000) * long + written * Decimal(3750) * long
    charge += output * Decimal(15_000) * (Decimal("1.5") if long == 2 else 1)

    assert charge <= bound(request, SONNET).total_nano


def test_an_estimate_counts_what_a_cache_gave_and_took_at_its_rates() -> None:
    """Read at a tenth of the prompt's price, written at five quarters of it; the rest is plain."""
    usage = Usage(None, 1000, 0, is_byok=False, cached_tokens=600, written_tokens=300)
    plain = Usage(None, 1000, 0, is_byok=False)
    request = chat(model=str(SONNET["id"]))
    assert estimate_nano(request, prices(SONNET), completion_bytes=0, usage=plain) == 1000 * 3000
    assert (
        estimate_nano(request, prices(SONNET), completion_bytes=0, usage=usage) == 100 * 3000 + 600 * 300 + 300 * 3750
    )
    # A model without cache rates uses its plain rate, and cached counts above the prompt give no discount.
    odd = Usage(None, 10, 0, is_byok=False, cached_tokens=600)
    assert estimate_nano(chat(), prices(entry()), completion_bytes=0, usage=odd) == 600 * 1000
