"""Run the simulated OpenRouter: `python -m sandbox`, on $HOST:$PORT."""

import sys

from aiohttp import web

from sandbox.server import create_app
from sandbox.settings import read_settings

# Streams open at SIGTERM are test traffic and may be cut.
_SHUTDOWN_SECONDS = 1.0


def _say(text: str) -> None:
    """Write a line and flush it, because standard output is buffered when it is a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until SIGINT or SIGTERM, then exit 0; a malformed setting is one line and exit 1."""
    try:
        settings = read_settings()
    except ValueError as error:
        sys.exit(str(error))
    web.run_app(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        print=_say,
        access_log=None,
        shutdown_timeout=_SHUTDOWN_SECONDS,
        reuse_address=True,
    )


if __name__ == "__main__":
    main()
