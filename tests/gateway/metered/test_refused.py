"""Every error before an answer, in every dialect, over real sockets: its shape, its headers, what it is for."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import openai
import pytest

from gateway.openrouter.dialects import Dialect
from tests.fakes import Exchange, FakeOpenRouter, Play, refuses, streams
from tests.gateway.stack import ReadAnswer, Stack, open_stack, settings_for
from tests.gateway.wire_cases import SAMPLES, DialectSample, event

EACH = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.dialect.value)


async def ask(
    stack: Stack, sample: DialectSample, headers: Mapping[str, str] | None = None, *, body: bytes | None = None
) -> ReadAnswer:
    """Ask in a dialect as the connected user."""
    sent = json.dumps(sample.ask(stream=False)).encode() if body is None else body
    return await stack.ask("POST", sample.path, body=sent, headers=stack.as_user() if headers is None else headers)


def said(answer: ReadAnswer, sample: DialectSample) -> dict[str, Any]:
    """The error object of an answer, once it was found whole and in the dialect's shape."""
    assert answer.refusal[0] == answer.status
    error: dict[str, Any] = answer.document["error"]
    if sample.dialect is Dialect.MESSAGES:
        assert (list(answer.document), answer.document["type"]) == (["type", "error"], "error")
    else:
        assert list(answer.document) == ["error"]
    return error


@EACH
async def test_every_error_comes_in_the_dialects_own_shape(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample
) -> None:
    """Errors of key, payer, cap, body, path, method and upstream all have the dialect's shape."""
    await stack.connect("0.0000001", user="poor")
    openrouter.play = refuses(429, {"code": 429, "message": "slow down"})
    document = sample.ask(stream=False)
    answers = [
        (await ask(stack, sample, {}), 401, "auth", "authentication_error"),
        (await ask(stack, sample, stack.as_user("nobody")), 402, "not_connected", "billing_error"),
        (await ask(stack, sample, stack.as_user("poor")), 402, "budget_exceeded", "billing_error"),
        (await ask(stack, sample, body=b"{"), 400, "invalid_request", "invalid_request_error"),
        (await ask(stack, sample, body=b"x" * 64_000_000), 413, "invalid_request", "request_too_large"),
        (await ask(stack, sample), 429, "rate_limited", "rate_limit_error"),
        (await stack.ask("GET", sample.path), 405, "invalid_request", "invalid_request_error"),
        (await stack.ask("POST", f"/api{sample.path}/x", document=document), 404, "invalid_request", "not_found_error"),
    ]
    for answer, status, code, kind in answers:
        error = said(answer, sample)
        assert (answer.status, error["code"]) == (status, code)
        assert sample.dialect is not Dialect.MESSAGES or error["type"] == kind
    assert len(openrouter.received) == 1


@EACH
async def test_a_refusal_of_upstreams_keeps_what_it_says(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample
) -> None:
    """Status, message and metadata, less the names of keys and accounts."""
    raw = '{"error":"user_2abcDEF9 asks for temperature 9"}'
    metadata = {"raw": raw, "provider_name": "Acme", "error_type": "invalid_request"}
    openrouter.play = refuses(422, {"code": 422, "message": "Provider returned error", "metadata": metadata})
    error = said(answer := await ask(stack, sample), sample)
    assert (answer.status, error["code"], error["message"]) == (422, "invalid_request", "Provider returned error")
    assert error["metadata"] == {**metadata, "raw": raw.replace("user_2abcDEF9", "[removed]")}


@EACH
@pytest.mark.parametrize("is_inside", [False, True], ids=["before", "inside a stream"])
async def test_a_request_too_dear_for_the_credit_leaves_the_connection_alone(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample, *, is_inside: bool
) -> None:
    """The error suggests a smaller max_tokens, and the next request is sent upstream."""
    error = {"code": 402, "message": "This request requires more credits, or fewer max_tokens: can only afford 12."}
    openrouter.play = streams([event({"error": error})]) if is_inside else refuses(402, error)
    answer = await ask(stack, sample)
    if not is_inside:
        refused = said(answer, sample)
        assert (answer.status, refused["code"], refused["limit"]) == (402, "budget_exceeded", "credit")
        assert "smaller max_tokens" in refused["message"]
    [entry] = await stack.booked()
    assert entry["status"] == "void"
    openrouter.play = streams([sample.document], {"Content-Type": "application/json"})
    assert (await ask(stack, sample)).status == 200


@EACH
async def test_the_secret_key_may_come_as_anthropics_clients_send_it(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample
) -> None:
    """`x-api-key` is read if Authorization is absent, and is not relayed; a publishable or wrong key is refused."""
    openrouter.play = streams([sample.document], {"Content-Type": "application/json"})
    payer = {"x-wattfare-user": "ada"}
    assert (await ask(stack, sample, {**payer, "x-api-key": stack.secret})).status == 200
    assert "x-api-key" not in openrouter.last.names
    wrong = [{"x-api-key": stack.app["publishableKey"]}, {"x-api-key": "sk_live_x"}, {"x-api-key": ""}]
    # An Authorization header takes precedence over any x-api-key.
    wrong.append({"Authorization": "Bearer x", "x-api-key": stack.secret})
    answers = [await ask(stack, sample, {**payer, **sent}) for sent in wrong]
    assert [answer.refusal for answer in answers] == [(401, "auth")] * 4
    assert "publishable" in said(answers[0], sample)["message"]
    status = await stack.ask("GET", "/v1/status?appUserId=ada", headers={"x-api-key": stack.secret})
    assert status.document["connected"] is True


@EACH
async def test_a_rate_limits_wait_is_told_in_seconds(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample
) -> None:
    """However upstream states it."""
    error = {"code": 429, "message": "slow down"}
    delayed = {**error, "metadata": {"raw": json.dumps({"error": {"details": [{"retryDelay": "12s"}]}})}}
    for stated, headers in ((error, {"Retry-After": "12s"}), (error, {"Retry-After-Ms": "11500"}), (delayed, {})):
        openrouter.play = refuses(429, stated, headers)
        answer = await ask(stack, sample)
        assert (answer.refusal, answer.headers["Retry-After"]) == ((429, "rate_limited"), "12")
        assert said(answer, sample)["retryAfter"] == 12


@EACH
async def test_the_requests_id_stands_where_libraries_look_for_it(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample
) -> None:
    """On answers and errors; an upstream header of that name is relayed instead of ours."""
    json_label = {"Content-Type": "application/json"}
    openrouter.play = streams([sample.document], json_label)
    answers = [await ask(stack, sample), await ask(stack, sample, {}), await ask(stack, sample, body=b"{")]
    assert [answer.status for answer in answers] == [200, 401, 400]
    for answer in answers:
        assert answer.headers.getall("x-request-id") == [answer.headers["x-wattfare-request-id"]]
    openrouter.play = streams([sample.document], {**json_label, "X-Request-Id": "req-7"})
    assert (await ask(stack, sample)).headers.getall("x-request-id") == ["req-7"]


async def falls_silent(turn: Exchange) -> None:
    """Read the request and never answer."""
    await turn.until_closed()


async def hangs_up(turn: Exchange) -> None:
    """Take the request and break off."""
    turn.writer.transport.abort()


@pytest.fixture
async def hasty(redis_url: str, openrouter: FakeOpenRouter) -> AsyncIterator[Stack]:
    """A gateway that waits a second for upstream's first byte."""
    patience = {"WATTFARE_UPSTREAM_FIRST_BYTE_SECONDS": "1", "WATTFARE_RECONCILE_SECONDS": "1"}
    async with open_stack(settings_for(redis_url, openrouter.url, **patience)) as running:
        await running.connect()
        yield running


@EACH
@pytest.mark.parametrize(("play", "status"), [(falls_silent, 504), (hangs_up, 502)], ids=["silent", "broken"])
async def test_what_left_and_may_be_billed_is_not_to_be_sent_again(
    hasty: Stack, openrouter: FakeOpenRouter, sample: DialectSample, play: Play, status: int
) -> None:
    """The SDKs would send it three times, and each may cost."""
    openrouter.play = play
    answer = await ask(hasty, sample)
    assert (answer.status, answer.headers["x-should-retry"]) == (status, "false")
    assert "may be billed" in said(answer, sample)["message"]
    [entry] = await hasty.booked()
    assert entry["status"] == "estimated"


@EACH
async def test_what_owes_nothing_may_be_sent_again(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample
) -> None:
    """A provider that failed before any work: the status alone decides, as it does without us."""
    openrouter.play = refuses(502, {"code": 502, "message": "Provider returned error"})
    answer = await ask(stack, sample)
    assert answer.refusal == (502, "upstream")
    assert "x-should-retry" not in answer.headers
    assert "billed" not in said(answer, sample)["message"]


@EACH
async def test_where_waiting_helps_the_clients_are_told_to(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample
) -> None:
    """402 while another request holds the rest: no client would try that again by itself."""
    second: list[ReadAnswer] = []

    async def ask_meanwhile(turn: Exchange) -> None:
        second.append(await ask(stack, sample))
        await turn.refuse(429, b"{}")

    openrouter.play = ask_meanwhile
    body = json.dumps({**sample.ask(stream=False), "model": "acme/router"}).encode()
    assert (await ask(stack, sample, body=body)).status == 429
    assert second[0].refusal == (402, "budget_exceeded")
    assert second[0].headers["x-should-retry"] == "true"
    assert int(second[0].headers["Retry-After"]) == said(second[0], sample)["retryAfter"] > 0


@EACH
async def test_the_openai_library_sends_what_may_be_billed_once(
    stack: Stack, openrouter: FakeOpenRouter, sample: DialectSample
) -> None:
    """It would send a 502 three times; and it shows the request's id."""
    openrouter.play = hangs_up
    async with openai.AsyncOpenAI(
        api_key=stack.secret, base_url=f"{stack.url}/v1", default_headers={"x-wattfare-user": "ada"}, max_retries=2
    ) as client:
        with pytest.raises(openai.InternalServerError) as raised:
            await client.post(f"/{sample.dialect.value}", body=sample.ask(stream=False), cast_to=object)
    assert len(openrouter.received) == 1
    [entry] = await stack.booked()
    assert (raised.value.request_id, entry["status"]) == (entry["request_id"], "estimated")
