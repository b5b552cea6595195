"""The Python SDK against a running gateway: both clients, the ready model libraries, a view in every framework."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import anthropic
import django.conf
import django.test
import fastapi
import flask
import httpx
import openai
import pytest
from aiohttp import web
from starlette.applications import Starlette

from tests.gateway.stack import USER, Stack
from wattfare import (
    AsyncWattfare,
    ConnectionStatus,
    SessionUser,
    Wattfare,
    WattfareAuthError,
    WattfareError,
    WattfareGrantError,
    WattfareNetworkError,
    WattfareNotConnectedError,
    is_budget_exceeded,
    is_not_connected,
    to_wattfare_error,
)

MODEL = "openai/gpt-4o-mini"
HELLO: Any = [{"role": "user", "content": "Say hello to the world."}]


@pytest.fixture
def plain(sandboxed: Stack) -> Wattfare:
    """A client to be used in a thread: the gateway runs in this one."""
    return Wattfare(secret_key=sandboxed.secret, base_url=sandboxed.url)


@pytest.fixture
async def client(sandboxed: Stack) -> AsyncIterator[AsyncWattfare]:
    """An asyncio client."""
    async with AsyncWattfare(secret_key=sandboxed.secret, base_url=f"{sandboxed.url}/api/v1/") as made:
        yield made


def claims(token: str) -> dict[str, Any]:
    """Return the claims of a session token."""
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


async def test_both_clients_do_the_same(plain: Wattfare, client: AsyncWattfare) -> None:
    """Status, session, disconnect, by plain calls and awaited."""

    def by_plain_calls() -> tuple[ConnectionStatus, str, ConnectionStatus]:
        with plain:
            session = plain.user("Zoë").create_session(monthly_usd=20)
            status = plain.user(USER).status()
            plain.user(USER).disconnect()
            return status, session.token, plain.user(USER).status()

    nobody = await client.user("nobody").status()
    assert (nobody.connected, nobody.limits, nobody.usage.monthly_usd, nobody.remaining_usd) == (False, None, 0, 0)
    status = await client.user(USER).status()
    before, token, after = await asyncio.to_thread(by_plain_calls)
    assert before == status
    assert status.limits is not None
    assert (status.connected, status.limits.monthly_usd, status.remaining_usd) == (True, 5, 5)
    assert (claims(token)["appUserId"], claims(token)["limits"]) == ("Zoë", {"monthlyUsd": 20})
    assert not after.connected
    await client.user(USER).disconnect()
    session = await client.create_session("ada lovelace")
    assert claims(session.token)["appUserId"] == "ada lovelace"
    assert session.token not in repr(session)


async def test_openai_and_anthropic_are_ready(client: AsyncWattfare, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamed and whole, paid by the user; keys of the environment stay there."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.setenv(name, "another-key")
    user = client.user(USER)
    chat = user.async_openai().chat.completions
    stream = await chat.create(model=MODEL, messages=HELLO, stream=True)
    said = [part.choices[0].delta.content or "" async for part in stream if part.choices]
    assert "".join(said) == HELLO[0]["content"]
    answer = await user.async_anthropic(max_retries=0).messages.create(model=MODEL, max_tokens=64, messages=HELLO)
    assert answer.content[0].type == "text"
    assert (await user.status()).usage.monthly_usd > 0


async def test_plain_libraries_are_ready(plain: Wattfare) -> None:
    """The same without asyncio; each payer's client is its own, the connections are shared."""

    def by_plain_calls() -> list[str | None]:
        with plain:
            whole = plain.user(USER).openai().chat.completions.create(model=MODEL, messages=HELLO)
            other = plain.user("nobody").openai()
            with pytest.raises(openai.APIStatusError) as refused:
                other.chat.completions.create(model=MODEL, messages=HELLO)
            assert is_not_connected(refused.value)
            said = plain.user(USER).anthropic().messages.create(model=MODEL, max_tokens=64, messages=HELLO).content[0]
            return [whole.choices[0].message.content, said.text if said.type == "text" else None]

    assert await asyncio.to_thread(by_plain_calls) == [HELLO[0]["content"]] * 2


async def test_refusals_are_typed_through_the_libraries(sandboxed: Stack, client: AsyncWattfare) -> None:
    """A user who never connected, and one whose cap is too low for any prompt, in both libraries' errors."""
    await sandboxed.connect("0.0000001", user="poor", key="sk-or-v1-poor")
    for user, is_it in (("nobody", is_not_connected), ("poor", is_budget_exceeded)):
        payer = client.user(user)
        with pytest.raises(openai.APIStatusError) as by_openai:
            await payer.async_openai().chat.completions.create(model=MODEL, messages=HELLO)
        with pytest.raises(anthropic.APIStatusError) as by_anthropic:
            await payer.async_anthropic().messages.create(model=MODEL, max_tokens=64, messages=HELLO)
        for raised in (by_openai.value, by_anthropic.value):
            assert is_it(raised)
            found = to_wattfare_error(raised)
            assert found is not None
            assert isinstance(found, WattfareNotConnectedError) == (user == "nobody")
            assert (found.status, found.request_id is None) == (402, False)


async def test_a_grant_pays_for_its_requests(sandboxed: Stack, plain: Wattfare, client: AsyncWattfare) -> None:
    """With either client it returns what is left; after its end it is refused with a typed error."""
    token = await sandboxed.grant(requests=1)
    grant = client.grant(token)
    answer = await grant.async_openai().chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.choices[0].message.content == HELLO[0]["content"]
    status = await grant.status()
    assert (status.requests_remaining, status.requests, status.max_usd) == (0, 1, 0.5)
    assert await asyncio.to_thread(plain.grant(token).status) == status
    with pytest.raises(openai.APIStatusError) as refused:
        await grant.async_openai().chat.completions.create(model=MODEL, messages=HELLO)
    assert isinstance(to_wattfare_error(refused.value), WattfareGrantError)
    plain.close()


async def test_what_cannot_work_says_so(sandboxed: Stack, client: AsyncWattfare) -> None:
    """A key of the wrong kind, a wrong key, no server, an invalid id, an id that no header can carry."""
    with pytest.raises(WattfareAuthError):
        Wattfare("pk_live_x")
    async with AsyncWattfare("sk_live_x_y", sandboxed.url) as wrong:
        with pytest.raises(WattfareAuthError) as refused:
            await wrong.user(USER).status()
    assert refused.value.status == 401
    async with AsyncWattfare(sandboxed.secret, "http://127.0.0.1:9") as away:
        with pytest.raises(WattfareNetworkError):
            await away.user(USER).status()
    with pytest.raises(WattfareError, match="user_id"):
        client.user("")
    with pytest.raises(WattfareError, match="header"):
        client.user("%C3%A9").async_openai()
    assert sandboxed.secret not in repr(vars(client))


def who(request: Any) -> SessionUser | None:
    """Return the user in the header."""
    name = request.headers.get("x-user")
    return SessionUser(name, monthly_usd=7) if name else None


async def who_awaited(request: Any) -> str | None:
    """The same, awaited."""
    found = who(request)
    return found.id if found else None


async def in_aiohttp(plain: Wattfare, client: AsyncWattfare, headers: dict[str, str]) -> tuple[int, Any]:
    app = web.Application()
    app.router.add_post("/session", client.session_handler(who_awaited))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/session"
        async with aiohttp.ClientSession() as http, http.post(url, headers=headers) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            return answer.status, await answer.json()
    finally:
        await runner.cleanup()


async def _asgi(app: Any, headers: dict[str, str]) -> tuple[int, Any]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://app") as http:
        answer = await http.post("/session", headers=headers)
    return answer.status_code, answer.json()


async def in_fastapi(plain: Wattfare, client: AsyncWattfare, headers: dict[str, str]) -> tuple[int, Any]:
    app = fastapi.FastAPI()
    app.post("/session")(client.session_handler(who))
    return await _asgi(app, headers)


async def in_fastapi_plain(plain: Wattfare, client: AsyncWattfare, headers: dict[str, str]) -> tuple[int, Any]:
    app = fastapi.FastAPI()
    app.post("/session")(plain.session_handler(who))
    return await _asgi(app, headers)


async def in_starlette(plain: Wattfare, client: AsyncWattfare, headers: dict[str, str]) -> tuple[int, Any]:
    app = Starlette()
    app.add_route("/session", client.session_handler(who_awaited), methods=["POST"])
    return await _asgi(app, headers)


async def in_flask(plain: Wattfare, client: AsyncWattfare, headers: dict[str, str]) -> tuple[int, Any]:
    app = flask.Flask("an-app")
    app.post("/session")(plain.session_handler(who))
    answer = await asyncio.to_thread(lambda: app.test_client().post("/session", headers=headers))
    return answer.status_code, answer.get_json()


def _django() -> django.test.RequestFactory:
    if not django.conf.settings.configured:
        django.conf.settings.configure()
    return django.test.RequestFactory()


async def in_django(plain: Wattfare, client: AsyncWattfare, headers: dict[str, str]) -> tuple[int, Any]:
    view = plain.session_handler(who)
    answer = await asyncio.to_thread(lambda: view(_django().post("/session", headers=headers)))
    return answer.status_code, json.loads(answer.content)


async def in_django_awaited(plain: Wattfare, client: AsyncWattfare, headers: dict[str, str]) -> tuple[int, Any]:
    answer = await client.session_handler(who)(_django().post("/session", headers=headers))
    return answer.status_code, json.loads(answer.content)


FRAMEWORKS = (in_aiohttp, in_fastapi, in_fastapi_plain, in_starlette, in_flask, in_django, in_django_awaited)


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.__name__)
async def test_a_view_makes_sessions_for_whoever_is_signed_in(
    plain: Wattfare, client: AsyncWattfare, framework: Callable[..., Any]
) -> None:
    """200 with the user's token; 401 with the envelope if nobody is signed in."""
    status, session = await framework(plain, client, {"x-user": USER})
    assert (status, set(session)) == (200, {"token", "expiresAt"})
    assert claims(session["token"])["appUserId"] == USER
    status, refused = await framework(plain, client, {})
    assert (status, refused["error"]["code"]) == (401, "auth")
    plain.close()


def test_django_asks_no_csrf_token_of_the_view() -> None:
    """The page's SDK has none, and another site cannot read the answer."""
    view: Any = Wattfare("sk_test_x_y").session_handler(who)
    assert view.csrf_exempt is True
    assert view(_django().get("/session")).status_code == 405
