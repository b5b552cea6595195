"""What a browser is called in the list of a payer's browsers, from the User-Agent that it sends.

Rule: only names that stand here are shown: the header is whatever the sender likes.
"""

# The first that fits: Edge and Opera call themselves Chrome too, and Chrome calls itself Safari.
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
    """Return a name such as `Firefox on Linux`; `A browser` where nothing is known."""
    name = next((shown for mark, shown in _BROWSERS if mark in user_agent), "A browser")
    system = next((shown for mark, shown in _SYSTEMS if mark in user_agent), "")
    return f"{name} on {system}" if system else name
