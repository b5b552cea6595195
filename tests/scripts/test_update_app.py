"""Changing an app: keys stay valid, URLs are validated, and every process uses the change at once."""

import argparse
import json

import pytest

from scripts.command import CommandRefused
from scripts.update_app import update_app
from tests.gateway.process import command, environment
from tests.gateway.stack import ORIGIN, Stack


def asked(app_id: str, **changes: object) -> argparse.Namespace:
    """Return what the command was given."""
    lists: dict[str, object] = {
        name: [] for name in ("add_origin", "remove_origin", "add_return_url", "remove_return_url")
    }
    single = {"app": app_id, "name": None, "webhook_url": None, "remove_webhook": False}
    return argparse.Namespace(**{**single, **lists, **changes})


async def test_an_app_is_changed_without_new_keys(redis_url: str, stack: Stack) -> None:
    """Name, origins and return URLs; a running gateway uses them at once, and the old secret stays valid."""
    services = stack.gateway.services
    before = await services.apps.find(stack.app["appId"])
    assert before is not None
    code, out, errors = await command(
        "scripts.update_app",
        *("--app", stack.app["appId"], "--name", "Fresh  Notes", "--add-origin", "HTTPS://New.Example/", "--json"),
        *("--add-return-url", "https://new.example/back?*", "--remove-origin", ORIGIN),
        variables=environment(redis_url),
    )
    assert (code, errors) == (0, "")
    wanted = {
        "appId": stack.app["appId"],
        "name": "Fresh Notes",
        "origins": ["https://new.example"],
        "returnUrls": ["https://new.example/back?*"],
    }
    assert json.loads(out) == wanted
    now = await services.apps.find(stack.app["appId"])
    assert now is not None
    assert (now.name, now.secrets) == ("Fresh Notes", before.secrets)
    assert now.returns_to("https://new.example/back?a=1", "live")
    again = await update_app(services, asked(stack.app["appId"], remove_return_url=["https://new.example/back?*"]))
    assert again == {**wanted, "returnUrls": []}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"app": "app" + "a" * 16}, "There is no app"),
        ({"name": " "}, "--name "),
        ({"add_origin": ["http://app.example"]}, "--add-origin "),
        ({"add_return_url": ["https://app.example/#x"]}, "--add-return-url "),
        ({"remove_origin": ["https://other.example"]}, "--remove-origin https://other.example is not registered"),
        ({"remove_return_url": ["https://other.example/"]}, "There is: none"),
        ({"remove_origin": [ORIGIN]}, "would leave none"),
        ({"webhook_url": "https://10.0.0.1/"}, "--webhook-url "),
        ({"webhook_url": "https://hooks.example/", "remove_webhook": True}, "not both"),
    ],
)
async def test_a_change_that_cannot_be_made_changes_nothing(
    stack: Stack, changes: dict[str, object], said: str
) -> None:
    """It is refused with what to change."""
    before = await stack.gateway.services.apps.find(stack.app["appId"])
    with pytest.raises(CommandRefused, match=said):
        await update_app(stack.gateway.services, asked(stack.app["appId"], **{"name": "Changed", **changes}))
    assert await stack.gateway.services.apps.find(stack.app["appId"]) == before
