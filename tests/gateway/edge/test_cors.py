"""What pages of other origins may ask and read."""

import json

import pytest

from tests.gateway.stack import ORIGIN, Stack

ASKS = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}


def _bearer(token: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **more}


async def test_a_preflight_reveals_no_registration(stack: Stack) -> None:
    """Every web origin gets the same answer, whether an app registered it or not."""
    answers = []
    for origin in (ORIGIN, "https://nobody.example", "http://localhost:3000", "http://[::1]:5173"):
        answer = await stack.ask("OPTIONS", "/v1/connections", headers={"Origin": origin, **ASKS})
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, origin)
        said = {name.lower(): value for name, value in answer.headers.items()}
        answers.append({name: value for name, value in said.items() if name.startswith("access") or name == "vary"})
        del answers[-1]["access-control-allow-origin"]
    assert answers.count(answers[0]) == len(answers)
    assert set(answers[0]["access-control-allow-methods"].split(", ")) == {"GET", "POST", "DELETE"}
    assert "Authorization" in answers[0]["access-control-allow-headers"]
    assert answers[0]["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answers[0]


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "x",
        "http://[",
        "ftp://localhost",
        "http://user@localhost",
        "chrome-extension://abc",
        "HTTPS://APP.EXAMPLE",
        "https://app.example:443",
        "https://app.example/",
    ],
)
async def test_a_preflight_knows_web_origins_alone(stack: Stack, origin: str) -> None:
    """Other schemes and other spellings are never a web page's origin."""
    answer = await stack.ask("OPTIONS", "/v1/connections", headers={"Origin": origin, **ASKS})
    assert answer.status == 204
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_an_origin_in_any_bytes_is_refused_in_the_envelope(stack: Stack) -> None:
    """A stray byte is no bug of ours, with a token and without one."""
    token = await stack.token()
    lines = b"Host: x\r\nConnection: close\r\nOrigin: https://\xff.example\r\n"
    status, headers, _ = await stack.raw(b"OPTIONS /v1/connections HTTP/1.1\r\n" + lines + b"\r\n")
    assert (status, "access-control-allow-origin" in headers) == (204, False)
    lines += f"Authorization: Bearer {token}\r\n".encode()
    status, headers, body = await stack.raw(b"GET /v1/connections HTTP/1.1\r\n" + lines + b"\r\n")
    assert (status, json.loads(body)["error"]["code"]) == (401, "auth")
    assert "access-control-allow-origin" not in headers


async def test_a_page_of_another_origin_is_refused_and_reads_why(stack: Stack) -> None:
    """Registered origins can read every answer; any other origin gets a 401 whose message the page can read.

    Loopback origins are accepted with test tokens only.
    """
    live, test = await stack.token(), await stack.token(secret=stack.test_secret)

    async def get(token: str, origin: str) -> tuple[int, str | None]:
        answer = await stack.ask("GET", "/v1/connections", headers=_bearer(token, Origin=origin))
        return answer.status, answer.headers.get("Access-Control-Allow-Origin")

    assert await get(live, ORIGIN) == (200, ORIGIN)
    assert await get(test, ORIGIN) == (200, ORIGIN)
    assert await get(test, "http://localhost:3000") == (200, "http://localhost:3000")
    for origin in ("https://evil.example", "http://localhost:3000", "https://app.example."):
        assert await get(live, origin) == (401, origin)
    for origin in ("null", "http://[", "ftp://localhost", ""):
        assert await get(live, origin) == (401, None), origin
    for origin in ("https://evil.example", "http://localhost.evil.example"):
        assert await get(test, origin) == (401, origin)
    assert await get("no.token.at-all", "https://evil.example") == (401, "https://evil.example")
    refused = await stack.ask("POST", "/v1/connections", headers=_bearer(live, Origin=ORIGIN), document={})
    assert refused.refusal == (403, "consent_required")
    assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN
    gone = await stack.ask("DELETE", "/v1/connections", headers=_bearer(live, Origin="https://evil.example"))
    assert gone.refusal == (401, "auth")
    assert (await stack.standing()).is_connected


async def test_what_is_for_backends_no_page_reads(stack: Stack) -> None:
    """Refusals of other paths carry no permission."""
    for method, path in (("GET", "/v1/status?appUserId=ada"), ("GET", "/v1/nowhere"), ("OPTIONS", "/v1/sessions")):
        answer = await stack.ask(method, path, headers={"Origin": ORIGIN})
        assert answer.status >= 400
        assert "Access-Control-Allow-Origin" not in answer.headers
