"""One JSON line for each request, and never a key, a prompt or a plain user id."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

import aiohttp
import structlog

from gateway import logs
from tests.fakes import MODEL, FakeOpenRouter, refuses, whole_answer
from tests.gateway.process import environment, gateway_process
from tests.gateway.stack import ORIGIN, PATIENCE_SECONDS, Stack, question

_PROMPT = "canary-prompt-5f2c"
_FUNDING = "sk-or-v1-canary-funding-77aa"
_USER = "canary-user-9b1e"


async def test_no_line_holds_a_key_a_prompt_or_a_user(redis_url: str, stack: Stack, openrouter: FakeOpenRouter) -> None:
    """A real process's output has none of them after answers, refusals, malformed calls and an unexpected body."""
    await stack.connect(user=_USER, key=_FUNDING)
    prompt = question(text=_PROMPT)
    good = {**stack.as_user(_USER), "Cookie": "canary-cookie"}
    canaries = [
        _PROMPT,
        _FUNDING,
        _USER,
        "canary-cookie",
        stack.secret.rsplit("_", 1)[1],
        stack.test_secret,
        "user_2abc",
    ]
    async with (
        gateway_process(environment(redis_url, openrouter.url, WATTFARE_LOG_LEVEL="debug")) as gateway,
        aiohttp.ClientSession() as session,
        asyncio.timeout(2 * PATIENCE_SECONDS),
    ):

        async def post(path: str, headers: dict[str, str], **body: object) -> int:
            async with session.post(gateway.url + path, headers=headers, **body) as answer:  # type: ignore[arg-type]
                await answer.read()
                return answer.status

        chat = "/v1/chat/completions"
        assert await post(chat, good, json=prompt) == 200
        assert await post(chat, good, json={**prompt, "stream": True}) == 200
        token = await stack.token(user=_USER)
        canaries.append(token)
        async with session.get(f"{gateway.url}/v1/status?appUserId={_USER}", headers=good) as answer:
            assert answer.status == 200
        async with session.get(f"{gateway.url}/v1/connections", headers={"Authorization": f"Bearer {token}"}) as answer:
            assert answer.status == 200
        openrouter.play = refuses(400, {"code": 400, "message": f"bad {_PROMPT} of user_2abcDEF9 with {_FUNDING}"})
        assert await post(chat, good, json=prompt) == 400
        openrouter.play = refuses(401, {"code": 401, "message": f"No such key {_FUNDING}"})
        assert await post(chat, good, json=prompt) == 402
        openrouter.play = whole_answer
        assert await post(chat, {**good, "Authorization": f"Bearer {stack.secret}x"}, json=prompt) == 401
        assert await post(chat, good, data=f'{{"model": "{_PROMPT}'.encode()) == 415
        typed = {**good, "Content-Type": "application/json"}
        assert await post(chat, typed, data=f'{{"{_PROMPT}":1,"{_PROMPT}":2}}'.encode()) == 400
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(f"{_PROMPT} {_FUNDING}\r\n\r\n".encode())
        assert b" 400 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
        code, errors = await gateway.end()
    assert code == 0
    told = "".join(gateway.lines) + errors
    assert [canary for canary in canaries if canary in told] == []
    for line in gateway.lines:
        assert {"event", "level", "time"} <= set(json.loads(line))


async def test_a_metered_request_is_one_line_with_its_facts(
    redis_url: str, stack: Stack, openrouter: FakeOpenRouter
) -> None:
    """Request id, app, hashed user, model, status, tokens, cost and timings."""
    async with (
        gateway_process(environment(redis_url, openrouter.url)) as gateway,
        aiohttp.ClientSession() as session,
    ):
        async with session.post(
            f"{gateway.url}/v1/chat/completions", json=question(stream=True), headers=stack.as_user()
        ) as answer:
            await answer.read()
            request_id = answer.headers["x-wattfare-request-id"]
        await gateway.end()
    [told] = [said for line in gateway.lines if (said := json.loads(line))["event"] == "request"]
    assert told["request_id"] == request_id
    assert told["app"] == stack.app["appId"]
    assert told["user"] == request_id[4:17] != "ada"
    assert (told["model"], told["mode"], told["stream"]) == (MODEL, "live", True)
    assert (told["method"], told["path"], told["status"]) == ("POST", "/v1/chat/completions", 200)
    assert (told["prompt_tokens"], told["completion_tokens"], told["cost_usd"]) == (3, 1, 0.0015)
    assert (told["ledger"], told["ended_by"]) == ("settled", "complete")
    # By the event loop's clock, which counts whole milliseconds: an upstream next door may answer within one.
    assert 0 <= told["upstream_ms"] <= told["first_byte_ms"] <= told["total_ms"]


@contextmanager
def _lines_kept() -> Iterator[list[dict[str, Any]]]:
    """Collect the lines logged meanwhile instead of writing them."""
    lines: list[dict[str, Any]] = []

    def keep(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        lines.append(dict(event))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep])
    try:
        yield lines
    finally:
        structlog.configure(**before)


async def test_a_refused_origin_stands_in_line_and_message(stack: Stack) -> None:
    """The line names the unregistered origin. A preflight has no token: only a malformed origin is refused."""
    token = await stack.token()
    with _lines_kept() as lines:
        for origin in ("https://new.example", "https://a.example\u00e9"):
            await stack.ask("OPTIONS", "/v1/connections", headers={"Origin": origin})
            headers = {"Authorization": f"Bearer {token}", "Origin": origin}
            answer = await stack.ask("GET", "/v1/connections", headers=headers)
            assert answer.refusal == (401, "auth")
            said = answer.document["error"]["message"]
            assert said.startswith(f"The origin {lines[-1]['refused_origin']} is not registered")
        await stack.ask("OPTIONS", "/v1/connections", headers={"Origin": ORIGIN})
    assert [line.get("refused_origin", "")[:19] for line in lines] == [
        *("", "https://new.example"),
        *["https://a.example?"] * 2,
        "",
    ]


async def test_a_refused_request_is_one_line_with_its_code(stack: Stack) -> None:
    """Also a request that was refused before a hold."""
    with _lines_kept() as lines:
        await stack.chat(body=b"{")
        await stack.chat(headers=stack.as_user("nobody"))
        await stack.quiet()
    assert [(line["status"], line["code"]) for line in lines] == [(400, "invalid_request"), (402, "not_connected")]
    assert lines[0]["request_id"] != lines[1]["request_id"]


@contextmanager
def _written(level: str, form: str = "auto") -> Iterator[io.StringIO]:
    """Configure logging anew and collect standard output."""
    out = io.StringIO()
    before = structlog.get_config()
    root = logging.getLogger()
    handlers, lowest = root.handlers[:], root.level
    try:
        with redirect_stdout(out):
            logs.configure(level, form)
            yield out
    finally:
        structlog.configure(**before)
        root.handlers[:] = handlers
        root.setLevel(lowest)
        logs._requests_to = None


def test_libraries_too_write_json_lines() -> None:
    """A library's warning is a JSON line on standard output; lower levels are not logged."""
    with _written("warning") as out:
        logging.getLogger("aiohttp").warning("odd %s", "thing")
        logging.getLogger("aiohttp").info("quiet")
        structlog.get_logger().info("quiet")
        structlog.get_logger().warning("said", number=1)
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in told] == ["odd thing", "said"]
    assert [line["level"] for line in told] == ["warning", "warning"]


def test_a_person_in_a_terminal_reads_words() -> None:
    """A request as method, path and status, a warning with its level; line breaks in values are escaped."""
    with _written("info", "text") as out:
        logs.log_request({"method": "GET", "path": "/v1/status", "status": 200, "user": "a b\n\x1b[2J"})
        structlog.get_logger().warning("store_away", server="main")
    assert out.getvalue().splitlines() == [
        "GET /v1/status 200  user='a b\\n\\x1b[2J'",
        "WARNING store_away  server=main",
    ]
