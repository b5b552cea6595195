"""What an app may call itself: names that claim, hide or pose are refused with the reason, ordinary ones are taken."""

import pytest

from gateway.payers.app_names import NameRefused, check

OWN = ("Acme Inc", "pay.example")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("OpenRouter", "OpenRouter"),
        ("Open Router", "OpenRouter"),
        ("0penR0uter", "OpenRouter"),
        ("OPENROUTÉR", "OpenRouter"),
        ("ＯｐｅｎＲｏｕｔｅｒ", "OpenRouter"),
        ("𝐎𝐩𝐞𝐧𝐑𝐨𝐮𝐭𝐞𝐫", "OpenRouter"),
        ("Wattfare security", "Wattfare"),
        ("My WattFare", "Wattfare"),
        ("Acme, Inc. pays", "Acme Inc"),
        ("pay.example", "pay.example"),
        ("Security Center", "security"),
        ("VERIFIED Notes", "verified"),
        ("Test mode: nothing is charged", "test mode"),
        ("Test-Mode", "test mode"),
        ("Notes ✓", "a symbol"),
        ("Notes ✔", "a symbol"),
        ("Notes 🔒", "a symbol"),
        ("https://openrouter.ai", "://"),
        ("ｈｔｔｐｓ：／／notes", "://"),
        ("Аpple", "Cyrillic, Latin"),
        ("Νotes", "Greek, Latin"),
        ("аррӏе", "look like Latin"),
        ("Acme\u200bNotes", "U+200B"),
        ("Notes \u202egnp.exe", "U+202E"),
        ("a\u3164b", "U+3164"),
        ("a\u2800b", "U+2800"),
        ("Open\u034fNotes", "U+034F"),
        ("e\u0301\u0301\u0301\u0301", "stacks marks"),
        ("Acme\u20dd", "stacks marks"),
        ("a\x07b", "U+0007"),
        ("2048!", "no letter"),
        ("\u3164", "U+3164"),
        (" ", "1 to 80"),
        ("x" * 81, "1 to 80"),
    ],
)
def test_a_name_that_claims_hides_or_poses_is_refused_with_the_reason(name: str, why: str) -> None:
    """The refusal states what is wrong with the name."""
    with pytest.raises(NameRefused) as refused:
        check(name, OWN)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    "name",
    [
        *("Acme Notes", "C++ Helper (beta) – 2", "O'Reilly’s Notes & More", "X", "Ask-It!"),
        *("Café Ångström", "Nguyễn Điện", "Яндекс Погода", "Ελληνικά Νέα", "מחברות העבודה", "ภาษาไทย", "हिन्दी ऐप"),
        *(
            "日本語ノート",
            "LINE 翻訳アプリ",
            "한국어 AI",
            "Contest Modeler",
            "Insecurity Podcast",
            "Unverified",
            "Acme",
        ),
    ],
)
def test_an_ordinary_name_in_any_language_is_taken(name: str) -> None:
    """A claim that is only a part of a longer word is accepted."""
    assert check(f" {name} ", OWN) == name


def test_a_short_name_of_the_operator_is_refused_as_a_word_alone() -> None:
    """An operator called AI does not forbid every name that holds these two letters."""
    assert check("Mailbox", ["AI"]) == "Mailbox"
    with pytest.raises(NameRefused):
        check("Mail AI", ["AI"])
