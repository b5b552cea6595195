"""The documentation as web pages: `docs/` and the SDKs' READMEs, rendered once, with this installation's URLs.

Rule: every page is a Markdown file of the repository, which must also read well there.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from aiohttp import web
from markdown_it import MarkdownIt
from markdown_it.token import Token

from consent_web import guard
from consent_web.site import SITE

_ROOT = Path(__file__).parent.parent
_GUIDES = ("quickstart", "going-live", "concepts", "errors", "test-mode", "grants", "webhooks", "api", "migrating")
_FILES = {
    **{name: f"docs/{name}.md" for name in _GUIDES},
    "javascript": "sdk/js/README.md",
    "python": "sdk/python/README.md",
    # Then the rest of the folder, under the files' own names.
    **{
        name: f"docs/{name}.md"
        for name in ("tools", "page-headers", "prompt", *sorted(file.stem for file in (_ROOT / "docs").glob("*.md")))
        if name not in _GUIDES
    },
}
_PAGE_LINK = re.compile(r"^(?:\.\./)*((?:docs|sdk)/)?([\w/-]+\.md)(?=#|$)")
# The addresses of `make run`, which the files mention and the pages replace.
_WRITTEN_GATEWAY, _WRITTEN_CONSENT = "http://127.0.0.1:8080", "http://127.0.0.1:8081"
_CACHING = "public, max-age=300"
_SUMMARY = "A gateway that lets the person who uses an app pay for its model calls, up to a cap they set."


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its name in the URL, its title, its text in Markdown and as HTML."""

    name: str
    title: str
    text: str
    html: str

    @property
    def summary(self) -> str:
        """The first sentence after the title."""
        paragraphs = self.text.split("\n\n")
        return re.split(r"(?<=[.:])\s", " ".join(paragraphs[1].split()))[0] if len(paragraphs) > 1 else ""


class Docs:
    """All pages, for an installation at these two origins."""

    def __init__(self, gateway: str, consent: str) -> None:
        self._markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
        # A container image may lack files, such as an SDK's folder.
        self.pages = {
            name: self._page(name, (_ROOT / file).read_text(), gateway, consent)
            for name, file in _FILES.items()
            if (_ROOT / file).is_file()
        }

    def brief(self, consent: str) -> str:
        """Return `/llms.txt`: every page with its URL and first sentence."""
        lines = [f"- [{page.title}]({consent}/docs/{page.name}.md): {page.summary}" for page in self.pages.values()]
        return "\n".join([f"# Wattfare\n\n> {_SUMMARY}\n\n## Docs\n", *lines, ""])

    def full(self) -> str:
        """Return `/llms-full.txt`: all pages as one text."""
        return "\n\n".join([f"# Wattfare\n\n> {_SUMMARY}", *(page.text.strip() for page in self.pages.values())]) + "\n"

    def _page(self, name: str, text: str, gateway: str, consent: str) -> Page:
        text = text.replace(_WRITTEN_GATEWAY, gateway).replace(_WRITTEN_CONSENT, consent)
        tokens = self._markdown.parse(text)
        _add_heading_ids(tokens)
        for token in tokens:
            _rewrite_links(token.children or ())
        html = self._markdown.renderer.render(tokens, self._markdown.options, {})
        # Elements that scroll sideways must be focusable by keyboard.
        html = html.replace("<pre>", '<pre tabindex="0">').replace("<table>", '<table tabindex="0">')
        title = text.partition("\n")[0].removeprefix("#").strip()
        return Page(name, title, text, html)


def routes() -> list[web.RouteDef]:
    """Return the paths of the documentation."""
    return [
        web.get("/docs", index),
        web.get("/docs/", index),
        web.get("/docs/{name}", page),
        web.get("/llms.txt", brief),
        web.get("/llms-full.txt", full),
    ]


async def index(request: web.Request) -> web.Response:
    """Answer `GET /docs`: the first page."""
    return _answer(request, next(iter(_docs(request).pages)))


async def page(request: web.Request) -> web.Response:
    """Answer `GET /docs/{name}`, or with `.md` appended the page's Markdown."""
    name = request.match_info["name"]
    found = _docs(request).pages.get(name.removesuffix(".md"))
    if found is None:
        raise web.HTTPNotFound
    return _text(found.text, "text/markdown") if name.endswith(".md") else _answer(request, found.name)


async def brief(request: web.Request) -> web.Response:
    """Answer `GET /llms.txt`."""
    return _text(_docs(request).brief(request.app[SITE].origin), "text/plain")


async def full(request: web.Request) -> web.Response:
    """Answer `GET /llms-full.txt`."""
    return _text(_docs(request).full(), "text/plain")


def _docs(request: web.Request) -> Docs:
    site = request.app[SITE]
    return rendered(site.gateway, site.origin)


@lru_cache(1)
def rendered(gateway: str, consent: str) -> Docs:
    """Return the pages, rendered on first use, which most processes never have."""
    return Docs(gateway, consent)


def _answer(request: web.Request, name: str) -> web.Response:
    docs = _docs(request)
    return guard.page(request, "docs.html", {"pages": docs.pages.values(), "page": docs.pages[name]})


def _text(text: str, kind: str) -> web.Response:
    return web.Response(text=text, content_type=kind, charset="utf-8", headers={"Cache-Control": _CACHING})


def _add_heading_ids(tokens: Sequence[Token]) -> None:
    """Give each heading an id derived from its text, as code hosts do, for links into a page."""
    for opened, words in zip(tokens, tokens[1:], strict=False):
        if opened.type == "heading_open":
            opened.attrSet("id", anchor(words.content))


def anchor(heading: str) -> str:
    """Return a heading's id."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _rewrite_links(tokens: Sequence[Token]) -> None:
    """Rewrite links between the files to links between their pages."""
    for token in tokens:
        target = token.attrGet("href") if token.type == "link_open" else None
        if isinstance(target, str) and ":" not in target:
            token.attrSet("href", _PAGE_LINK.sub(_page_path, target))


def _page_path(link: re.Match[str]) -> str:
    """Return the path of the page for a matched link to a file."""
    folder, file = link.groups(default="docs/")
    name = next((name for name, path in _FILES.items() if path == folder + file), None)
    return link[0] if name is None else f"/docs/{name}"
