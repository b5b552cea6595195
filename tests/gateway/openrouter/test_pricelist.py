"""OpenRouter's price list: what can be read counts, what cannot has no price."""

import pytest

from gateway.ledger.worst_case import WorstCase
from gateway.openrouter.pricelist import PriceList
from tests.gateway.listed import SONNET, bound, chat, entry, prices, unbounded


@pytest.mark.parametrize("model", ["a/b:nitro", "a/b:floor", "a/b:exacto"])
def test_a_routing_suffix_has_the_price_of_its_base(model: str) -> None:
    """They choose a provider, not another model."""
    assert prices(entry()).find(model) == prices(entry()).find("a/b")


def test_a_slug_that_several_models_share_has_the_dearest_price() -> None:
    """A free variant is listed beside its model, and the slug may mean either."""
    shared = {"canonical_slug": "a/b-2026"}
    free = {**entry("a/b:free", context=5000, output=100, prompt="0", completion="0"), **shared}
    full = {**entry("a/b", context=9000, overrides=[{"min_prompt_tokens": 0, "prompt": "0.000004"}]), **shared}
    request = chat(model="a/b-2026")

    for listed in ([free, full], [full, free]):
        assert bound(request, *listed) == WorstCase(
            request.weight.bytes * 4000, 2000 * 10**12, 9000, usual_tokens=32_768
        )
    assert bound(chat(model="a/b:free"), free, full).total_nano == 0


def test_a_model_is_found_by_id_or_canonical_slug_and_by_nothing_else() -> None:
    """Other suffixes are models of their own, with an entry or without a price."""
    found = prices(SONNET)

    assert found.find("anthropic/claude-4-sonnet-20250522") is found.find("anthropic/claude-sonnet-4") is not None
    assert found.find("anthropic/claude-sonnet-4:thinking") is None
    assert found.find("openai/gpt-5") is None


@pytest.mark.parametrize(
    "broken",
    [
        None, 7, {}, {"id": "a/b"}, {"id": 7, "pricing": {"prompt": "0", "completion": "0"}},
        {"id": "a/b", "pricing": []},
        entry(prompt="-1"), entry(completion="-1"), entry(request="-1"), entry(prompt="x"), entry(prompt="NaN"),
        entry(prompt=None), entry(prompt="1e999999999"), entry(prompt=True), entry(overrides="x"),
        entry(overrides=[7]), entry(overrides=[{"prompt": "-1"}]), entry(overrides=[{"min_prompt_tokens": "9"}]),
    ],
)  # fmt: skip
def test_an_unusable_entry_is_left_out(broken: object) -> None:
    """Router models cost `-1`; what cannot be read has no price; the rest of the list holds."""
    found = prices(broken, entry("c/d"))

    assert found.find("a/b") is None
    assert found.find("c/d") is not None


def test_what_the_list_adds_tomorrow_does_no_harm() -> None:
    """Unknown rates and the discount, which only lowers, are not read."""
    assert bound(chat(max_tokens=1), entry(discount=0.5, tomorrow={"a": 1})) == bound(chat(max_tokens=1), entry())


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"data":{}}', b"<html>", b"\xff", b"[" * 100_000])
def test_a_list_without_data_is_refused(raw: bytes) -> None:
    """The old list then stays in use."""
    with pytest.raises(ValueError):
        PriceList.parse(raw, fetched_ms=0)


@pytest.mark.parametrize("model", ["perplexity/sonar", "openai/o4-mini-deep-research", "openai/gpt-4o-search-preview"])
def test_a_model_that_searches_by_itself_has_no_bound(model: str) -> None:
    """Each search is billed, and their number has no limit."""
    assert unbounded(chat(model=model, max_tokens=1), entry(model, web_search="0.005"))


def test_a_model_that_makes_pictures_without_a_rate_for_them_has_no_bound() -> None:
    """Its pictures are billed by something the list does not name."""
    model = {**entry(), "architecture": {"output_modalities": ["text", "image"]}}

    assert unbounded(chat(max_tokens=1), model)


def test_a_model_that_does_not_count_its_reasoning_has_the_lists_ceiling() -> None:
    """Grok was billed 417 tokens of 50: the caller's ceiling bounds nothing, and no shorter one would."""
    request = chat(model="x-ai/grok-4", max_tokens=50)
    thinking = {**entry("x-ai/grok-4", output=8000), "supported_parameters": ["reasoning", "max_tokens"]}
    plain = {**entry("x-ai/grok-4", output=8000), "supported_parameters": ["max_tokens"]}

    found = bound(request, thinking)
    assert (found.max_tokens, found.least_tokens) == (8000, None)
    assert (bound(request, plain).max_tokens, bound(request, plain).least_tokens) == (50, 16)
    assert bound(chat(model="x-ai/grok-4", models=["a/b"], max_tokens=50), thinking, entry()).least_tokens is None


@pytest.mark.parametrize(
    ("model", "question"),
    [
        ("gpt-4o-mini", " (did you mean openai/gpt-4o-mini?)"),
        ("GPT-4o-mini", " (did you mean openai/gpt-4o-mini?)"),
        ("azure/gpt-4o-mini", " (did you mean openai/gpt-4o-mini?)"),
        ("openai/gpt-4o-mimi", " (did you mean openai/gpt-4o-mini?)"),
        ("claude-3-5-sonnet", " (did you mean anthropic/claude-3.5-sonnet?)"),
        ("large", " (did you mean a/large or b/large?)"),
        ("openai/gpt-4o-mini", ""),
        ("openai/gpt-4o-mini:nitro", ""),
        ("something-else", ""),
        ("gpt-4o-mini" * 20, ""),
        ("", ""),
    ],
)
def test_a_model_that_is_not_listed_is_asked_about(model: str, question: str) -> None:
    """The same name under an author, else a similar one; a listed model and a far one ask nothing."""
    listed = [entry(each) for each in ("openai/gpt-4o-mini", "anthropic/claude-3.5-sonnet", "a/large", "b/large")]
    assert prices(*listed).did_you_mean(model) == question
