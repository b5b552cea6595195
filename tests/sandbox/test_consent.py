"""PKCE against the sandbox: a person decides, a code becomes a key once, an account is one whatever the key."""

import base64
import hashlib
import re
from urllib.parse import parse_qs, urlsplit

import pytest

from sandbox.server import create_app
from sandbox.settings import SandboxSettings
from tests.sandbox.clock import Client, Clock, Connect

_VERIFIER = "a-verifier-of-at-least-forty-three-characters-0"
_CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(_VERIFIER.encode()).digest()).rstrip(b"=").decode()
_CALLBACK = "http://127.0.0.1:8081/funding/callback/abc?kept=1"


def _question(**more: str) -> dict[str, str]:
    asked = {"callback_url": _CALLBACK, "code_challenge": _CHALLENGE, "code_challenge_method": "S256", **more}
    return {name: value for name, value in asked.items() if value}


async def _decide(client: Client, decision: str = "authorize", **more: str) -> tuple[int, str, str]:
    """Open the page, press a button; return status, Location and body."""
    question = _question(**more)
    page = await (await client.get("/auth", params=question)).text()
    found = re.search(r'name="account" value="([^"]+)"', page)
    assert found is not None
    form = {"account": found[1], **question, "decision": decision}
    async with client.post("/auth", data=form, allow_redirects=False) as response:
        return response.status, response.headers.get("Location", ""), await response.text()


async def _code(client: Client, **more: str) -> str:
    _, location, _ = await _decide(client, **more)
    return parse_qs(urlsplit(location).query)["code"][0]


async def _exchange(client: Client, code: str, **more: str) -> tuple[int, dict[str, str]]:
    body = {"code": code, "code_verifier": _VERIFIER, "code_challenge_method": "S256", **more}
    async with client.post("/api/v1/auth/keys", json=body) as response:
        answer = await response.json()
        return response.status, answer.get("error", answer)


async def test_looking_at_the_page_approves_nothing(client: Client) -> None:
    """A GET shows two buttons, is cut off from any opener, and leads nowhere by itself."""
    async with client.get("/auth", params=_question(), allow_redirects=False) as response:
        page = await response.text()
    assert response.status == 200
    assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert 'value="authorize"' in page
    assert 'value="deny"' in page
    assert "auth_code_" not in page


async def test_an_approval_comes_back_with_a_code(client: Client) -> None:
    """The code is added to the callback's query; the key works and has its label and limit."""
    status, location, _ = await _decide(client, key_label="Demo app", limit="2.5")
    parts = urlsplit(location)
    assert (status, parts.path, parse_qs(parts.query)["kept"]) == (303, "/funding/callback/abc", ["1"])
    _, answer = await _exchange(client, parse_qs(parts.query)["code"][0])
    async with client.get("/api/v1/key", headers={"Authorization": f"Bearer {answer['key']}"}) as response:
        key = (await response.json())["data"]
    assert (key["label"], key["limit"]) == ("Demo app", 2.5)


async def test_one_person_has_one_account(aiohttp_client: Connect, client: Client) -> None:
    """Twice in one browser gives two keys of one user_id; another browser is another person."""
    _, first = await _exchange(client, await _code(client))
    _, second = await _exchange(client, await _code(client))
    assert first["key"] != second["key"]
    assert first["user_id"] == second["user_id"]
    stranger = await aiohttp_client(create_app(SandboxSettings()))
    _, third = await _exchange(stranger, await _code(stranger))
    assert third["user_id"] != first["user_id"]


async def test_a_denial_says_so(client: Client) -> None:
    """Back at the callback with an error, without a code."""
    _, location, _ = await _decide(client, "deny")
    assert parse_qs(urlsplit(location).query) == {"kept": ["1"], "error": ["access_denied"]}


async def test_a_code_works_once(client: Client) -> None:
    """A second exchange is refused, as is a wrong verifier before it."""
    code = await _code(client)
    assert await _exchange(client, code, code_verifier="wrong") == (
        403,
        {"message": "Invalid code or code_verifier", "code": 403},
    )
    assert (await _exchange(client, code))[0] == 200
    assert (await _exchange(client, code))[0] == 403


async def test_a_code_dies_after_ten_minutes(client: Client, clock: Clock) -> None:
    """Valid to the last moment, then expired."""
    code, late = await _code(client), await _code(client)
    clock.seconds += 599.9
    assert (await _exchange(client, code))[0] == 200
    clock.seconds += 0.1
    assert await _exchange(client, late) == (403, {"message": "Authorization code expired", "code": 403})


async def test_plain_challenges_work_too(client: Client) -> None:
    """The verifier is then the challenge itself; another method than agreed is a 400."""
    code = await _code(client, code_challenge=_VERIFIER, code_challenge_method="plain")
    assert (await _exchange(client, code))[0] == 400
    assert (await _exchange(client, code, code_challenge_method="plain"))[0] == 200


async def test_an_unknown_method_is_a_400(client: Client) -> None:
    """Whatever the code."""
    assert await _exchange(client, "x", code_challenge_method="S512") == (
        400,
        {"message": "Invalid code_challenge_method", "code": 400},
    )


async def test_only_a_post_exchanges(client: Client) -> None:
    """A GET is a 405."""
    assert (await client.get("/api/v1/auth/keys")).status == 405


async def test_without_a_callback_the_code_is_shown(client: Client) -> None:
    """A person can carry it to a program by hand."""
    status, location, page = await _decide(client, callback_url="")
    assert (status, location) == (200, "")
    found = re.search(r"auth_code_[0-9a-f]+", page)
    assert found is not None
    assert (await _exchange(client, found[0]))[0] == 200


@pytest.mark.parametrize(
    "question",
    [
        _question(callback_url="http://example.com/cb"),
        _question(callback_url="javascript:alert(1)"),
        _question(callback_url="http://[::1"),
        _question(callback_url="", code_challenge=""),
        _question(code_challenge_method="S512"),
        _question(limit="-1"),
        _question(key_label="x" * 101),
    ],
)
async def test_a_wrong_question_is_not_put(client: Client, question: dict[str, str]) -> None:
    """Neither shown nor approved."""
    assert (await client.get("/auth", params=question)).status == 400
    form = {**question, "account": "user_a", "decision": "authorize"}
    assert (await client.post("/auth", data=form, allow_redirects=False)).status == 400


async def test_what_an_app_sends_is_text_on_the_page(client: Client) -> None:
    """Markup in a parameter is escaped."""
    async with client.get("/auth", params=_question(key_label='"><script>alert(1)</script>')) as response:
        assert "<script>" not in await response.text()
