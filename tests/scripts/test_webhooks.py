"""The operator's commands for webhooks: set, try, show, replay, replace the secret."""

import argparse
import json
from typing import Any

import pytest

from scripts.command import CommandRefused
from scripts.create_app import create_app
from scripts.show_app import show_app
from scripts.update_app import update_app
from scripts.webhooks import webhooks
from tests.gateway.process import command, environment
from tests.gateway.webhooks.conftest import Hooks
from tests.scripts.test_update_app import asked


async def told(hooks: Hooks, **wishes: object) -> Any:
    """What the command answers."""
    usual = {"app": hooks.app_id, "test": False, "replay": None, "rotate_secret": False, "user": None, "grace": 60}
    return await webhooks(hooks.services, argparse.Namespace(**{**usual, **wishes}))


async def test_an_app_gets_its_webhook_and_secret_from_the_commands(hooks: Hooks) -> None:
    """The secret is shown once; another URL keeps it; show_app names the URL and never the secret."""
    url = "https://hooks.example/a"
    given = argparse.Namespace(name="Fresh", origin=["https://fresh.example"], return_url=[], webhook_url=url)
    app = await create_app(hooks.services, given)
    assert str(app["webhookSecret"]).startswith("whsec_")
    app_id = str(app["appId"])
    again = await update_app(hooks.services, asked(app_id, webhook_url="https://hooks.example/b"))
    assert "webhookSecret" not in again
    shown = await show_app(hooks.services, argparse.Namespace(app=app_id))
    endpoint: Any = shown["webhook"]
    assert (endpoint["url"], endpoint["secrets"], endpoint["gone"]) == ("https://hooks.example/b", 1, None)
    assert "whsec_" not in json.dumps(shown)
    await update_app(hooks.services, asked(app_id, remove_webhook=True))
    assert (await show_app(hooks.services, argparse.Namespace(app=app_id)))["webhook"] is None


async def test_what_waits_and_what_was_given_up_is_listed(hooks: Hooks, redis_url: str) -> None:
    """With its id, how often it was tried, and when it is tried next; for people as a table."""
    hooks.receiver.statuses = [500]
    ada = await hooks.connect("ada")
    await hooks.deliver(ada)
    await hooks.services.endpoints.note_undelivered(hooks.app_id, {"webhookId": "msg_a_1-1", "failure": "status 500"})
    [row] = (await told(hooks))["waiting"]
    assert (row["webhookId"], row["tries"]) == (hooks.receiver.received[0].message_id, 1)
    assert (row["type"], row["appUserId"]) == ("connection.created", "ada")
    assert 0 < row["nextInSeconds"] <= 6
    variables = environment(redis_url, WATTFARE_WEBHOOK_LOOPBACK="on")
    code, out, errors = await command("scripts.webhooks", "--app", hooks.app_id, variables=variables)
    assert (code, errors) == (0, "")
    assert row["webhookId"] in out
    assert "status 500" in out


async def test_an_event_for_trial_arrives_at_once(hooks: Hooks) -> None:
    """Otherwise the command states the reason and exits with 1."""
    assert (await told(hooks, test=True))["ok"]
    assert hooks.receiver.received[0].said == ("webhook.test", hooks.app_id)
    hooks.receiver.statuses = [503]
    answer = await told(hooks, test=True)
    assert (answer["ok"], answer["status"], answer["failure"]) == (False, 503, "status 503")


async def test_a_replay_sends_the_same_again(hooks: Hooks) -> None:
    """Since a time for every user, or from one event on for its own; ids and bodies are as they were."""
    budgets = [await hooks.connect(user) for user in ("ada", "bob")]
    await hooks.services.connections.pause(budgets[0])
    await hooks.deliver(*budgets)
    first = {(each.message_id, each.body) for each in hooks.receiver.received}
    assert len(first) == 3
    answer = await told(hooks, replay="2020-01-01T00:00Z")
    assert [row["appUserId"] for row in answer["replayed"]] == ["ada", "bob"]
    await hooks.deliver(*budgets)
    assert {(each.message_id, each.body) for each in hooks.receiver.received[3:]} == first
    paused = next(each for each in hooks.receiver.received if each.said[0] == "connection.updated")
    await told(hooks, replay=paused.message_id)
    await hooks.deliver(*budgets)
    assert [each.message_id for each in hooks.receiver.received[6:]] == [paused.message_id]
    assert (await told(hooks, replay="1577836800", user="bob"))["replayed"] == [{"appUserId": "bob", "mode": "live"}]
    await hooks.deliver(*budgets)
    assert [each.said for each in hooks.receiver.received[7:]] == [("connection.created", "bob")]


async def test_a_replaced_secret_is_told_once(hooks: Hooks) -> None:
    """Until the grace is over both sign."""
    old = hooks.receiver.secret
    new = (await told(hooks, rotate_secret=True))["webhookSecret"]
    for hooks.receiver.secret in (old, new):
        assert (await told(hooks, test=True))["ok"]


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"app": "appnone"}, "There is no app"),
        ({"rotate_secret": True, "grace": -1}, "--grace"),
        ({"replay": "yesterday"}, "--replay takes"),
        ({"replay": "0", "user": "nobody"}, "no such user"),
        ({"replay": "msg_aaaaaaaaaaaaa_1-1"}, "no such user"),
    ],
)
async def test_what_the_command_cannot_do_it_says(hooks: Hooks, wishes: dict[str, object], said: str) -> None:
    """The refusal is one line that states what to do."""
    with pytest.raises(CommandRefused, match=said):
        await told(hooks, **wishes)


async def test_without_an_endpoint_nothing_is_tried(hooks: Hooks) -> None:
    """None was set, or it answered 410 Gone."""
    endpoint = await hooks.services.endpoints.find(hooks.app_id)
    assert endpoint is not None
    await hooks.services.endpoints.disable(endpoint)
    with pytest.raises(CommandRefused, match="410 Gone"):
        await told(hooks, test=True)
    await hooks.services.endpoints.remove(hooks.app_id)
    for wish in ({"test": True}, {"replay": "0"}, {"rotate_secret": True}):
        with pytest.raises(CommandRefused, match="no webhook"):
            await told(hooks, **wish)
    assert await told(hooks) == {"webhook": None, "waiting": [], "givenUp": []}
