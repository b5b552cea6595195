"""Accepting a Redis that lost data: only by the operator's command, and with immediate effect."""

import json
from pathlib import Path

import orjson
import pytest

from gateway import keys
from gateway.store.epoch import cluster_keys
from tests.gateway.process import command, environment
from tests.gateway.stack import Stack
from tests.servers import open_client


async def test_an_emptied_store_is_refused_until_it_is_accepted(redis_url: str, stack: Stack) -> None:
    """Lost spend is not zero spend: 503 until the operator accepts the loss."""
    await stack.redis.flushall()
    await stack.gateway.services.store.beat()
    refused = await stack.ask("GET", "/readyz")
    assert refused.refusal == (503, "unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    assert (await stack.ask("GET", "/healthz")).status == 200
    assert (await stack.chat()).refusal == (503, "unavailable")

    variables = environment(redis_url)
    code, out, errors = await command("scripts.accept_store", variables=variables)
    assert (code, out, errors.count("\n")) == (1, "", 1)
    assert "--yes" in errors
    code, out, _ = await command("scripts.accept_store", "--yes", "--json", variables=variables)
    assert (code, json.loads(out)) == (0, {"accepted": True})
    await stack.gateway.services.store.beat()
    assert (await stack.ask("GET", "/readyz")).status == 200


async def _accepted(redis_url: str, stack: Stack, **more: str) -> None:
    """Refused as it is; accepted, it serves again, and the next process finds nothing to doubt."""
    variables = environment(redis_url, **more)
    assert (await command("scripts.verify", variables=variables))[0] == 1
    code, out, errors = await command("scripts.accept_store", "--yes", "--json", variables=variables)
    assert (code, errors, json.loads(out)) == (0, "", {"accepted": True})
    assert (await command("scripts.verify", variables=variables))[0] == 0
    await stack.gateway.services.store.beat()
    assert (await stack.ask("GET", "/readyz")).status == 200


async def test_an_older_store_can_be_accepted(redis_url: str, stack: Stack) -> None:
    """A process had known a newer state, and recorded that in it."""
    with open_client(redis_url) as client:
        client.hset(keys.INSTANCE, "older", "1")
    await _accepted(redis_url, stack)


async def test_another_store_than_the_remembered_can_be_accepted(redis_url: str, stack: Stack, tmp_path: Path) -> None:
    """An earlier process's state file does not outlive the acceptance."""
    state_file = tmp_path / "state"
    state_file.write_bytes(orjson.dumps({keys.INSTANCE: ["another", 9, 1]}))
    await _accepted(redis_url, stack, WATTFARE_STATE_FILE=str(state_file))


@pytest.mark.parametrize("redis_url", ["cluster"], indirect=True)
async def test_a_cluster_with_an_emptied_master_can_be_accepted(redis_url: str, stack: Stack) -> None:
    """It is begun anew beside the others."""
    with open_client(redis_url) as client:
        client.delete(cluster_keys()[3])
    await _accepted(redis_url, stack)
