"""The next steps with a new app: its environment, and the quickstart's snippets with its keys and URLs.

Rule: the snippets are taken from docs/quickstart.md, which the tests run.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway.settings import Settings

_QUICKSTART = Path(__file__).parent.parent / "docs" / "quickstart.md"
_BLOCK = re.compile(r"^```\w+ id=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def next_steps(app: Mapping[str, object], settings: Settings) -> Iterator[str]:
    """Yield, line by line, what to do with the keys of `create_app`."""
    for name, value in app.items():
        yield f"{name}: {value}"
    snippets = filled_snippets(app, settings)
    yield from _titled("For your app's environment. The secret keys are shown this once", "")
    yield f"export PUBLIC_WATTFARE_KEY={app['publishableKey']}"
    yield f"export WATTFARE_SECRET_KEY={app['secretKey']}"
    yield from _titled("The page", snippets["page"])
    yield from _titled("The backend, in Python", snippets["backend"])
    yield from _titled("The backend, in JavaScript", snippets["backend-js"])
    yield from _titled(f"All of it, step by step: {settings.consent_url}/docs", "")


def _titled(title: str, text: str) -> list[str]:
    """Return a section's lines: a title as a shell comment, then the text to paste."""
    return ["", f"# {title}", *text.splitlines()]


def filled_snippets(app: Mapping[str, object], settings: Settings) -> dict[str, str]:
    """Return the quickstart's snippets by name, with this app's key and this installation's URLs."""
    text = _QUICKSTART.read_text()
    given = {
        "pk_live_…": str(app["publishableKey"]),
        "http://127.0.0.1:8080": settings.public_url,
        "http://127.0.0.1:8081": settings.consent_url,
    }
    for written, meant in given.items():
        text = text.replace(written, meant)
    return dict(_BLOCK.findall(text))
