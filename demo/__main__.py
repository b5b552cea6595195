"""Run the demo app: `python -m demo`, on http://127.0.0.1:8083."""

import sys

from aiohttp import web

from demo.keys import NoKeysError, load_keys
from demo.server import create_app
from demo.settings import read_settings


def main() -> None:
    """Serve until stopped. A malformed setting, a missing key or a taken port prints one line and exits with 1."""
    try:
        settings = read_settings()
        app = create_app(settings, load_keys(settings))
        web.run_app(app, host=settings.host, port=settings.port, print=None, access_log=None)
    except (ValueError, NoKeysError, OSError) as fault:
        sys.exit(str(fault))


if __name__ == "__main__":
    main()
