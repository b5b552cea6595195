"""Register an app: `python -m scripts.create_app --name N --origin URL [--origin URL …] [--json]`.

Rule: the secrets are shown this once; only their digests are stored.
"""

import argparse
from collections.abc import Mapping

from gateway.payers.origins import OriginRefused, register
from gateway.services import Services
from scripts.command import CommandRefused, run

MAX_NAME_CHARS = 80  # payers see some 48 of them (consent_web/texts.py)


async def create_app(services: Services, arguments: argparse.Namespace) -> Mapping[str, object]:
    """Check name and origins, and return the new app's keys."""
    name = " ".join(arguments.name.split())
    if not 1 <= len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise CommandRefused(f"--name must be 1 to {MAX_NAME_CHARS} printable characters.")
    if not arguments.origin:
        raise CommandRefused("--origin is needed: without one no page of the app could ask its users.")
    try:
        origins = [register(text, loopback=not services.settings.production) for text in arguments.origin]
    except OriginRefused as refused:
        raise CommandRefused(f"--origin {refused}") from None
    return await services.apps.create(name, origins)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="create_app", description="Register an app and print its keys, once.")
    parser.add_argument("--name", required=True, help="what payers see")
    parser.add_argument("--origin", action="append", default=[], help="an origin of the app's pages, repeatable")
    run(parser, create_app)
