"""Registering an app: its keys are shown once, its origins are checked."""

import argparse
import json
import re

import pytest

from gateway.settings import Settings
from scripts.command import CommandRefused
from scripts.create_app import create_app
from scripts.next_steps import next_steps
from tests.gateway.process import command, environment
from tests.gateway.stack import RINGS, Stack, question


async def test_a_new_app_works_at_once_with_live_and_test_keys(redis_url: str, stack: Stack) -> None:
    """The output has the contract's names and key forms; a running gateway accepts the keys."""
    variables = environment(redis_url)
    code, out, errors = await command(
        "scripts.create_app",
        *(
            "--name",
            "My  App",
            "--origin",
            "HTTPS://App.Example.com:443/",
            "--origin",
            "http://localhost:3000",
            "--return-url",
            "https://App.Example.com/back",
            "--json",
        ),
        variables=variables,
    )
    assert (code, errors) == (0, "")
    app = json.loads(out)
    assert set(app) == {"appId", "publishableKey", "secretKey", "testPublishableKey", "testSecretKey"}
    assert re.fullmatch(r"app[a-z2-7]{16}", app["appId"])
    assert app["publishableKey"] == f"pk_live_{app['appId']}"
    assert app["testPublishableKey"] == f"pk_test_{app['appId']}"
    for name, mode in (("secretKey", "live"), ("testSecretKey", "test")):
        assert re.fullmatch(rf"sk_{mode}_{app['appId']}_[A-Za-z0-9-]{{43,}}", app[name])
        answer = await stack.chat(question(), headers=stack.as_user(secret=app[name]))
        assert answer.refusal == (402, "not_connected")
    known = await stack.gateway.services.apps.find(app["appId"])
    assert known is not None
    assert known.origins == {"https://app.example.com", "http://localhost:3000"}
    assert known.return_urls == {"https://app.example.com/back"}
    stored = await stack.redis.hgetall(f"wf:app:{app['appId']}")
    assert all(app["secretKey"].rsplit("_", 1)[1].encode() not in part for pair in stored.items() for part in pair)


@pytest.mark.parametrize(
    ("name", "origins"),
    [
        ("", ["https://app.example"]),
        (" ", ["https://app.example"]),
        ("x" * 81, ["https://app.example"]),
        ("a\x07b", ["https://app.example"]),
        ("OpenRouter ✓", ["https://app.example"]),
        ("This Machine", ["https://app.example"]),
        ("X", []),
        ("X", ["http://app.example"]),
        ("X", ["https://app.example", "https://*.app.example"]),
        ("X", ["null"]),
    ],
)
async def test_a_bad_name_or_origin_registers_nothing(stack: Stack, name: str, origins: list[str]) -> None:
    """It is refused with what to change."""
    before = await stack.redis.smembers("wf:apps")
    with pytest.raises(CommandRefused, match=r"^--(name|origin) "):
        await create_app(
            stack.gateway.services, argparse.Namespace(name=name, origin=origins, return_url=[], webhook_url=None)
        )
    assert await stack.redis.smembers("wf:apps") == before


async def test_a_store_that_is_away_is_one_line() -> None:
    """One line on standard error instead of a traceback, and nothing on standard output, which is for the answer."""
    variables = environment("redis://127.0.0.1:1/0", WATTFARE_REDIS_DEADLINE_MS="100")
    code, out, errors = await command("scripts.create_app", "--name", "X", variables=variables)
    assert (code, out, errors.count("\n")) == (1, "", 1)
    assert "REDIS_URL" in errors


def test_what_to_do_next_can_be_pasted() -> None:
    """Without `--json`: two lines of environment, the page, the backend, with the app's keys and this place's URLs."""
    app = {
        "appId": "app1",
        "publishableKey": "pk_live_app1",
        "secretKey": "sk_live_app1_x",
        "testSecretKey": "sk_test_x",
    }
    urls = {"WATTFARE_PUBLIC_URL": "http://127.0.0.1:9080", "WATTFARE_CONSENT_URL": "http://127.0.0.1:9081"}
    said = "\n".join(next_steps(app, Settings.load({**RINGS, **urls})))
    assert "export PUBLIC_WATTFARE_KEY=pk_live_app1\nexport WATTFARE_SECRET_KEY=sk_live_app1_x\n" in said
    assert "publishableKey: 'pk_live_app1'," in said
    assert "from 'http://127.0.0.1:9081/sdk/client.js'" in said
    assert 'AsyncWattfare(os.environ["WATTFARE_SECRET_KEY"], "http://127.0.0.1:9080")' in said
    assert "http://127.0.0.1:9081/docs" in said
    assert not re.search(r"127\.0\.0\.1:808|…|```", said)
