"""Accepting a Redis that lost data: only on the operator's word, and then at once."""

import json

from tests.gateway.process import command, environment
from tests.gateway.stack import Stack


async def test_an_emptied_store_is_refused_until_it_is_accepted(redis_url: str, stack: Stack) -> None:
    """Spend that fell back to zero is no spend of zero: 503 until somebody says that the loss is known."""
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
