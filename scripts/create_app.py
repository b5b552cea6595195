"""Register an app: `python -m scripts.create_app --name N --origin URL [--origin URL …] [--json]`.

Rule: the secrets are shown this once; only their digests are stored.
"""

import argparse
from collections.abc import Mapping

from gateway.payers import app_names
from gateway.payers.origins import OriginRefused, register
from gateway.services import Services
from scripts.command import CommandRefused, run


async def create_app(services: Services, arguments: argparse.Namespace) -> Mapping[str, object]:
    """Check name and origins, and return the new app's keys."""
    try:
        name = app_names.check(arguments.name, services.settings.own_names)
    except app_names.NameRefused as refused:
        raise CommandRefused(f"--name {refused}") from None
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
