"""Request headers are relayed by an allow list; relayed response headers name no key and no account."""

import asyncio
import contextlib

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.metered.headers import forwarded, passed_lines
from tests.fakes import EVENT_STREAM, STREAMED, FakeOpenRouter, streams
from tests.gateway.stack import PATIENCE_SECONDS, Stack, question

ARRIVES = {
    "HTTP-Referer": "https://app.example",
    "Referer": "https://app.example/page",
    "X-Title": "App",
    "X-OpenRouter-Title": "App",
    "X-OpenRouter-Cache": "true",
    "User-Agent": "x",
    "Accept": "text/event-stream",
    "x-session-id": "1",
    "anthropic-beta": "fine-grained-tool-streaming-2025-05-14",
    "anthropic-version": "2023-06-01",
    "OpenAI-Beta": "responses=v1",
    "x-stainless-lang": "python",
    "X-Client-Request-Id": "abc",
    "Idempotency-Key": "abc",
}
STAYS = {
    "cdn-loop": "cloudflare",
    "cf-ray": "8a",
    "cf-ipcountry": "DE",
    "cf-visitor": '{"scheme":"https"}',
    "x-vercel-ip-city": "Berlin",
    "x-forwarded-client-cert": "x",
    "x-forwarded-for": "203.0.113.9",
    "fly-client-ip": "203.0.113.9",
    "x-auth-request-email": "someone@example.com",
    "x-api-key": "sk-caller",
    "cookie": "a=b",
    "accept-language": "de",
    "x-wattfare-anything": "1",
    "traceparent": "00-1-2-00",
    "x-made-up": "1",
}
KEYS = (
    "sk_live_app0_abc",
    "sk_test_app0_abc",
    "pk_live_app0",
    "gr_live_abc",
    "Bearer eyJhbGciOiJIUzI1NiJ9.eyJhcHBJZCI6ImEifQ.c2lnbmF0dXJl",
)


def up(**headers: str) -> dict[str, str]:
    lines = forwarded(CIMultiDictProxy(CIMultiDict(headers)))
    return dict(line.removesuffix("\r\n").split(": ", 1) for line in lines)


async def test_what_arrives_and_what_stays(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Over a real socket: the listed headers arrive unchanged, with only the gateway's own beside them."""
    assert (await stack.chat(headers=stack.as_user(**ARRIVES, **STAYS))).status == 200
    seen = openrouter.last
    assert {name: seen.header(name) for name in ARRIVES} == ARRIVES
    ours = {"host", "authorization", "accept-encoding", "content-length", "content-type"}
    assert seen.names == ours | {name.lower() for name in ARRIVES}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", ["X-Title", "User-Agent", "x-session-id", "anthropic-beta"])
def test_a_value_that_holds_a_key_of_ours_stays(name: str, key: str) -> None:
    """A header with a key anywhere in its value is dropped; the other headers are relayed."""
    assert name not in up(**{name: f"about {key}."})
    assert up(**{name: "about keys", "Accept": "x"})[name] == "about keys"


def test_a_header_that_is_named_as_of_the_hop_stays() -> None:
    """Connection names what is for us alone."""
    assert set(up(**{"Connection": "x-title, close", "X-Title": "App", "Accept": "x"})) == {"Accept", "Content-Type"}


@pytest.mark.parametrize("value", ["Café".encode(), "Café".encode("latin-1"), b"\x85edge\xa0", "\xa0日本\x85".encode()])
async def test_a_value_beyond_ascii_arrives_byte_for_byte(
    stack: Stack, openrouter: FakeOpenRouter, value: bytes
) -> None:
    """In both directions: of whatever coding its bytes are, none is lost or replaced."""
    openrouter.play = streams([STREAMED], {**EVENT_STREAM, "X-Provider-Name": value.decode("utf-8", "surrogateescape")})
    reader, writer = await asyncio.open_connection(stack.host, stack.port)
    body = b'{"model":"acme/large","stream":true,"messages":[]}'
    head = "".join(f"{name}: {said}\r\n" for name, said in stack.as_user().items()).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        + head
        + b"X-Title: %b\r\nContent-Length: %d\r\n\r\n%b" % (value, len(body), body)
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"X-Provider-Name: %b\r\n" % value in answer
    title = openrouter.last.header("X-Title")
    assert title is not None
    assert title.encode("utf-8", "surrogateescape") == value


@pytest.mark.parametrize(
    "value",
    [
        "sk-or-v1-0123456789",
        "for user_2abcDEF9",
        "org_2abcDEF9",
        "org-0123456789abcdef",
        "team 01234567-89ab-cdef-0123-456789abcdef",
    ],
)
def test_an_answers_header_that_names_a_key_or_an_account_is_not_passed_on(value: str) -> None:
    """By its value, whatever its name; a provider's account by its name."""
    kept = [("X-Generation-Id", "gen-1-abc"), ("X-Note", "a user of ids"), ("Retry-After", "7")]
    named = [("X-Note-2", value), ("openai-organization", "acme"), ("anthropic-organization-id", "0-1")]
    lines = [f"{name}: {value}" for name, value in (*kept, *named)]
    assert passed_lines([line.encode() for line in lines]) == "".join(f"{line}\r\n" for line in lines[: len(kept)])


async def test_a_question_of_many_headers_is_answered(stack: Stack) -> None:
    """The cache of header names is bounded, since a caller can invent them."""
    for number in range(3):
        headers = {f"x-{number}-{each}": "1" for each in range(40)}
        assert (await stack.chat(question(), headers=stack.as_user(**headers))).status == 200


async def test_headers_that_are_too_large_to_be_searched_are_refused(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """With what to do; nothing left, and nothing is held."""
    large = {f"x-stainless-{number}": "eyJ" * 8_000 for number in range(3)}
    answer = await stack.chat(headers=stack.as_user(**large))
    assert answer.refusal == (431, "invalid_request")
    assert openrouter.received == []
    assert (await stack.standing()).held_nano == 0
