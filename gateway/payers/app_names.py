"""Checks an app's name: payers read it beside an amount, so it must not impersonate, claim or hide anything.

Rule: an allow-list. A name consists of letters of one script (plus Latin, for scripts that do not resemble Latin),
digits, spaces and punctuation. Everything else is refused, with the reason.
"""

import re
import unicodedata
from collections.abc import Iterable

MAX_NAME_CHARS = 80  # payers see some 48 of them (consent_web/texts.py)

# Names that an app must not contain: the upstream's and ours.
_BRANDS = ("OpenRouter", "Wattfare")
# Words of the consent screen itself, which a payer would take as its statement. Compared as whole words, in order.
_CLAIMS = ("security", "verified", "test mode", "testmode")
# A shorter brand inside a longer word is coincidence, such as AI in "Mailbox".
_LEAST_INSIDE = 5
# Vietnamese has up to two combining marks on a letter, pointed Hebrew three; more of them overprint the lines around.
_MOST_MARKS = 3
# Letters and symbols that render as nothing: Hangul fillers, the Braille blank, and the characters that Unicode's
# DerivedCoreProperties lists as default-ignorable outside the category of format characters.
INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0") | frozenset(
    map(chr, range(0xFE00, 0xFE10))
)
# Scripts that may be mixed with Latin because their letters do not resemble it (UTS #39, "highly restrictive").
_BESIDE_LATIN = frozenset(
    {"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "HEBREW", "ARABIC", "DEVANAGARI", "THAI"}
)
_TOGETHER = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"})
# Letters of other scripts that look like a Latin letter, in lower case or as capitals (UTS #39 confusables).
_CYRILLIC = dict(zip("авсԁеѐёгһніїјкӏѵмпорԛѕтуүԝхзь", "abcdeeerhhiijklvmnopqstyywxeb", strict=True))
_GREEK = dict(zip("αβγεζηικμνορστυχω", "abyeznikuvopotuxw", strict=True))
_ARMENIAN = dict(zip("ոօսհցյզաք", "nouhgjqwp", strict=True))
_POSING = _CYRILLIC | _GREEK | _ARMENIAN
# Digits and Latin letters that look like another letter.
_READ_AS = str.maketrans({**_POSING, **dict(zip("0135ıłøđħɑɡɩʟɴᴘᴇᴏʀᴜᴛ", "olesilodhagilnpeorut", strict=True))})
_SAME_STROKE = str.maketrans("il1|", "llll")


class NameRefused(ValueError):
    """The name is refused; the message says why and what to change."""


def check(name: str, reserved: Iterable[str] = ()) -> str:
    """Return the name, NFC-normalised with single spaces. `reserved`: the operator's own names. Raises NameRefused."""
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
    """Refuse a mix of scripts that resemble each other, and a name all of whose letters look Latin but are not."""
    # NFKC maps fullwidth and mathematical bold letters to the plain ones.
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
    """Return a word folded for comparison: lower case, without accents, each confusable as the letter it resembles."""
    apart = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", word).casefold())
    bare = "".join(character for character in apart if not unicodedata.combining(character))
    return bare.translate(_READ_AS).translate(_SAME_STROKE)
