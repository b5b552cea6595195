"""Every row of the model table answers, is listed in OpenRouter's format, and is documented."""

from pathlib import Path
from typing import Any

import pytest

from gateway.money import nano_from_usd
from simulator.variants import MODELS, ModelPrice, find_variant, listed_variants, model_entry
from simulator.wire import FOREVER_MS
from tests.simulator.asking import ask, document, usages


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", [variant.name for variant in listed_variants()])
def test_every_listed_model_answers(name: str, stream: bool) -> None:
    """Each row answers in both forms, twice the same, and a stated cost is the billed one."""
    answer = ask(name, stream=stream)
    chunks = list(answer.chunks)
    assert chunks == list(answer.chunks)
    if answer.status != 200 or answer.cut or chunks[-1].pause_ms == FOREVER_MS:
        return
    usage = usages(answer)[-1:] if stream else [document(answer).get("usage")]
    for stated in usage:
        if isinstance(stated, dict) and stated.get("cost") is not None and not answer.is_byok:
            assert nano_from_usd(stated["cost"]) == answer.cost_nano
            assert stated["completion_tokens"] == answer.completion_tokens == sum(chunk.tokens for chunk in chunks)


def test_the_model_list_has_the_recorded_fields() -> None:
    """Prices are strings; -1, request prices and overrides stand where OpenRouter has them."""
    entries: dict[str, Any] = {variant.name: model_entry(variant) for variant in listed_variants()}
    assert entries["openrouter/auto"]["pricing"] == {"prompt": "-1", "completion": "-1"}
    assert entries["openai/gpt-4o-search-preview"]["pricing"]["request"] == "0.035"
    overrides = entries["anthropic/claude-sonnet-4"]["pricing"]["overrides"]
    assert overrides == [{"min_prompt_tokens": 200_000, "prompt": "0.000006", "completion": "0.0000225"}]
    assert len(entries) == len(list(listed_variants()))


@pytest.mark.parametrize(
    "name", ["nobody/nothing", "sandbox/slow-", "sandbox/long-0", "sandbox/price-1e9", "sandbox/price-", "echo"]
)
def test_an_unknown_model_is_a_400(name: str) -> None:
    """With OpenRouter's message, including the account id that a proxy must not relay."""
    body = document(ask(name))
    assert body["error"] == {"message": f"{name} is not a valid model ID", "code": 400}
    assert str(body["user_id"]).startswith("user_")


def test_an_overrun_costs_more_than_its_list_price() -> None:
    """For any max_tokens the stated cost is above the worst case."""
    variant = find_variant("sandbox/overrun")
    assert variant is not None
    worst = variant.listed.start_usd(1000) + variant.listed.output_usd(1000, variant.max_completion_tokens)
    assert nano_from_usd(worst) < ask("sandbox/overrun").cost_nano


def test_the_docs_name_every_row() -> None:
    """docs/sandbox.md has one line for each model, with its list price and what it does."""
    lines = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text().splitlines()
    assert [line for line in lines if line.startswith(("| `sandbox/", "| `open", "| `anthropic/"))] == [
        f"| `{model.name}` | {_told(model.price, given=model.given_usd)} | {model.does} |" for model in MODELS
    ]


def _told(price: ModelPrice, *, given: str | None) -> str:
    if given == "<usd>":
        return "the name's, a request"
    request = f", {price.request} a request" if price.request else ""
    overrides = ", overrides" if price.overrides else ""
    return "-1" if price.prompt == "-1" else f"{price.prompt} / {price.completion}{request}{overrides}"


def test_names_are_unique() -> None:
    """No row hides another, and no two families claim one name."""
    names = [model.name for model in MODELS]
    assert len(set(names)) == len(names)
    assert [variant.name for variant in listed_variants() if find_variant(variant.name) != variant] == []


@pytest.mark.parametrize(
    ("name", "pause_ms"), [("sandbox/slow-0", 0), ("sandbox/slow-600000", 600_000), ("sandbox/slow-600001", None)]
)
def test_a_family_has_bounds(name: str, pause_ms: int | None) -> None:
    """A variant with a parameter out of range is an unknown model."""
    variant = find_variant(name)
    assert (variant.pause_ms if variant else None) == pause_ms
