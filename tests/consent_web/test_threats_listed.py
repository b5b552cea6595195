"""docs/threats.md is held to the tests: it names none that is not there, and leaves out none that carries a number."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NUMBERS = [
    *(f"P{number:02}" for number in range(1, 11)),
    *(f"O{number:02}" for number in range(1, 11)),
    *(f"I{number:02}" for number in range(1, 19)),
    *(f"F{number:02}" for number in range(1, 13)),
    *(f"W{number:02}" for number in range(1, 9)),
]
_NUMBERED = re.compile(r"_(?:[POIFW]\d\d)(?=_)")


def listed() -> str:
    return (ROOT / "docs/threats.md").read_text()


def written() -> set[str]:
    files = (ROOT / "tests").rglob("test_*.py")
    return {
        name for file in files for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }


def test_each_named_test_exists() -> None:
    """A test that was renamed or dropped is found here."""
    named = set(re.findall(r"`(test_\w+)`", listed()))
    assert len(named) > 100
    assert named - written() == set()


def test_each_test_with_a_number_is_listed() -> None:
    """In the row of its number."""
    rows = {row[2:5]: row for row in listed().splitlines() if re.match(r"\| [POIFW]\d\d ", row)}
    for name in written():
        for number in _NUMBERED.findall(name):
            assert f"`{name}`" in rows[number[1:]]


def test_each_item_of_the_checklist_has_a_test_or_a_reason() -> None:
    """Every number has a row; a row without a test is explained below."""
    rows = {row[2:5]: row for row in listed().splitlines() if re.match(r"\| [POIFW]\d\d ", row)}
    assert list(rows) == NUMBERS
    _, _, reasons = listed().partition("## Not shown here, and why")
    assert [number for number, row in rows.items() if "`test_" not in row and f"**{number}**" not in reasons] == []
