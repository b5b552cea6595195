"""What an app may call itself: payers read it beside an amount of money, so it must claim nothing and hide nothing.

Rule: a list of the good. A name is letters of one script (beside Latin ones, those that cannot be taken for Latin),
digits, spaces and punctuation. What nobody foresaw is refused, with the reason.
"""

import re
import unicodedata
from collections.abc import Iterable

MAX_NAME_CHARS = 80  # payers see some 48 of them (consent_web/texts.py)

# Whose name an app must not carry: who sells, and what runs this.
_BRANDS = ("OpenRouter", "Wattfare")
# What the consent screen itself says, and what would be read as its word: whole words, in their order.
_CLAIMS = ("security", "verified", "test mode", "testmode")
# A short brand as a part of a longer word is chance: AI in "Mailbox".
_LEAST_INSIDE = 5
# Hebrew with points has up to three marks on a letter, Vietnamese two; one that has more draws over its neighbours.
_MOST_MARKS = 3
# Letters and symbols without a shape: the fillers of Hangul, the blank of Braille, and what Unicode calls
# default-ignorable (DerivedCoreProperties) without calling it a format character.
INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0") | frozenset(
    map(chr, range(0xFE00, 0xFE10))
)
# Scripts that are written together with Latin letters and look like none of them (UTS #39, "highly restrictive").
_BESIDE_LATIN = frozenset(
    {"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "HEBREW", "ARABIC", "DEVANAGARI", "THAI"}
)
_TOGETHER = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"})
# Letters of other scripts that are read as a Latin one, in lower case and as capitals are lower-cased (UTS #39).
_CYRILLIC = dict(zip("авсԁеѐёгһніїјкӏѵмпорԛѕтуүԝхзь", "abcdeeerhhiijklvmnopqstyywxeb", strict=True))
_GREEK = dict(zip("αβγεζηικμνορστυχω", "abyeznikuvopotuxw", strict=True))
_ARMENIAN = dict(zip("ոօսհցյզաք", "nouhgjqwp", strict=True))
_POSING = _CYRILLIC | _GREEK | _ARMENIAN
# Digits and letters of the Latin script itself that are read as another letter.
_READ_AS = str.maketrans({**_POSING, **dict(zip("0135ıłøđħɑɡɩʟɴᴘᴇᴏʀᴜᴛ", "olesilodhagilnpeorut", strict=True))})
_SAME_STROKE = str.maketrans("il1|", "llll")


class NameRefused(ValueError):
    """An app must not be called that; the message says why, and what to change."""


def check(name: str, reserved: Iterable[str] = ()) -> str:
    """Return the name in its one form. `reserved`: the operator's own names. Raises NameRefused."""
    folded = unicodedata.normalize("NFC", " ".join(name.split()))
    if not 1 <= len(folded) <= MAX_NAME_CHARS:
        raise NameRefused(f"must be 1 to {MAX_NAME_CHARS} characters.")
    _check_characters(folded)
    if "://" in unicodedata.normalize("NFKC", folded):
        raise NameRefused("holds ://, which makes it look like an address. The address is shown beside it anyway.")
    _check_scripts(folded)
    _check_words(folded, (*_BRANDS, *reserved))
    return folded


def _check_characters(name: str) -> None:
    run = 0
    for character in name:
        category = unicodedata.category(character)
        if character in INVISIBLE or category[0] == "C" or (category[0] == "Z" and character != " "):
            raise NameRefused(f"holds an invisible character (U+{ord(character):04X}). Leave it out.")
        if category[0] == "S" and not character.isascii():
            raise NameRefused(
                f"holds {character} (U+{ord(character):04X}), a symbol. Use letters, digits and punctuation."
            )
        run = run + 1 if category in {"Mn", "Me"} else 0
        if run >= _MOST_MARKS or category == "Me":
            raise NameRefused("stacks marks on a letter. Use each letter with its own accents alone.")
    if not any(character.isalpha() for character in name):
        raise NameRefused("holds no letter.")


def _check_scripts(name: str) -> None:
    """Refuse letters of scripts that can be mistaken for each other, and a name all of whose letters pose as Latin."""
    # Fullwidth and bold letters are what they are shapes of.
    plain = unicodedata.normalize("NFKC", name)
    scripts = {_script(character) for character in plain if character.isalpha()}
    others = scripts - {"LATIN"}
    is_one = len(others) <= 1 or others <= _TOGETHER
    if not is_one or ("LATIN" in scripts and not others <= _BESIDE_LATIN):
        raise NameRefused(f"mixes letters of {', '.join(sorted(map(str.title, scripts)))}. Write it in one script.")
    letters = [character for character in plain.casefold() if character.isalpha()]
    if others and "LATIN" not in scripts and all(character in _POSING for character in letters):
        raise NameRefused("is written in letters that all look like Latin ones. Write it in Latin letters.")


def _check_words(name: str, brands: Iterable[str]) -> None:
    words = [_skeleton(word) for word in re.split(r"[\W_]+", name) if word]
    whole, line = "".join(words), f" {' '.join(words)} "
    for brand in brands:
        parts = [_skeleton(word) for word in re.split(r"[\W_]+", brand) if word]
        joined = "".join(parts)
        is_inside = len(joined) >= _LEAST_INSIDE and joined in whole
        if joined and (is_inside or f" {' '.join(parts)} " in line):
            raise NameRefused(f"holds “{brand}”, which is not the app's own name.")
    for claim in _CLAIMS:
        if f" {' '.join(map(_skeleton, claim.split()))} " in line:
            raise NameRefused(f"holds “{claim}”, which only this site may say.")


def _script(letter: str) -> str:
    """Return the script of a letter: the first word of its Unicode name."""
    return re.split(r"[ -]", unicodedata.name(letter, "UNNAMED"))[0]


def _skeleton(word: str) -> str:
    """Return a word as a hasty reader takes it: without accents, and each look-alike as the letter it looks like."""
    apart = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", word).casefold())
    bare = "".join(character for character in apart if not unicodedata.combining(character))
    return bare.translate(_READ_AS).translate(_SAME_STROKE)
