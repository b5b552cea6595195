"""The documentation as files and as pages: links resolve, commands exist, every page is served and readable."""

import re
from pathlib import Path

import pytest

from consent_web import docs
from tests.consent_web.conftest import visitor, world
from tests.consent_web.world import Visitor, World
from tests.docs.markdown import FILES, ROOT, anchors, blocks, links

__all__ = ["visitor", "world"]

SERVED = {"/llms.txt", "/llms-full.txt"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_link_resolves(file: Path) -> None:
    """A relative link leads to a file of the repository, and behind `#` to one of its headings."""
    for target in links(file):
        if re.match(r"https?://", target) or target in SERVED:
            continue
        path, _, place = target.partition("#")
        led = (file.parent / path).resolve() if path else file
        assert led.exists(), target
        assert not place or place in anchors(led), target


def test_every_command_exists() -> None:
    """Each `make` target and `python -m` module that the documentation names."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for file in FILES:
        text = file.read_text()
        named = set(re.findall(r"(?:`|\$ |\n)make ([a-z-]+)", text))
        assert named <= targets, file
        for module in re.findall(r"python -m ([\w.]+)", text):
            path = ROOT / module.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").is_file(), module


def test_every_block_says_what_it_is() -> None:
    """So that none escapes being run by having no language."""
    assert [(one.file.name, one.line) for one in blocks(*FILES) if not one.language] == []


async def test_every_page_is_served_and_its_links_lead_on(world: World, visitor: Visitor) -> None:
    """Every page is reachable from `/docs`, with this installation's URLs and without loading external resources."""
    first = await visitor.get("/docs")
    assert (first.status, "Quickstart" in first.text) == (200, True)
    paths = set(re.findall(r'href="(/docs/[\w-]+)"', first.text))
    assert len(paths) == len(docs.rendered(world.site.gateway, world.base).pages)
    known: dict[str, str] = {}
    for path in paths:
        answer = await visitor.get(path)
        assert answer.status == 200, path
        known[path] = answer.text
        raw = await visitor.get(f"{path}.md")
        assert raw.text.startswith("# ")
        assert raw.header("Content-Type").startswith("text/markdown")
    for path, text in known.items():
        assert "http://127.0.0.1:8081" not in text or world.base == "http://127.0.0.1:8081"
        for target in re.findall(r'href="(/docs/[^"]+)"', text):
            page, _, place = target.partition("#")
            if page.endswith(".md"):
                continue
            assert page in known, f"{path} leads to {target}"
            assert not place or f'id="{place}"' in known[page], f"{path} leads to {target}"
        assert not re.search(r'src="http|<script|\.md"(?! type)', text.split("<article>")[1].split("</article>")[0]), (
            path
        )


async def test_machines_can_read_it_all(world: World, visitor: Visitor) -> None:
    """`/llms.txt` lists every page with a sentence; `/llms-full.txt` is all of them."""
    brief, full = await visitor.get("/llms.txt"), await visitor.get("/llms-full.txt")
    listed = re.findall(rf"^- \[.+\]\({world.base}(/docs/[\w-]+)\.md\): .+", brief.text, re.MULTILINE)
    assert len(listed) == len(docs.rendered(world.site.gateway, world.base).pages)
    for page in docs.rendered(world.site.gateway, world.base).pages.values():
        assert page.text.strip() in full.text
    assert (await visitor.get("/docs/nothing")).status == 404
    assert (await visitor.get("/docs/..%2f..%2fsetup.cfg")).status == 404
