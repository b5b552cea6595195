"""The metered path over real sockets: what OpenRouter receives, what the caller receives, the ledger's entries."""

import asyncio
import json
import random
import threading
from decimal import ROUND_CEILING

import pytest

from gateway.ledger import holds as ledger
from gateway.metered.body import ChatRequest
from gateway.metered.inflight import OpenRequest
from gateway.metered.meter import Meter
from gateway.openrouter.dialects import Dialect
from tests.fakes import COST_NANO, EVENT_STREAM, MODEL, PLAIN, STREAMED, Exchange, FakeOpenRouter, refuses, streams
from tests.gateway.recordings import Recording, each_recording
from tests.gateway.stack import FUNDING_KEY, Stack, question

pytestmark = pytest.mark.each_store

_HOP_BY_HOP = {
    "Connection": "x-named, keep-alive",
    "Keep-Alive": "timeout=5",
    "TE": "trailers",
    "Proxy-Authorization": "Basic eA==",
    "X-Named": "1",
}
_PRIVATE = {
    "x-api-key": "sk-caller",
    "Cookie": "a=b",
    "x-wattfare-anything": "1",
    "X-Forwarded-For": "192.0.2.1",
    "Forwarded": "for=192.0.2.1",
    "Origin": "https://app.example",
    "Accept-Encoding": "gzip",
}


@pytest.mark.parametrize(("stream", "expected"), [(True, STREAMED), (False, PLAIN)])
async def test_an_answer_is_passed_on_and_booked_at_its_stated_cost(
    stack: Stack, openrouter: FakeOpenRouter, *, stream: bool, expected: bytes
) -> None:
    """Every byte of the answer arrives, and the ledger holds one settled entry."""
    answer = await stack.chat(question(stream=stream))
    assert (answer.status, answer.body) == (200, expected)
    [entry] = await stack.booked()
    assert (entry["status"], int(entry["cost_nano"]), entry["model"]) == ("settled", COST_NANO, MODEL)
    assert (entry["prompt_tokens"], entry["completion_tokens"]) == ("3", "1")
    assert entry["request_id"] == answer.headers["x-wattfare-request-id"]
    assert (entry["generation_id"], entry["ended_by"]) == ("gen-1-fake", "complete")
    standing = await stack.standing()
    assert (standing.held_nano, standing.spent_nano) == (0, COST_NANO)


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
async def test_both_prefixes_serve_the_path(stack: Stack, prefix: str) -> None:
    """`/v1` and `/api/v1` are the same."""
    answer = await stack.ask("POST", f"{prefix}/chat/completions", document=question(), headers=stack.as_user())
    assert answer.status == 200


async def test_the_body_reaches_upstream_byte_for_byte(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Blanks, key order, escapes, unknown fields and number spellings are unchanged."""
    body = (
        b' {"z":1.50, "messages" : [{"role":"user","content":"\\u00e9\xc3\xa9\\n"}],\n\t"model":"acme/large",'
        b'"max_tokens":20,"temperature":1E0,"unknown":{"a":[null,true]} } \n'
    )
    assert (await stack.chat(body=body)).status == 200
    assert openrouter.last.body == body
    assert openrouter.last.header("Content-Length") == str(len(body))
    assert openrouter.last.target == "/api/v1/chat/completions"


async def test_upstream_sees_the_payers_key_and_nothing_of_the_caller(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Credentials, cookies, addresses, hop-by-hop and the gateway's headers are dropped; the rest is relayed."""
    more = {"X-Title": "Example", "HTTP-Referer": "https://app.example", **_HOP_BY_HOP, **_PRIVATE}
    assert (await stack.chat(headers=stack.as_user(**more))).status == 200
    seen = openrouter.last
    assert seen.header("Authorization") == f"Bearer {FUNDING_KEY}"
    assert seen.header("Accept-Encoding") == "identity"
    assert seen.header("X-Title") == "Example"
    assert seen.header("HTTP-Referer") == "https://app.example"
    unwanted = {name.lower() for name in (*_HOP_BY_HOP, *_PRIVATE)} - {"accept-encoding", "connection"}
    assert seen.names.isdisjoint({*unwanted, "x-wattfare-user", "transfer-encoding"})
    assert stack.secret.encode() not in seen.body
    assert all(stack.secret not in value for _, value in seen.headers)


async def test_the_answers_headers_are_passed_on_less_those_of_the_hop(
    stack: Stack, openrouter: FakeOpenRouter
) -> None:
    """X-Generation-Id and the provider's headers arrive; cookies, CORS, hop-by-hop and forged ones of ours do not."""
    dropped = {
        "Set-Cookie": "__cf_bm=1; Path=/",
        "Keep-Alive": "timeout=9",
        "Access-Control-Allow-Origin": "*",
        "x-wattfare-remaining-usd": "99",
        "Strict-Transport-Security": "max-age=1",
        "Server": "cloudflare",
    }
    openrouter.play = streams([STREAMED], {**EVENT_STREAM, **dropped, "X-Generation-Id": "gen-1-fake", "cf-ray": "r"})
    answer = await stack.chat(question(stream=True))
    assert answer.headers["X-Generation-Id"] == "gen-1-fake"
    assert answer.headers["cf-ray"] == "r"
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["x-wattfare-request-id"].startswith("req_")
    assert answer.headers.getall("x-wattfare-remaining-usd") == ["5"]
    assert answer.headers["Server"] == "wattfare"
    gone = set(dropped) - {"x-wattfare-remaining-usd", "Server"}
    assert gone.isdisjoint(answer.headers)
    assert "x-wattfare-max-tokens" not in answer.headers


async def test_a_request_that_does_not_fit_is_shortened_and_says_so(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Only the number of the ceiling changes in the bytes that go upstream."""
    await stack.connect("0.01", user="poor")
    body = b'{"model":"acme/large", "max_tokens" : 9000 ,"messages":[{"role":"user","content":"Hi"}]}'
    answer = await stack.chat(body=body, headers=stack.as_user("poor"))
    assert answer.status == 200
    allowed = answer.headers["x-wattfare-max-tokens"]
    assert 16 <= int(allowed) < 5000
    assert openrouter.last.body == body.replace(b"9000", allowed.encode())
    [entry] = await stack.booked("poor")
    assert int(entry["hold_nano"]) <= 10_000_000


async def test_a_request_without_a_ceiling_is_given_one(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """`max_tokens` is appended, and every other byte is kept."""
    await stack.connect("0.01", user="poor")
    body = json.dumps(question()).encode()
    answer = await stack.chat(body=body, headers=stack.as_user("poor"))
    added = b',"max_tokens":%s}' % answer.headers["x-wattfare-max-tokens"].encode()
    assert openrouter.last.body == body[:-1] + added


async def test_what_cannot_carry_sixteen_tokens_never_leaves(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """402 budget_exceeded; no hold is placed and upstream gets no request."""
    await stack.connect("0.0001", user="poor")
    assert (await stack.chat(headers=stack.as_user("poor"))).refusal == (402, "budget_exceeded")
    assert openrouter.received == []
    assert await stack.nothing_is_lost("poor")


async def test_amounts_are_said_as_people_write_them(stack: Stack) -> None:
    """A millionth of a dollar is 0.000001 in message, status and header, never 1e-06."""
    await stack.connect("0.000001", user="poor")
    refused = await stack.chat(headers=stack.as_user("poor"))
    assert "The 0.000001 USD that are left" in refused.document["error"]["message"]
    status = await stack.ask("GET", "/v1/status?appUserId=poor", headers=stack.as_user())
    assert b'"remainingUsd":0.000001}' in status.body
    assert json.loads(status.body)["limits"] == {"monthlyUsd": 0.000001}
    await stack.connect_test("0.000001")
    played = await stack.chat(headers=stack.as_user(secret=stack.test_secret))
    assert played.headers["x-wattfare-remaining-usd"] == "0.000001"


async def test_an_unpriced_model_holds_all_that_is_left(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """While it runs, a second request gets a Retry-After; afterwards the rest is released."""

    async def ask_meanwhile(turn: Exchange) -> None:
        openrouter.play = streams([STREAMED])
        second = await stack.chat(question())
        assert second.refusal == (402, "budget_exceeded")
        assert second.document["error"]["retryAfter"] == int(second.headers["Retry-After"]) > 0
        await streams([STREAMED])(turn)

    openrouter.play = ask_meanwhile
    assert (await stack.chat(question("acme/router", stream=True))).status == 200
    assert len(openrouter.received) == 1
    standing = await stack.standing()
    assert (standing.held_nano, standing.spent_nano) == (0, COST_NANO)


async def test_a_spent_cap_stops_the_next_request(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """A cost above the hold is booked in full; the next request is not sent upstream."""
    await stack.connect("0.001", user="poor")
    assert (await stack.chat(headers=stack.as_user("poor"))).status == 200
    [entry] = await stack.booked("poor")
    assert int(entry["cost_nano"]) == COST_NANO
    assert int(entry["overrun_nano"]) == COST_NANO - int(entry["hold_nano"]) > 0
    assert (await stack.chat(headers=stack.as_user("poor"))).refusal == (402, "budget_exceeded")
    assert len(openrouter.received) == 1


async def test_a_model_without_its_author_is_asked_about(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """OpenRouter's message is kept; a model is suggested only if the refusal is about the model; also in test mode."""
    openrouter.play = refuses(400, {"code": 400, "message": "large is not a valid model ID"})
    asked = await stack.chat(question("large"))
    assert asked.refusal == (400, "invalid_request")
    assert asked.document["error"]["message"] == "large is not a valid model ID (did you mean acme/large?)"
    openrouter.play = refuses(400, {"code": 400, "message": "top_k is too high"})
    assert (await stack.chat(question("large"))).document["error"]["message"] == "top_k is too high"
    await stack.connect_test()
    played = await stack.chat(question("large"), headers=stack.as_user(secret=stack.test_secret))
    assert "(did you mean acme/large?)" in played.document["error"]["message"]


async def test_a_user_who_is_not_connected_is_refused(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """402 not_connected, for an unknown user and after a revoke."""
    assert (await stack.chat(headers=stack.as_user("nobody"))).refusal == (402, "not_connected")
    await stack.gateway.services.connections.revoke(stack.budget())
    assert (await stack.chat()).refusal == (402, "not_connected")
    assert openrouter.received == []
    assert await stack.nothing_is_lost("nobody")


async def test_a_key_of_the_other_mode_is_told_that_modes_are_apart(stack: Stack) -> None:
    """Only of the app's own user, and only where they are connected there now."""
    test_key, apart = stack.as_user(secret=stack.test_secret), "test and live are apart"
    refused = await stack.chat(headers=test_key)
    assert refused.refusal == (402, "not_connected")
    said = refused.document["error"]["message"]
    assert said.startswith("This user is connected in live mode only, and this is a test key: test and live are apart.")
    await stack.connect_test(user="eve")
    assert "in test mode only" in (await stack.chat(headers=stack.as_user("eve"))).document["error"]["message"]
    other = await stack.gateway.services.apps.create("Other", [])
    for headers in (
        stack.as_user("nobody", secret=stack.test_secret),
        stack.as_user(secret=other["testSecretKey"]),
        stack.as_user(secret=other["secretKey"]),
    ):
        assert apart not in (await stack.chat(headers=headers)).document["error"]["message"]
    await stack.gateway.services.connections.revoke(stack.budget())
    assert apart not in (await stack.chat(headers=test_key)).document["error"]["message"]
    assert await stack.nothing_is_lost(mode="test")


async def test_a_funding_key_refused_inside_a_stream_is_relayed_and_remembered(
    stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream arrives untouched; then 402 without a request upstream until a trial works."""
    event = b'data: {"error":{"code":402,"message":"Insufficient credits"},"user_id":"user_2abcDEF9"}\n\n'
    openrouter.play = streams([event])
    first = await stack.chat(question(stream=True))
    assert (first.status, first.body) == (200, event)
    await stack.booked()
    assert (await stack.chat()).refusal == (402, "funding_invalid")
    assert len(openrouter.received) == 1

    monkeypatch.setattr(ledger, "FUNDING_TRIAL_MS", 0)
    openrouter.play = streams([event])
    await stack.connect()
    await stack.chat(question(stream=True))
    await stack.booked(count=2)
    # The rest is over at once now: one request may try the key again.
    openrouter.play = streams([STREAMED])
    assert (await stack.chat(question(stream=True))).status == 200
    await stack.booked(count=3)
    monkeypatch.setattr(ledger, "FUNDING_TRIAL_MS", 60_000)
    assert (await stack.chat(question(stream=True))).status == 200


async def test_connecting_again_clears_a_refused_funding_key(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """A refusal before the stream marks the key too; after a new approval requests are admitted at once."""
    openrouter.play = refuses(401, {"code": 401, "message": "User not found."})
    assert (await stack.chat()).refusal == (402, "funding_invalid")
    await stack.booked()
    assert (await stack.chat()).refusal == (402, "funding_invalid")
    openrouter.play = streams([STREAMED])
    await stack.connect(key="sk-or-v1-new")
    assert (await stack.chat(question(stream=True))).status == 200
    assert openrouter.last.header("Authorization") == "Bearer sk-or-v1-new"


async def test_the_payers_account_is_never_named(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Upstream's message is kept, without the account and any key."""
    openrouter.play = refuses(400, {"code": 400, "message": "bad field for user_2abcDEF9 with sk-or-v1-secret"})
    answer = await stack.chat()
    assert answer.refusal == (400, "invalid_request")
    assert "bad field" in answer.document["error"]["message"]
    assert b"user_2abcDEF9" not in answer.body
    assert b"sk-or" not in answer.body
    [entry] = await stack.booked()
    assert (entry["status"], entry["ended_by"], entry["cost_nano"]) == ("void", "refused", "0")


def _cuts(body: bytes) -> list[bytes]:
    """The body at random cuts, the same ones every time."""
    chance = random.Random(len(body))
    places = sorted(chance.sample(range(1, len(body)), min(30, len(body) - 1)))
    return [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]


def _owed(recording: Recording) -> tuple[int, str]:
    """What a recording must be booked at, in nano-USD, and how."""
    if recording.cost is not None:
        return int(recording.cost.scaleb(9).to_integral_value(ROUND_CEILING)), "settled"
    return (0, "void") if recording.generation_id is None else (4_200_000, "settled")


@each_recording
async def test_every_recorded_stream_passes_byte_for_byte_at_its_own_cost(
    stack: Stack, openrouter: FakeOpenRouter, recording: Recording
) -> None:
    """At the recorded chunk lengths, one byte at a time and at random cuts."""
    splits = [recording.chunks(), [bytes([byte]) for byte in recording.body], _cuts(recording.body)]
    # An absent cost is not zero: it is looked up.
    openrouter.generations[recording.generation_id or ""] = {"id": recording.generation_id, "total_cost": 0.0042}
    for number, chunks in enumerate(splits):
        user = f"listener-{number}"
        await stack.connect("5", user=user)
        openrouter.play = streams(chunks)
        answer = await stack.chat(question(stream=True), headers=stack.as_user(user))
        assert (answer.status, answer.body) == (200, recording.body)
        [entry] = await stack.booked(user)
        cost, status = _owed(recording)
        assert (int(entry["cost_nano"]), entry["status"]) == (cost, status)
        assert entry["generation_id"] == (recording.generation_id or "")
        assert (await stack.standing(user)).held_nano == 0


async def test_a_large_body_is_read_beside_the_event_loop(
    stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Megabytes of small values take seconds to weigh: no other stream waits for them."""
    threads: list[threading.Thread] = []
    parse = ChatRequest.parse

    def watched(body: bytes, dialect: Dialect) -> ChatRequest:
        threads.append(threading.current_thread())
        return parse(body, dialect)

    monkeypatch.setattr(ChatRequest, "parse", watched)
    large = question(unknown=[0] * 100_000)
    assert (await stack.chat(large)).status == 200
    assert json.loads(openrouter.last.body) == large
    assert (await stack.chat()).status == 200
    assert [thread is threading.main_thread() for thread in threads] == [False, True]
    assert (await stack.chat(body=b"[" * 100_000)).refusal == (400, "invalid_request")


async def test_a_bug_within_an_answer_ends_it_without_a_second_head(
    stack: Stack, openrouter: FakeOpenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller's connection breaks, since a second status line within a body would not be valid HTTP."""
    body_read = Meter.body
    has_begun = False

    def broken(meter: Meter, piece: bytes) -> None:
        nonlocal has_begun
        if has_begun:
            raise LookupError("the canary sings")
        has_begun = True
        body_read(meter, piece)

    may_go_on = asyncio.Event()

    async def play(turn: Exchange) -> None:
        await turn.head(headers={**EVENT_STREAM, "X-Generation-Id": "gen-1-fake"})
        await turn.send(b": first\n\n")
        await may_go_on.wait()
        await turn.send(STREAMED)
        await turn.until_closed()

    def relayed(_: OpenRequest, point: str) -> None:
        if point == "relayed":
            may_go_on.set()

    monkeypatch.setattr(OpenRequest, "reach", relayed)
    openrouter.play = play
    openrouter.generations["gen-1-fake"] = {"id": "gen-1-fake", "total_cost": 0.0015}
    monkeypatch.setattr(Meter, "body", broken)
    head = "".join(f"{name}: {value}\r\n" for name, value in stack.as_user().items())
    body = json.dumps(question(stream=True))
    status, _, rest = await stack.raw(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    assert (status, rest) == (200, b"9\r\n: first\n\n\r\n")
    [entry] = await stack.booked()
    assert (entry["status"], int(entry["cost_nano"])) == ("settled", COST_NANO)
