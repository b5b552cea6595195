"""Each dialect before the sandbox: what the ledger books is what was billed, under each fault."""

import json

import aiohttp
import pytest

from gateway.openrouter.dialects import Dialect
from tests.gateway.conftest import BilledNano
from tests.gateway.sandbox_outcomes import REFUSED, WHOLE
from tests.gateway.stack import Stack
from tests.simulator.asking import PROMPTS

_FAULTS = (
    "sandbox/echo",
    "sandbox/price-0.25",
    "sandbox/byok",
    "sandbox/usage-missing",
    "sandbox/cost-missing",
    "sandbox/cost-null",
    "sandbox/usage-doubled",
    "sandbox/stream-error",
    "sandbox/stream-error-402",
    "sandbox/stream-error-billed",
    "sandbox/stream-error-usage",
    "sandbox/hang-after-done",
)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("dialect", [each for each in Dialect if each is not Dialect.CHAT])
@pytest.mark.parametrize("model", _FAULTS)
async def test_an_answer_is_booked_at_its_bill(
    sandboxed: Stack, billed_nano: BilledNano, dialect: Dialect, model: str, *, stream: bool
) -> None:
    """Whatever the dialect, as in chat."""
    body = {"model": model, "stream": stream, **PROMPTS[dialect.value]}
    answer = await sandboxed.ask(
        "POST", f"/v1/{dialect.value}", body=json.dumps(body).encode(), headers=sandboxed.as_user()
    )
    assert answer.status == 200
    [entry] = await sandboxed.booked()
    assert (entry["status"], int(entry["cost_nano"])) == (WHOLE[model], await billed_nano())
    assert (await sandboxed.standing()).held_nano == 0


@pytest.mark.parametrize("dialect", [each for each in Dialect if each is not Dialect.CHAT])
@pytest.mark.parametrize("model", REFUSED)
async def test_a_refusal_is_mapped_and_void(sandboxed: Stack, dialect: Dialect, model: str) -> None:
    """Refusals in each dialect's own shape are mapped alike and voided."""
    body = {"model": model, **PROMPTS[dialect.value]}
    answer = await sandboxed.ask("POST", f"/v1/{dialect.value}", document=body, headers=sandboxed.as_user())
    assert (answer.status, answer.document["error"]["code"]) == REFUSED[model]
    assert b"user_" not in answer.body
    [entry] = await sandboxed.booked()
    assert (entry["status"], entry["cost_nano"], entry["ended_by"]) == ("void", "0", "refused")


@pytest.mark.parametrize("model", ["sandbox/stream-error-402", "sandbox/stream-error-403-key"])
@pytest.mark.parametrize("dialect", Dialect)
async def test_a_refused_credit_inside_an_answer_is_remembered(sandboxed: Stack, dialect: Dialect, model: str) -> None:
    """The next call is refused here."""
    body = {"model": model, "stream": True, **PROMPTS[dialect.value]}
    answer = await sandboxed.ask("POST", f"/v1/{dialect.value}", document=body, headers=sandboxed.as_user())
    assert answer.status == 200
    await sandboxed.booked()
    assert (await sandboxed.chat()).refusal == (402, "funding_invalid")


@pytest.mark.parametrize("dialect", [each for each in Dialect if each is not Dialect.CHAT])
async def test_a_cut_is_booked_at_its_bill(sandboxed: Stack, billed_nano: BilledNano, dialect: Dialect) -> None:
    """The caller's connection breaks, and the cost that /generation states for the partial answer is booked.

    An embeddings answer has its id at the end: a truncated one cannot be looked up and is estimated.
    """
    body = {"model": "sandbox/cut", "stream": True, **PROMPTS[dialect.value]}
    with pytest.raises(aiohttp.ClientError):
        await sandboxed.ask("POST", f"/v1/{dialect.value}", document=body, headers=sandboxed.as_user())
    [entry] = await sandboxed.booked()
    booked, billed = int(entry["cost_nano"]), await billed_nano()
    if dialect is Dialect.EMBEDDINGS:
        assert (entry["status"], booked >= billed) == ("estimated", True)
    else:
        assert booked == billed > 0
    assert (await sandboxed.standing()).held_nano == 0
