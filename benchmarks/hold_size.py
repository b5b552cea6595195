"""What real prompts cost, are expected to cost, and can cost at most: `python -m benchmarks.hold_size`.

For each prompt and model: how many fit at once into a cap of $5, and how much of it can be used one after the other.
Real tokens are those of the model's own tokenizer where it can be had (see benchmarks/token_margins.py for how), else
o200k's; all of the output ceiling is used. WRITE=1 puts the table into docs/expected.md.
"""

import asyncio
import base64
import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from benchmarks.corpus import corpus
from benchmarks.token_margins import counted
from gateway.ledger.worst_case import WorstCase
from gateway.metered.body import ChatRequest
from gateway.metered.expected import expected_case
from gateway.metered.pricing import worst_case
from gateway.openrouter.pricelist import PriceList

CAP_NANO = 5 * 10**9
# The real cost, at most, of a row that must not be refused while its expected amount fits.
SMALL_NANO = 500_000_000
# The goal for English, code and JSON: expected amount divided by real cost.
MOST_TIMES = 2.2

_ROOT = Path(__file__).parent.parent
_PAGE = _ROOT / "docs/expected.md"
_MARKS = ("<!-- hold_size -->\n", "<!-- end -->\n")

# USD for each token of prompt and completion, as OpenRouter listed them in 2026; the tokenizer that each counts with.
MODELS: Mapping[str, tuple[dict[str, object], str]] = {
    "anthropic/claude-sonnet-4": (
        {
            "prompt": "0.000003",
            "completion": "0.000015",
            "input_cache_read": "0.0000003",
            "input_cache_write": "0.00000375",
            "overrides": [{"min_prompt_tokens": 200_000, "prompt": "0.000006", "completion": "0.0000225"}],
        },
        "ctok 3",
    ),
    "anthropic/claude-opus-4.7": (
        {"prompt": "0.000005", "completion": "0.000025", "input_cache_write": "0.00000625"},
        "ctok 4.7",
    ),
    "openai/gpt-5": ({"prompt": "0.00000125", "completion": "0.00001"}, "o200k_base"),
    "google/gemini-2.5-pro": (
        {
            "prompt": "0.00000125",
            "completion": "0.00001",
            "overrides": [{"min_prompt_tokens": 200_000, "prompt": "0.0000025", "completion": "0.000015"}],
        },
        "gemini",
    ),
    "deepseek/deepseek-v3.2": ({"prompt": "0.00000028", "completion": "0.00000042"}, "deepseek"),
    "qwen/qwen3-max": ({"prompt": "0.0000012", "completion": "0.000006"}, "qwen 3.5"),
}

# Tokens around each message in the published chat templates.
_MESSAGE_TOKENS = 4
_SYSTEM = "You are a careful engineer. Read before you write, run the tests, and say what you did not do. "
# About 120,000 tokens, independent of the repository's size. From 146,000 on Sonnet 4's long tier would be expected.
_LONG_CHARS = 395_000
_IMAGES = ((1568, 1045), (1024, 1024), (800, 600))


Counts = Callable[[Mapping[str, str]], Mapping[str, Mapping[str, int]]]


@dataclass(frozen=True, slots=True)
class SamplePrompt:
    """A request, its text in the chat template, and whether it is only English, code and JSON."""

    name: str
    body: dict[str, object]
    text: str
    messages: int
    images: int
    is_usual: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt's amounts at one model, in nano-USD."""

    prompt: SamplePrompt
    model: str
    real_nano: int
    expected: WorstCase
    bound: WorstCase

    @property
    def at_once(self) -> int:
        """How many requests are admitted at once: those whose bounds fit, plus one whose expected amount fits."""
        by_bound = CAP_NANO // self.bound.total_nano
        return by_bound + (CAP_NANO - by_bound * self.bound.total_nano >= self.expected.total_nano)

    @property
    def usable(self) -> float:
        """The share of the cap that sequential requests can spend before the expected amount no longer fits."""
        return _usable(self.expected, self.real_nano)

    @property
    def usable_by_bound(self) -> float:
        return _usable(self.bound, self.real_nano)

    @property
    def times(self) -> float:
        return self.expected.total_nano / self.real_nano

    @property
    def cells(self) -> list[str]:
        usd = [f"{nano / 1e9:.4f}" for nano in (self.real_nano, self.expected.total_nano, self.bound.total_nano)]
        shares = [f"{self.usable:.0%}", f"{self.usable_by_bound:.0%}"]
        return [self.prompt.name, self.model, *usd, f"{self.times:.2f}", str(self.at_once), *shares]


def _usable(amount: WorstCase, real_nano: int) -> float:
    if amount.total_nano > CAP_NANO:
        return 0.0
    return (1 + (CAP_NANO - amount.total_nano) // real_nano) * real_nano / CAP_NANO


def prompts() -> list[SamplePrompt]:
    """Return the prompts: from the repository's files, from the corpus, and generated."""
    python = [path.read_text() for path in _files("metered")]
    more = [path.read_text() for room in ("edge", "ledger", "openrouter", "payers") for path in _files(room)]
    pages = "\n\n".join(path.read_text() for path in sorted((_ROOT / "docs").glob("*.md")) if path != _PAGE)
    texts = corpus()
    talk = [texts["english"], "Could you say that again, and shorter?", texts["english"][:400], "Thank you. And now?"]
    scripts = "\n".join(texts[name] * 20 for name in ("chinese", "arabic", "hindi", "thai", "japanese"))
    return [
        _prompt("agent with tools", _turns(python), tools=_tools(), max_tokens=2000),
        _prompt("long agent", _turns(_first(python + more, _LONG_CHARS)), tools=_tools(), max_tokens=4000),
        _prompt("chat", [_SYSTEM, *talk * 6], max_tokens=500),
        _prompt("long document", [_SYSTEM, pages * 2 + "\nWhat does a hold cost?"], max_tokens=1000),
        _prompt("extraction of JSON", [_SYSTEM, texts["json"] * 10], max_tokens=1000),
        _prompt("images", [_SYSTEM, "What differs between these photographs?"], images=_IMAGES, max_tokens=500),
        _prompt("five scripts", [_SYSTEM, scripts], max_tokens=500, is_usual=False),
    ]


def _files(room: str) -> list[Path]:
    return sorted((_ROOT / "gateway" / room).glob("*.py"))


def _first(texts: list[str], most_chars: int) -> list[str]:
    kept: list[str] = []
    for text in texts:
        kept.append(text[: most_chars - sum(map(len, kept))])
    return [text for text in kept if text]


def _turns(files: list[str]) -> list[str]:
    texts = [_SYSTEM * 20, "Find why a hold is too large, and mend it."]
    for text in files:
        texts += ["I read the next file.", text]
    return texts


def _prompt(
    name: str,
    texts: list[str],
    *,
    max_tokens: int,
    tools: list[dict[str, object]] | None = None,
    images: tuple[tuple[int, int], ...] = (),
    is_usual: bool = True,
) -> SamplePrompt:
    roles = ["system", *("user" if at % 2 else "assistant" for at in range(1, len(texts)))]
    messages: list[dict[str, object]] = [
        {"role": role, "content": text} for role, text in zip(roles, texts, strict=True)
    ]
    if images:
        pictures = [{"type": "image_url", "image_url": {"url": _png(*size)}} for size in images]
        messages[-1]["content"] = [*pictures, {"type": "text", "text": texts[-1]}]
    body: dict[str, object] = {"messages": messages, "max_tokens": max_tokens}
    written = [f"{role}\n{text}" for role, text in zip(roles, texts, strict=True)]
    if tools:
        body["tools"] = tools
        written.append(json.dumps(tools))
    return SamplePrompt(name, body, "\n".join(written), len(texts), len(images), is_usual and not images)


def _tools() -> list[dict[str, object]]:
    names = (
        "read_file",
        "write_file",
        "list_folder",
        "search_text",
        "run_tests",
        "run_command",
        "fetch_page",
        "ask_user",
    )
    path = {"type": "string", "description": "The file's path, from the root of the repository"}
    limit = {"type": "integer", "description": "How many lines to return at most", "minimum": 1, "default": 200}
    schema = {"type": "object", "properties": {"path": path, "limit": limit}, "required": ["path"]}
    usage_hint = (
        "Use it whenever the answer depends on what stands in the repository; its output is cut after 200 lines."
    )
    return [
        {"type": "function", "function": {"name": name, "description": f"{name}: {usage_hint}", "parameters": schema}}
        for name in names
    ]


def _png(width: int, height: int) -> str:
    head = struct.pack(">I4sIIBBBBBI", 13, b"IHDR", width, height, 8, 2, 0, 0, 0, 0)
    raw = b"\x89PNG\r\n\x1a\n" + head + struct.pack(">I4s", 60_000, b"IDAT") + bytes(60_000)
    return "data:image/png;base64," + base64.b64encode(raw).decode()


async def rows(count: Counts = counted) -> list[Row]:
    """Return the row of each prompt at each model. `count`: counts the tokens of texts by tokenizer."""
    written = prompts()
    counts = count({prompt.name: prompt.text for prompt in written})
    listed = [
        {"id": name, "context_length": 1_000_000, "pricing": pricing, "top_provider": {"max_completion_tokens": 64_000}}
        for name, (pricing, _) in MODELS.items()
    ]
    prices = PriceList.parse(json.dumps({"data": listed}).encode(), fetched_ms=0)
    found: list[Row] = []
    for prompt in written:
        for model, (_, tokenizer) in MODELS.items():
            request = ChatRequest.parse(json.dumps({"model": model, **prompt.body}).encode())
            bound = worst_case(request, prices, now_ms=0)
            expected = await expected_case(request, prices, bound, now_ms=0)
            if bound is None or expected is None:
                raise ValueError("every one of these models has a price")
            tokens = counts.get(tokenizer, counts["o200k_base"])[prompt.name] + _MESSAGE_TOKENS * prompt.messages
            tokens += sum(_image_tokens(model, *size) for size in _IMAGES[: prompt.images])
            found.append(
                Row(prompt, model, _real_nano(prices, model, tokens, request.max_tokens or 0), expected, bound)
            )
    return found


def _image_tokens(model: str, width: int, height: int) -> int:
    """Return the tokens of an image by the example in each vendor's documentation."""
    if model.startswith("anthropic/"):
        return ceil(width * height / 750)
    if model.startswith("openai/"):
        return 70 + 140 * ceil(width * 768 / height / 512) * 2
    return 4 * 258 if model.startswith("google/") else ceil(width / 32) * ceil(height / 32)


def _real_nano(prices: PriceList, model: str, prompt_tokens: int, completion_tokens: int) -> int:
    price = prices.find(model)
    if price is None:
        raise ValueError(model)
    rates = price.rates(prompt_tokens)
    return (rates.prompt * prompt_tokens + rates.completion * completion_tokens) // 10**12


def table(found: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    money = ("real $", "expected $", "bound $", "expected ÷ real")
    heads = ("prompt", "model", *money, "at once", "usable", "by the bound")
    lines = [heads, ["---"] * 2 + ["--:"] * 7, *(row.cells for row in found)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def failures(found: list[Row]) -> list[str]:
    """Return the rows that miss a goal: a usual one expected at too much, or a small one that leaves the cap unused."""
    missed = []
    for row in found:
        name = f"{row.prompt.name} at {row.model}"
        if row.prompt.is_usual and row.times > MOST_TIMES:
            missed.append(f"{name}: {row.times:.2f} times its real cost")
        if row.real_nano < SMALL_NANO and row.usable < 1 - row.expected.total_nano / CAP_NANO:
            missed.append(f"{name}: only {row.usable:.0%} usable")
    return missed


def main() -> None:
    """Print the table and the rows that miss a goal; WRITE=1 stores it in the docs."""
    found = asyncio.run(rows())
    print(table(found))
    print("\n".join(failures(found)) or "Every goal is met.")
    if os.environ.get("WRITE"):
        before, _, rest = _PAGE.read_text().partition(_MARKS[0])
        _PAGE.write_text(before + _MARKS[0] + table(found) + _MARKS[1] + rest.partition(_MARKS[1])[2])


if __name__ == "__main__":
    main()
