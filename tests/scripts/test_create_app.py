"""Registering an app: its keys are shown once, its origins are checked."""

import argparse
import json
import re

import pytest

from scripts.command import CommandRefused
from scripts.create_app import create_app
from tests.gateway.process import command, environment
from tests.gateway.stack import Stack, question


async def test_a_new_app_works_at_once_with_live_and_test_keys(redis_url: str, stack: Stack) -> None:
    """The printed names are the contract's; the keys have its forms; a running gateway takes them."""
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
        await create_app(stack.gateway.services, argparse.Namespace(name=name, origin=origins, return_url=[]))
    assert await stack.redis.smembers("wf:apps") == before


async def test_a_store_that_is_away_is_one_line() -> None:
    """It says so on standard error instead of a trace, and nothing on standard output, which is for the answer."""
    variables = environment("redis://127.0.0.1:1/0", WATTFARE_REDIS_DEADLINE_MS="100")
    code, out, errors = await command("scripts.create_app", "--name", "X", variables=variables)
    assert (code, out, errors.count("\n")) == (1, "", 1)
    assert "REDIS_URL" in errors
