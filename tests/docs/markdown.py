"""What the documentation holds: its files, their links, headings and code blocks."""

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from consent_web.docs import anchor

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "sdk").glob("*/README.md"))]
# Languages whose blocks are run. `console` shows set-up commands; `text` and others are not code.
RUN = ("python", "js", "sh")

_MARKDOWN = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """One code block. `name`: from its info string, else its file and line; `needs`: blocks to run before it."""

    file: Path
    line: int
    language: str
    name: str
    needs: tuple[str, ...]
    code: str


def blocks(*files: Path) -> list[Block]:
    """Return the code blocks of files, in order."""
    return [
        _block(file, token) for file in files for token in _MARKDOWN.parse(file.read_text()) if token.type == "fence"
    ]


def block(name: str) -> Block:
    """Return the block of a name."""
    [found] = [one for one in blocks(*FILES) if one.name == name]
    return found


def links(file: Path) -> list[str]:
    """Return where a file's links lead."""
    inline = (token.children or () for token in _MARKDOWN.parse(file.read_text()))
    return [str(one.attrGet("href")) for children in inline for one in children if one.type == "link_open"]


def anchors(file: Path) -> set[str]:
    """Return the ids of a file's headings."""
    tokens = _MARKDOWN.parse(file.read_text())
    return {
        anchor(words.content)
        for opened, words in zip(tokens, tokens[1:], strict=False)
        if opened.type == "heading_open"
    }


def _block(file: Path, token: object) -> Block:
    info, content, lines = (getattr(token, name) for name in ("info", "content", "map"))
    language, _, rest = info.partition(" ")
    said = dict(re.findall(r"(\w+)=([\w,-]+)", rest))
    name = said.get("id", f"{file.name}:{lines[0] + 1}")
    return Block(file, lines[0] + 1, language, name, tuple(filter(None, said.get("needs", "").split(","))), content)
