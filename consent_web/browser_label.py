"""Derives a browser's label in the payer's list of browsers from its User-Agent.

Rule: only the names in this file are shown, because the header's content is up to the sender.
"""

# The first match counts: the User-Agents of Edge and Opera contain Chrome too, and Chrome's contains Safari.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "Mac"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def browser_label(user_agent: str) -> str:
    """Return a label such as `Firefox on Linux`; `A browser` if nothing matches."""
    name = next((shown for mark, shown in _BROWSERS if mark in user_agent), "A browser")
    system = next((shown for mark, shown in _SYSTEMS if mark in user_agent), "")
    return f"{name} on {system}" if system else name
