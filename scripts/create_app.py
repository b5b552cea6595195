"""Register an app: `python -m scripts.create_app --name N --origin URL … [--return-url URL …] [--json]`.

Rule: the secrets are shown only once; only their digests are stored.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping

from gateway.payers import app_names
from gateway.payers.origins import OriginRefused, register
from gateway.payers.return_urls import register as register_return_url
from gateway.services import Services
from gateway.settings import Settings
from gateway.webhooks.addresses import register as register_webhook
from scripts.command import CommandRefused, run
from scripts.next_steps import next_steps
from scripts.settings import command_environment


async def create_app(services: Services, arguments: argparse.Namespace) -> Mapping[str, object]:
    """Validate name, origins and return URLs, register the app, and return its keys."""
    name = checked_name(arguments.name, services)
    if not arguments.origin:
        raise CommandRefused("--origin is needed: without one no page of the app could ask its users.")
    origins = checked("--origin", arguments.origin, register, services)
    return_urls = checked("--return-url", arguments.return_url, register_return_url, services)
    webhook_url = arguments.webhook_url and checked_webhook(arguments.webhook_url, services)
    app: dict[str, object] = {**await services.apps.create(name, origins, return_urls)}
    if webhook_url:
        app["webhookSecret"] = await services.endpoints.set(str(app["appId"]), webhook_url)
    return app


def checked_webhook(text: str, services: Services) -> str:
    """Return a webhook URL as it is stored. Raises CommandRefused."""
    settings = services.settings
    try:
        return register_webhook(text, development=not settings.production, loopback=settings.webhooks.loopback)
    except OriginRefused as refused:
        raise CommandRefused(f"--webhook-url {refused}") from None


def checked_name(text: str, services: Services) -> str:
    """Return an app's validated name. Raises CommandRefused."""
    try:
        return app_names.check(text, services.settings.reserved_names)
    except app_names.NameRefused as refused:
        raise CommandRefused(f"--name {refused}") from None


def checked(option: str, texts: Iterable[str], register: Callable[..., str], services: Services) -> list[str]:
    """Return validated origins or return URLs. `register`: their validator. Raises CommandRefused."""
    try:
        return [register(text, loopback=not services.settings.production) for text in texts]
    except OriginRefused as refused:
        raise CommandRefused(f"{option} {refused}") from None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="create_app", description="Register an app and print its keys, once.")
    parser.add_argument("--name", required=True, help="what payers see")
    parser.add_argument("--origin", action="append", default=[], help="an origin of the app's pages, repeatable")
    parser.add_argument(
        "--return-url",
        action="append",
        default=[],
        help="an address that redirect mode returns to, repeatable; a `?*` at its end takes any query",
    )
    parser.add_argument("--webhook-url", help="where its webhooks are sent (docs/webhooks.md)")
    run(parser, create_app, show=lambda app, _: next_steps(app, Settings.load(command_environment())))
