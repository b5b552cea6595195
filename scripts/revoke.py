"""Cut one user, or a whole app: `python -m scripts.revoke --app ID [--user U] [--mode live|test]`. Idempotent."""

import argparse
from collections.abc import Mapping

from gateway.keys import Budget
from gateway.services import Services
from scripts.command import CommandRefused, run


async def revoke(services: Services, arguments: argparse.Namespace) -> Mapping[str, object]:
    """End a connection, or close an app; answered when every gateway process has heard it."""
    if await services.apps.find(arguments.app) is None:
        raise CommandRefused(f"There is no app {arguments.app}.")
    if arguments.user is None:
        # First the app, which cuts all its streams at once; its connections may be many.
        await services.apps.close(arguments.app)
        await services.connections.end_all(arguments.app)
        return {"revoked": arguments.app}
    for mode in (arguments.mode,) if arguments.mode else ("live", "test"):
        await services.connections.revoke(Budget.of_user(mode, arguments.app, arguments.user))
    return {"revoked": f"{arguments.app}:{arguments.user}"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="revoke", description="Cut one user, or a whole app.")
    parser.add_argument("--app", required=True, help="the app id")
    parser.add_argument("--user", help="the app's own user id; without it the whole app is cut")
    parser.add_argument("--mode", choices=("live", "test"), help="only this mode's connection")
    run(parser, revoke)
