"""Change an app without new keys: `python -m scripts.update_app --app ID [--name N] [--add-origin URL] …`.

Rule: open attempts from a removed origin or to a removed return URL can no longer be approved.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping

from gateway.payers.origins import register
from gateway.payers.return_urls import register as register_return_url
from gateway.services import Services
from scripts.command import CommandRefused, run
from scripts.create_app import checked, checked_name, checked_webhook


async def update_app(services: Services, arguments: argparse.Namespace) -> Mapping[str, object]:
    """Change the app and return its new state. Adding what is already registered is no error."""
    app = await services.apps.find(arguments.app)
    if app is None:
        raise CommandRefused(f"There is no app {arguments.app}. make list-apps names those there are.")
    name = None if arguments.name is None else checked_name(arguments.name, services)
    origins = _changed(services, app.origins, "origin", arguments.add_origin, arguments.remove_origin, register)
    if not origins:
        raise CommandRefused("--remove-origin would leave none: no page of the app could ask its users. Add one.")
    return_urls = _changed(
        services,
        app.return_urls,
        "return-url",
        arguments.add_return_url,
        arguments.remove_return_url,
        register_return_url,
    )
    secret = await _webhook(services, arguments)
    await services.apps.update(app.app_id, name=name, origins=origins, return_urls=return_urls)
    now = await services.apps.find(app.app_id) or app
    return {
        "appId": now.app_id,
        "name": now.name,
        "origins": sorted(now.origins),
        "returnUrls": sorted(now.return_urls),
        **({"webhookSecret": secret} if secret else {}),
    }


async def _webhook(services: Services, arguments: argparse.Namespace) -> str | None:
    """Set or remove the webhook endpoint; return its secret if it is a new one."""
    if arguments.webhook_url is not None and arguments.remove_webhook:
        raise CommandRefused("Give --webhook-url or --remove-webhook, not both.")
    if arguments.remove_webhook:
        await services.endpoints.remove(arguments.app)
    if arguments.webhook_url is None:
        return None
    return await services.endpoints.set(arguments.app, checked_webhook(arguments.webhook_url, services))


def _changed(
    services: Services,
    known: frozenset[str],
    what: str,
    added: Iterable[str],
    removed: Iterable[str],
    register: Callable[..., str],
) -> set[str]:
    """Return the registered URLs after a change. Raises CommandRefused, also for an unregistered one to remove."""
    # A URL registered under older rules may be removed although it would not be accepted now.
    dropped = {
        text if text in known else checked(f"--remove-{what}", [text], register, services)[0] for text in removed
    }
    if unknown := dropped - known:
        there = ", ".join(sorted(known)) or "none"
        raise CommandRefused(f"--remove-{what} {min(unknown)} is not registered. There is: {there}.")
    return set(known - dropped) | set(checked(f"--add-{what}", added, register, services))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="update_app", description="Change an app without new keys.")
    parser.add_argument("--app", required=True, help="the app id")
    parser.add_argument("--name", help="what payers see")
    for option in ("--add-origin", "--remove-origin", "--add-return-url", "--remove-return-url"):
        parser.add_argument(option, action="append", default=[], metavar="URL", help="repeatable")
    parser.add_argument("--webhook-url", metavar="URL", help="where its webhooks are sent (docs/webhooks.md)")
    parser.add_argument("--remove-webhook", action="store_true", help="send it no more webhooks")
    run(parser, update_app)
