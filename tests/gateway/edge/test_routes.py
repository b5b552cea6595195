"""The error envelope for every path, every method and every malformed call, and what a bug looks like from outside."""

import json

import pytest

from gateway.ledger.holds import Ledger
from tests.fakes import FakeOpenRouter
from tests.gateway.stack import Stack

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND")
_PATHS: dict[str, set[str]] = {
    "/chat/completions": {"POST"},
    "/sessions": {"POST"},
    "/status": {"GET", "HEAD"},
    "/connections": {"GET", "HEAD", "POST", "DELETE", "OPTIONS"},
    "/usage/req_x": {"GET", "HEAD"},
    "/models": {"GET", "HEAD"},
    "/models/a/b/endpoints": {"GET", "HEAD"},
}
_UNKNOWN = (
    "/v1",
    "/v1/",
    "/v2/models",
    "/v1/models/",
    "/v1/models/a",
    "/v1/models/a/b",
    "/v1//models",
    "/v1/chat/completions/",
    "/v1/Chat/Completions",
    "/v1/files",
    "/v1/keys",
    "/v1/credits",
    "/v1/activity",
    "/api/v1/auth/keys",
    "/api/v1/generation",
    "/%00",
    "/%FF%FE",
    "/v1/usage/",
    "/v1/models/a/%2e%2e/endpoints/x",
)


def _envelope(status: int, headers: dict[str, str], body: bytes) -> tuple[int, str]:
    """Return status and code of an error envelope that was read from a raw socket."""
    assert headers["content-type"].startswith("application/json")
    error = json.loads(body)["error"]
    assert error["requestId"] == headers["x-wattfare-request-id"]
    assert error["message"]
    assert error["type"]
    return status, error["code"]


@pytest.mark.parametrize("path", _UNKNOWN)
async def test_an_unknown_path_is_404_whatever_the_method(stack: Stack, openrouter: FakeOpenRouter, path: str) -> None:
    """An allow-list: account-wide paths of OpenRouter's are never forwarded."""
    for method in _METHODS:
        answer = await stack.ask(method, path, headers={"Authorization": f"Bearer {stack.secret}"})
        assert answer.status == 404, method
        assert answer.headers["Content-Type"].startswith("application/json")
        if method == "HEAD":
            assert answer.body == b""
        else:
            assert answer.refusal == (404, "invalid_request")
    assert openrouter.received == []


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/api/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/api/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1//chat/completions", "/v1/chat/completions"),
        ("/v1/v1/messages?beta=true", "/v1/messages"),
        ("/models/a/b/endpoints", "/v1/models/a/b/endpoints"),
    ],
)
async def test_a_base_url_that_is_off_is_told_the_right_one(
    stack: Stack, openrouter: FakeOpenRouter, path: str, meant: str
) -> None:
    """A missing or doubled /v1 and a stray slash are 404, with the path and the base URLs; nothing is served there."""
    answer = await stack.ask("POST", path, body=b"{}", headers=stack.as_user())
    assert answer.refusal == (404, "invalid_request")
    said = answer.document["error"]["message"]
    assert f"Use {meant}. " in said
    assert "http://127.0.0.1:8080/v1 for OpenAI's clients, http://127.0.0.1:8080 for Anthropic's" in said
    assert openrouter.received == []


@pytest.mark.parametrize("path", ["/v1", "/v1/files", "/v1/v1/files", f"/usage/{'b' * 300}"])
async def test_no_path_is_suggested_that_is_not_there(stack: Stack, path: str) -> None:
    """The list of paths is in /openapi.json."""
    answer = await stack.ask("GET", path)
    assert answer.document["error"]["message"] == "There is nothing at this path. See /openapi.json."


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
@pytest.mark.parametrize("path", _PATHS)
async def test_a_known_path_with_another_method_is_405_with_allow(stack: Stack, prefix: str, path: str) -> None:
    """Allow names what works, and the methods that work get past it."""
    for method in _METHODS:
        answer = await stack.ask(method, prefix + path)
        if method in _PATHS[path]:
            assert answer.status != 405, method
            continue
        assert answer.status == 405, method
        allowed = set(answer.headers["Allow"].split(", "))
        assert allowed == _PATHS[path] - {"HEAD", "OPTIONS"}
        assert method == "HEAD" or answer.refusal == (405, "invalid_request")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_answers_get_and_head_alone(stack: Stack, path: str) -> None:
    """GET answers JSON, HEAD the same without a body, others are 405."""
    assert (await stack.ask("GET", path)).document["status"] in ("ok", "ready")
    head = await stack.ask("HEAD", path)
    assert (head.status, head.body) == (200, b"")
    answer = await stack.ask("POST", path)
    assert answer.refusal == (405, "invalid_request")
    assert answer.headers["Allow"] == "GET"


@pytest.mark.parametrize("path", [path for path in _PATHS if not path.startswith("/models")])
async def test_every_other_path_asks_who_calls(stack: Stack, path: str) -> None:
    """Without a key each is 401 auth, before anything else is looked at."""
    method = "POST" if "POST" in _PATHS[path] else "GET"
    for authorization in ("", "Bearer", "Bearer x", "Basic eDp5", "Bearer sk_live_app_x", "Bearer \udcff"):
        answer = await stack.ask(
            method, f"/v1{path}", headers={"Authorization": authorization} if authorization else {}
        )
        assert answer.refusal == (401, "auth"), authorization


_MALFORMED = {
    "no HTTP": b"hello\r\n\r\n",
    "a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32) + b"\r\n\r\n",
    "an odd version": b"GET /healthz HTTP/9.9\r\n\r\n",
    "a header without a colon": b"GET /healthz HTTP/1.1\r\nHost x\r\n\r\n",
    "a bad length": b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
    "a negative length": b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": (
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "a method in odd letters": b"G\xc3\x89T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a huge header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 70_000 + b"\r\n\r\n",
    "a huge path": b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a header of another request": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\nEvil: 1\r\n\r\n",
}


@pytest.mark.parametrize("name", _MALFORMED)
async def test_what_is_no_http_gets_the_envelope_too(
    stack: Stack, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """400 with the JSON envelope and no parser message; the connection is closed."""
    status, headers, body = await stack.raw(_MALFORMED[name])
    assert _envelope(status, headers, body) == (400, "invalid_request")
    assert "Evil" not in body.decode()
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\n", b"5\r\nab\r\n0\r\n\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n"],
    ids=repr,
)
async def test_broken_chunks_of_a_body_get_the_envelope(stack: Stack, chunks: bytes) -> None:
    """The caller's fault, 400, and nothing is held."""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: Bearer {stack.secret}\r\n"
        "x-wattfare-user: ada\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    status, headers, body = await stack.raw(head.encode() + chunks)
    assert _envelope(status, headers, body) == (400, "invalid_request")
    assert await stack.nothing_is_lost()


@pytest.mark.parametrize("target", [b"/\xff\xfe", b"/v1/usage/\xff", b"/v1/models/\xc3/x/endpoints", b"*", b"http://["])
async def test_a_path_in_any_bytes_gets_the_envelope(stack: Stack, target: bytes) -> None:
    """Bytes that are no UTF-8 harm neither the answer nor the log."""
    request = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n\r\n"
    status, headers, body = await stack.raw(request % (target, stack.secret.encode()))
    assert status in (400, 404)
    assert _envelope(status, headers, body)[1] == "invalid_request"


async def test_a_bug_is_500_without_a_word_of_it(
    stack: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No stack trace, no value: only an id to look for."""

    async def broken(*_: object, **__: object) -> None:
        raise LookupError("the canary sings")

    monkeypatch.setattr(Ledger, "standing", broken)
    answer = await stack.ask("GET", "/v1/status?appUserId=ada", headers={"Authorization": f"Bearer {stack.secret}"})
    assert answer.refusal == (500, "unknown")
    said = capsys.readouterr().out
    assert "canary" not in answer.body.decode() + said
    assert answer.document["error"]["requestId"] in said
    assert "LookupError" in said


async def test_each_call_has_an_id_of_its_own(stack: Stack) -> None:
    """Ids are never used twice, also on one connection."""
    answers = [await stack.ask("GET", "/healthz") for _ in range(20)]
    assert len({answer.headers["x-wattfare-request-id"] for answer in answers}) == 20


async def test_a_pipelined_pair_is_answered_in_order(stack: Stack) -> None:
    """Two requests in one packet get two answers."""
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    two = b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    status, _, rest = await stack.raw(one + two)
    assert status == 200
    assert rest.index(b'{"status":"ok"}') < rest.index(b"HTTP/1.1 404")
