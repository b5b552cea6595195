"""Bad input gets a clear error and nothing is lost: no hold, no entry, nothing upstream."""

import json
from collections.abc import AsyncIterator

import pytest

from tests.fakes import FakeOpenRouter
from tests.gateway.stack import Stack, open_stack, question, settings_for

_MEGABYTE = 1024 * 1024
_GOOD = json.dumps(question()).encode()

_BAD_BODIES: dict[str, tuple[bytes, int]] = {
    "no body": (b"", 400),
    "blanks": (b" \n", 400),
    "malformed": (b'{"model":', 400),
    "cut short": (_GOOD[:-1], 400),
    "two documents": (_GOOD + _GOOD, 400),
    "a list": (b"[]", 400),
    "a string": (b'"hello"', 400),
    "null": (b"null", 400),
    "not UTF-8": (_GOOD.replace(b"hello", b"\xff\xfe"), 400),
    "a byte order mark": (b"\xef\xbb\xbf" + _GOOD, 400),
    "duplicate keys": (b'{"model":"a/b",' + _GOOD[1:], 400),
    "nested duplicate keys": (_GOOD.replace(b'"role":', b'"role": "user", "role":'), 400),
    "NaN": (_GOOD[:-1] + b',"temperature":NaN}', 400),
    "half a surrogate pair": (_GOOD.replace(b"hello", b"\\ud800"), 400),
    "deep nesting": (_GOOD[:-1] + b',"deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
    "many digits": (_GOOD[:-1] + b',"seed":' + b"9" * 10_000 + b"}", 400),
    "a huge exponent": (_GOOD[:-1] + b',"temperature":1e99999999999999999999}', 400),
    "stream as a string": (_GOOD.replace(b"false", b'"true"'), 422),
    "stream as a number": (_GOOD.replace(b"false", b"1"), 422),
    "negative max_tokens": (_GOOD[:-1] + b',"max_tokens":-1}', 422),
    "max_tokens of zero": (_GOOD[:-1] + b',"max_tokens":0}', 422),
    "absurd max_tokens": (_GOOD[:-1] + b',"max_tokens":1000000000000000000000}', 422),
    "max_tokens as a string": (_GOOD[:-1] + b',"max_tokens":"20"}', 422),
    "a fraction of max_tokens": (_GOOD[:-1] + b',"max_tokens":1.5}', 422),
    "max_tokens as a boolean": (_GOOD[:-1] + b',"max_tokens":true}', 422),
    "negative max_completion_tokens": (_GOOD[:-1] + b',"max_completion_tokens":-1}', 422),
    "no model": (b'{"messages":[{"role":"user","content":"Hi"}]}', 422),
    "model as a number": (b'{"model":1,"messages":[]}', 422),
    "no messages": (b'{"model":"a/b"}', 422),
    "messages as a string": (b'{"model":"a/b","messages":"Hi"}', 422),
    "absurd n": (_GOOD[:-1] + b',"n":1000000}', 422),
}


@pytest.mark.parametrize("name", _BAD_BODIES)
async def test_a_bad_body_is_refused_and_nothing_is_lost(stack: Stack, openrouter: FakeOpenRouter, name: str) -> None:
    """The status distinguishes invalid JSON from a wrong field; no hold is left."""
    body, status = _BAD_BODIES[name]
    answer = await stack.chat(body=body)
    assert answer.refusal == (status, "invalid_request")
    assert openrouter.received == []
    assert await stack.nothing_is_lost()


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": ""},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": "application/json; charset=utf-7"},
        {"Content-Type": "application/json; charset=utf"},
        {"Content-Type": "application/json; charset=utf88"},
        {"Content-Type": 'application/json;Charset = "UTF-16"'},
        {"Content-Encoding": "gzip"},
    ],
    ids=str,
)
async def test_another_content_type_is_415(stack: Stack, openrouter: FakeOpenRouter, headers: dict[str, str]) -> None:
    """The body must be plain JSON; no guessing."""
    answer = await stack.chat(body=_GOOD, headers=stack.as_user(**headers))
    assert answer.refusal == (415, "invalid_request")
    assert openrouter.received == []
    assert await stack.nothing_is_lost()


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        'APPLICATION/JSON;CHARSET="UTF-8"',
        "application/json; charset=utf8",
        'application/json;charset="UTF8"',
        "application/x+json",
    ],
)
async def test_json_by_any_of_its_names_is_taken(stack: Stack, content_type: str) -> None:
    """Parameters and case do not matter."""
    assert (await stack.chat(body=_GOOD, headers=stack.as_user(**{"Content-Type": content_type}))).status == 200


async def test_a_40_mb_body_is_413(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Refused by its Content-Length before a byte is buffered; the message names the limit and its variable."""
    answer = await stack.chat(body=b"x" * (40 * _MEGABYTE))
    assert answer.refusal == (413, "invalid_request")
    said = answer.document["error"]["message"]
    assert "larger than 32 MB" in said
    assert "WATTFARE_MAX_BODY_MB" in said
    assert openrouter.received == []
    assert await stack.nothing_is_lost()


async def test_a_40_mb_body_without_a_length_is_413(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Counted chunk by chunk as it arrives."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * _MEGABYTE

    answer = await stack.ask("POST", "/v1/chat/completions", body=chunks(), headers=stack.as_user())
    assert answer.refusal == (413, "invalid_request")
    assert openrouter.received == []
    assert await stack.nothing_is_lost()


async def test_the_largest_body_is_taken(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Two images of 5 MB are ordinary, and exactly 32 MB pass; one byte more does not."""
    images = [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 7_000_000}}] * 2
    body = json.dumps(question(messages=[{"role": "user", "content": images}])).encode()
    most = body + b" " * (32 * _MEGABYTE - len(body))
    assert (await stack.chat(body=most)).status == 200
    assert openrouter.last.body == most
    assert (await stack.chat(body=most + b" ")).refusal == (413, "invalid_request")


async def test_the_operator_sets_how_large_a_body_may_be(redis_url: str, openrouter: FakeOpenRouter) -> None:
    """The message names that limit."""
    async with open_stack(settings_for(redis_url, openrouter.url, WATTFARE_MAX_BODY_MB="1")) as stack:
        await stack.connect()
        assert (await stack.chat(body=_GOOD + b" " * (_MEGABYTE - len(_GOOD)))).status == 200
        refused = await stack.chat(body=_GOOD + b" " * _MEGABYTE)
        assert refused.refusal == (413, "invalid_request")
        assert "larger than 1 MB" in refused.document["error"]["message"]


async def test_a_small_resource_takes_no_large_body(stack: Stack) -> None:
    """64 kB are plenty for a user id and a cap."""
    body = b'{"appUserId":"ada","x":"' + b"x" * 70_000 + b'"}'
    headers = {"Authorization": f"Bearer {stack.secret}"}
    assert (await stack.ask("POST", "/v1/sessions", body=body, headers=headers)).refusal == (413, "invalid_request")


@pytest.mark.parametrize("user", ["a" * 257, "%C3%A9" * 129, "%FF", "%C3", "", "%C2%85"], ids=lambda user: user[:12])
async def test_a_user_id_that_is_none_is_refused(stack: Stack, openrouter: FakeOpenRouter, user: str) -> None:
    """257 bytes, half a character, nothing, a control character."""
    assert (await stack.chat(headers=stack.as_user(user))).refusal == (400, "invalid_request")
    assert openrouter.received == []
    assert await stack.nothing_is_lost()


async def test_a_user_id_of_256_bytes_is_taken(stack: Stack) -> None:
    """256 bytes of UTF-8 are 128 accented letters, and each counts."""
    user = "é" * 128
    await stack.connect(user=user)
    assert (await stack.chat(headers=stack.as_user("%C3%A9" * 128))).status == 200
    assert len(await stack.booked(user)) == 1


async def test_both_payers_and_no_payer_are_refused(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Exactly one of the two headers, once."""
    secret = {"Authorization": f"Bearer {stack.secret}"}
    both = stack.as_user(**{"x-wattfare-grant": "gr_live_x"})
    assert (await stack.chat(headers=both)).refusal == (400, "invalid_request")
    assert (await stack.chat(headers=secret)).refusal == (400, "invalid_request")
    assert openrouter.received == []
    assert await stack.nothing_is_lost()


async def test_two_user_headers_are_refused(stack: Stack) -> None:
    """Which of them pays would be a guess."""
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n"
        b"x-wattfare-user: ada\r\nx-wattfare-user: eve\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    status, _, body = await stack.raw(head % (stack.secret.encode(), len(_GOOD)) + _GOOD)
    assert (status, json.loads(body)["error"]["code"]) == (400, "invalid_request")
    assert await stack.nothing_is_lost()


@pytest.mark.parametrize(
    "line",
    [
        b"x-wattfare-user: ada\rx: y",
        b"x-wattfare-user: ada\nx-wattfare-user: eve",
        b"x-wattfare-user: ada\r\n folded",
        b"x-wattfare-user: a\x00da",
        b"x-wattfare-user: a\x01da",
        b"x-wattfare-user: \xff\xfe",
        b"x-wattfare-user : ada",
    ],
    ids=repr,
)
async def test_a_malformed_user_header_is_refused(stack: Stack, openrouter: FakeOpenRouter, line: bytes) -> None:
    """CR, LF, folding, control characters and bytes that are no UTF-8 never name a payer."""
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n%s\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    status, headers, body = await stack.raw(head % (stack.secret.encode(), line, len(_GOOD)) + _GOOD)
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (400, "invalid_request")
    assert error["requestId"] == headers["x-wattfare-request-id"]
    assert openrouter.received == []
    assert await stack.nothing_is_lost()


@pytest.mark.parametrize("title", [b"\xff\xfe", "Café".encode(), b"Caf\xe9"], ids=repr)
async def test_a_header_in_any_bytes_does_no_harm(stack: Stack, openrouter: FakeOpenRouter, title: bytes) -> None:
    """A Latin-1 title is legal HTTP: the request is relayed with every byte unchanged."""
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n"
        b"x-wattfare-user: ada\r\nX-Title: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    status, _, _ = await stack.raw(head % (stack.secret.encode(), title, len(_GOOD)) + _GOOD)
    assert status == 200
    seen = openrouter.last.header("X-Title") or ""
    assert seen.encode(errors="surrogateescape") == title
    [entry] = await stack.booked()
    assert entry["status"] == "settled"
