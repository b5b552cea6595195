"""The sandbox over HTTP: chunks are sent one by one, aborts billed exactly, keys behave by their names."""

import asyncio
import json
from decimal import Decimal
from hashlib import sha256
from typing import Any

import aiohttp
import pytest

from sandbox.bill import Bill, Entry, GenerationState
from sandbox.server import BILL_KEY, create_app
from sandbox.settings import SandboxSettings
from tests.sandbox.clock import Client, Clock, Connect

_KEY = "sk-or-v1-alice"
_CHAT = "/api/v1/chat/completions"


def _auth(key: str = _KEY) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _body(model: str, *, stream: bool = True, text: str = "four") -> dict[str, Any]:
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}


def _bill(client: Client) -> Bill:
    return client.app[BILL_KEY]


def _only_entry(client: Client) -> Entry:
    [entry] = _bill(client).entries()
    return entry


async def _until_all_ended(client: Client) -> None:
    async with asyncio.timeout(5):
        await _bill(client).all_ended()


async def _raw(client: Client, model: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection of its own and send a streamed request on it."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    payload = json.dumps(_body(model)).encode()
    head = f"POST {_CHAT} HTTP/1.1\r\nHost: sandbox\r\nAuthorization: Bearer {_KEY}\r\nContent-Length: {len(payload)}"
    writer.write(head.encode() + b"\r\nContent-Type: application/json\r\n\r\n" + payload)
    await reader.readuntil(b"PROCESSING")
    return reader, writer


async def test_a_stream_is_served_and_billed(client: Client) -> None:
    """The headers are those of the real edge, the bill is what the usage stated."""
    async with client.post(_CHAT, json=_body("sandbox/price-0.0123"), headers=_auth()) as response:
        raw = await response.text()
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "__cf_bm" in response.headers["Set-Cookie"]
    assert raw.endswith("data: [DONE]\n\n")
    entry = _only_entry(client)
    assert response.headers["X-Generation-Id"] == entry.answer.generation_id
    assert (entry.state, entry.cost_nano) == (GenerationState.DONE, 12_300_000)
    assert entry.key_sha256 == sha256(_KEY.encode()).hexdigest()


async def test_chunks_go_out_one_by_one(client: Client) -> None:
    """The first token is here while the second is still an age away."""
    reader, writer = await _raw(client, "sandbox/silent")
    async with asyncio.timeout(5):
        await reader.readuntil(b'"content":"four"')
    assert _only_entry(client).state is GenerationState.OPEN
    writer.close()
    await _until_all_ended(client)


@pytest.mark.parametrize(
    ("model", "cost_nano"), [("sandbox/silent", 3_000), ("sandbox/slow-600000", 0), ("sandbox/hang-after-done", 3_000)]
)
async def test_a_client_that_hangs_up_is_noticed_during_a_pause(client: Client, model: str, cost_nano: int) -> None:
    """Within moments, though the pause has hours to go; billed for what was produced before."""
    reader, writer = await _raw(client, model)
    if cost_nano:
        await reader.readuntil(b'"content":"four"')
    if model == "sandbox/hang-after-done":
        await reader.readuntil(b"[DONE]")
    writer.close()
    entry = _only_entry(client)
    await _until_all_ended(client)
    assert entry.cost_nano == cost_nano
    assert entry.state is (GenerationState.DONE if model == "sandbox/hang-after-done" else GenerationState.CANCELLED)


async def test_an_abort_is_billed_for_the_tokens_sent(client: Client) -> None:
    """Bill and /generation agree on the tokens produced before the client left."""
    reader, writer = await _raw(client, "sandbox/long-1000000")
    for _ in range(50):
        await reader.readuntil(b'"content":"')
    writer.transport.abort()
    entry = _only_entry(client)
    await _until_all_ended(client)
    assert 50 <= entry.produced_tokens < 1_000_000
    assert entry.cost_nano == 1_000 + 2_000 * entry.produced_tokens
    assert json.loads(entry.generation(), parse_float=Decimal)["data"]["total_cost"] * 10**9 == entry.cost_nano


@pytest.mark.parametrize("stream", [True, False])
async def test_a_cut_is_no_clean_end(client: Client, stream: bool) -> None:
    """The client's connection drops; the produced tokens are billed."""
    async with client.post(_CHAT, json=_body("sandbox/cut", stream=stream), headers=_auth()) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert (_only_entry(client).state, _only_entry(client).cost_nano) == (GenerationState.DONE, 3_000)


async def test_generation_comes_late_and_only_to_its_own_key(client: Client, clock: Clock) -> None:
    """404 until the delay is over, 404 to any other key, then the true cost."""
    async with client.post(_CHAT, json=_body("sandbox/usage-missing"), headers=_auth()) as response:
        await response.read()
    path = f"/api/v1/generation?id={response.headers['X-Generation-Id']}"
    early = await client.get(path, headers=_auth())
    assert early.status == 404
    assert (await early.json())["error"]["message"].endswith("not found")
    clock.seconds += 1
    assert (await client.get(path, headers=_auth("sk-or-v1-bob"))).status == 404
    record = (await (await client.get(path, headers=_auth())).json())["data"]
    assert (record["total_cost"], record["cancelled"]) == (0.000003, False)


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        ({}, 401, "Missing Authentication header"),
        ({"Authorization": "Bearer nonsense"}, 401, "User not found."),
        (_auth("sk-or-v1-a-revoked-key"), 401, "User not found."),
        (_auth("sk-or-v1-a-nocredit-key"), 402, "Insufficient credits. Add more using https://openrouter.ai/credits"),
        (_auth("sk-or-v1-a-mgmt-key"), 403, "Management keys cannot be used for inference"),
    ],
)
async def test_keys_behave_as_their_names_say(
    client: Client, headers: dict[str, str], status: int, message: str
) -> None:
    """Each refusal has OpenRouter's shape and nothing is billed."""
    async with client.post(_CHAT, json=_body("sandbox/echo"), headers=headers) as response:
        error = (await response.json())["error"]
    assert (response.status, error) == (status, {"message": message, "code": status} | _null_metadata(error))
    assert list(_bill(client).entries()) == []


def _null_metadata(error: dict[str, object]) -> dict[str, object]:
    return {"metadata": error["metadata"]} if "metadata" in error else {}


async def test_a_limited_key_stops_when_it_is_used_up(client: Client) -> None:
    """The request that crosses the limit is served; the next is the 403 of a key limit."""
    headers = _auth("sk-or-v1-a-limit5-key")
    for _ in range(5):
        async with client.post(_CHAT, json=_body("sandbox/price-1"), headers=headers) as response:
            assert response.status == 200
    key = (await (await client.get("/api/v1/key", headers=headers)).json())["data"]
    assert (key["limit"], key["limit_remaining"], key["usage"]) == (5, 0, 5)
    async with client.post(_CHAT, json=_body("sandbox/price-1"), headers=headers) as response:
        assert response.status == 403
        assert "Key limit exceeded (total limit)" in await response.text()


@pytest.mark.parametrize("path", ["/api/v1/key", "/api/v1/auth/key"])
async def test_a_key_can_be_asked_about(client: Client, path: str) -> None:
    """Both names answer alike; byok is counted apart."""
    async with client.post(_CHAT, json=_body("sandbox/byok"), headers=_auth()) as response:
        await response.read()
    key = (await (await client.get(path, headers=_auth())).json())["data"]
    assert (key["usage"], key["byok_usage"], key["limit"], key["is_management_key"]) == (0, 0.000003, None, False)
    assert (await client.get(path)).status == 401


async def test_the_bill_is_told_and_reset(client: Client) -> None:
    """Each key by its SHA-256, each generation with cost and state; a reset empties it."""
    async with client.post(_CHAT, json=_body("sandbox/exponent"), headers=_auth()) as response:
        await response.read()
    bill = await (await client.get("/sandbox/bill")).json()
    [generation] = bill["keys"][sha256(_KEY.encode()).hexdigest()]["generations"]
    assert generation | {"id": ""} == {
        "id": "",
        "model": "sandbox/exponent",
        "cost": "9e-7",
        "cost_nano": 900,
        "is_byok": False,
        "state": "done",
        "cancelled": False,
    }
    assert (await client.post("/sandbox/reset")).status == 204
    assert (await (await client.get("/sandbox/bill")).json())["keys"] == {}


async def test_models_are_listed_with_their_prices(aiohttp_client: Connect) -> None:
    """The list, one more member of a family by setting, and the endpoints of any member."""
    client = await aiohttp_client(create_app(SandboxSettings(listed_models=("sandbox/price-0.5", "no/such"))))
    listed = await (await client.get("/api/v1/models")).json()
    prices = {entry["id"]: entry["pricing"] for entry in listed["data"]}
    assert prices["sandbox/price-0.5"] == {"prompt": "0", "completion": "0", "request": "0.5"}
    assert listed["total_count"] == len(prices)
    found = await (await client.get("/api/v1/models/sandbox/price-7/endpoints")).json()
    assert found["data"]["endpoints"][0]["pricing"]["request"] == "7"
    assert (await client.get("/api/v1/models/no/such/endpoints")).status == 404


@pytest.mark.parametrize("payload", [b"{", b"[]", b'{"model":"no/such","messages":[{"role":"user","content":"x"}]}'])
async def test_a_bad_request_is_a_400(client: Client, payload: bytes) -> None:
    """No JSON, no object, no such model: the error shape, nothing billed."""
    async with client.post(_CHAT, data=payload, headers=_auth()) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, 400)
    assert list(_bill(client).entries()) == []


async def test_the_first_page_names_the_models(client: Client) -> None:
    """The start page lists the models."""
    assert "sandbox/slow-&lt;ms&gt;" in await (await client.get("/")).text()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("chat/completions", {"error": {"message": "Missing Authentication header", "code": 401}}),
        ("embeddings", {"error": {"message": "Missing Authentication header", "code": 401}}),
        (
            "responses",
            {"error": {"message": "Missing Authentication header", "code": "authentication"}, "metadata": None},
        ),
        (
            "messages",
            {
                "type": "error",
                "error": {
                    "type": "authentication_error",
                    "message": "Missing Authentication header",
                    "error_type": "authentication",
                },
                "request_id": None,
            },
        ),
    ],
)
async def test_a_key_is_refused_in_the_dialects_own_words(client: Client, path: str, said: object) -> None:
    """Before anything of the request was read."""
    async with client.post(f"/api/v1/{path}", json={}) as response:
        assert (response.status, await response.json()) == (401, said)
