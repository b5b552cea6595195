"""Revoke one user, or close a whole app: `python -m scripts.revoke --app ID [--user U] [--mode live|test]`.

Rule: a user who was never connected is an error, because a typing error must not look like a revocation. A repeat is
no error.
"""

import argparse
from collections.abc import Mapping

from gateway.keys import Budget
from gateway.payers.apps import MODES
from gateway.services import Services
from scripts.command import CommandRefused, run


async def revoke(services: Services, arguments: argparse.Namespace) -> Mapping[str, object]:
    """End a connection, or close an app; returns after every live gateway process has acted on it."""
    if await services.apps.find(arguments.app) is None:
        raise CommandRefused(f"There is no app {arguments.app}. make list-apps names those there are.")
    if arguments.user is None:
        # Close the app first, which cuts all its streams at once; ending its connections may take long.
        await services.apps.close(arguments.app)
        await services.connections.end_all(arguments.app)
        return {"revoked": arguments.app}
    modes = (arguments.mode,) if arguments.mode else MODES
    budgets = [Budget.of_user(mode, arguments.app, arguments.user) for mode in modes]
    known = [budget for budget in budgets if (await services.ledger.standing(budget)).state]
    if not known:
        raise CommandRefused(
            f"No user {arguments.user!r} of this app was ever connected"
            f"{f' in {arguments.mode} mode' if arguments.mode else ''}. make show-app lists its users."
        )
    for budget in known:
        await services.connections.revoke(budget)
    return {"revoked": f"{arguments.app}:{arguments.user}"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="revoke", description="Cut one user, or a whole app.")
    parser.add_argument("--app", required=True, help="the app id")
    parser.add_argument("--user", help="the app's own user id; without it the whole app is cut")
    parser.add_argument("--mode", choices=("live", "test"), help="only this mode's connection")
    run(parser, revoke)
