"""Give an app a new secret key: `python -m scripts.rotate_secret --app ID [--mode live|test] [--grace SECONDS]`."""

import argparse
from collections.abc import Mapping

from gateway.services import Services
from scripts.command import CommandRefused, run

# A longer overlap would be a second key rather than a rotation.
MAX_GRACE_SECONDS = 30 * 86400


async def rotate_secret(services: Services, arguments: argparse.Namespace) -> Mapping[str, object]:
    """Return the new secret key; the old ones expire at once, or after `--grace` seconds."""
    if not 0 <= arguments.grace <= MAX_GRACE_SECONDS:
        raise CommandRefused(f"--grace must be 0 to {MAX_GRACE_SECONDS} seconds.")
    try:
        secret = await services.apps.rotate(arguments.app, arguments.mode, grace_seconds=arguments.grace)
    except KeyError:
        raise CommandRefused(f"There is no app {arguments.app}.") from None
    return {"secretKey": secret}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="rotate_secret", description="Give an app a new secret key.")
    parser.add_argument("--app", required=True, help="the app id")
    parser.add_argument("--mode", choices=("live", "test"), default="live")
    parser.add_argument("--grace", type=int, default=0, help="seconds that the old key goes on working")
    run(parser, rotate_secret)
