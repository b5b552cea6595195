"""Whatever a browser, an app or OpenRouter sends: an answer in time that is no 500."""

import contextlib

import orjson
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from consent_web import apps_pages
from consent_web.openrouter import OpenRouter
from consent_web.server import create_app
from gateway.errors import UpstreamError
from gateway.money import MAX_NANO
from gateway.openrouter.client import Client, Document, Timeouts
from tests.consent_web.test_dashboard import ref_of
from tests.consent_web.world import Fetched, Visitor, World, challenge_of

BODIES = [
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff",
    b'{"x":1e99999999999999999999}',
    b'{"monthlyUsd":1e-99999999999999999999}',
    b'{"monthlyUsd":' + b"9" * 5000 + b"}",
    b'{"monthlyUsd":-0.0}',
    b'{"monthlyUsd":NaN}',
    b'{"monthlyUsd":{"a":[]}}',
    b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    b'{"key":"\\ud800","session":"\\ud800","nonce":"\\ud800","origin":"\\ud800"}',
    b'{"key":"sk-or-\\u0000","attempt":"\\u0000","state":"\\n","code":"\\r\\n"}',
    b'{"key":1,"session":2,"nonce":3,"origin":4,"attempt":5,"state":6,"code":7,"monthlyUsd":"8"}',
    b'{"key":[],"session":{},"nonce":null,"attempt":true,"state":{},"code":[],"monthlyUsd":[]}',
    '{"key":"sk-or-v1-\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9","attempt":"\u0661","state":"\u00e9"}'.encode(),
    b'{"__proto__":{"key":"x"},"constructor":null}',
]
FORMS = [
    "",
    "csrf=%ff",
    "monthly_usd=%ff&confirmed=%00",
    "monthly_usd=" + "9" * 4000,
    "monthly_usd=1e99999999999999999999",
    "monthly_usd=%D9%A1&confirmed=%D9%A1",
    "monthly_usd=-1&monthly_usd=2",
    "&=&==&%",
    "a=" + "&a=" * 2000,
]
TYPES = ["application/json", "application/json; charset=utf-7", 'application/json; charset="', "text/plain", "/", ""]
PATHS = [
    "/%ff",
    "/apps/%ff",
    "/apps/%00/export.csv",
    "/static/%2e%2e/x",
    "/sdk/..%2fclient.js",
    "/fund/callback/%ff?code=%ff",
]
PATHS += ["//", "/consent?%ff=%00", "/" + "a/" * 3000, "/apps/" + "x" * 20_000, "/consent/attempts/%F0%9F%92%A9"]


async def test_no_input_is_a_bug_of_ours(world: World, visitor: Visitor) -> None:
    """Every path with input gets everything unexpected, from a connected browser."""
    attempt = await world.connected(visitor)
    ref = await ref_of(visitor)
    pending = str((await world.begin(visitor, token=world.token("eve"))).json["id"])
    # Every path with input, except those that end what the others need.
    taken = sorted(path_of(route) for route in create_app(world.site).router.routes() if route.method == "POST")
    posts = ["/nowhere", "/", *(path for path in taken if "{" not in path and path not in {"/leave", "/stop"})]
    for one in (attempt, pending, "0" * 64, "x"):
        posts += [path.replace("{attempt}", one) for path in taken if "{attempt}" in path and "/deny" not in path]
    for one in (ref, "x"):
        posts += [path.replace("{ref}", one) for path in taken if "{ref}" in path]
    forms = [f"/apps/{ref}/{verb}" for verb in ("cap", "pause", "resume", "revoke")] + [
        "/funding/remove",
        "/leave",
        "/stop",
    ]
    said: list[tuple[str, object, Fetched]] = []
    with capture_logs() as lines:
        for path in posts:
            said += [(path, sent[:80], await visitor.post(path, sent)) for sent in BODIES]
        for kind in TYPES:
            said.append((kind, "", await visitor.post("/consent/attempts", b"{}", headers={"Content-Type": kind})))
        for path in PATHS:
            said.append((path, "", await visitor.get(path)))
        await visitor.read_csrf()
        for path in forms:
            for form in FORMS:
                body = f"csrf={visitor.csrf}&{form}" if "csrf" not in form and "revoke" not in path else form
                said.append((path, form, await post_form(visitor, path, body)))
    for path, given, answer in said:
        assert answer.status < 500, (path, given, answer.text)
        assert answer.header("X-Frame-Options") == "DENY"
    assert [line for line in lines if line["event"] == "bug"] == []


def path_of(route: web.AbstractRoute) -> str:
    return route.resource.canonical if route.resource is not None else ""


async def post_form(visitor: Visitor, path: str, body: str) -> Fetched:
    kind = "application/x-www-form-urlencoded"
    headers = {"Sec-Fetch-Site": "same-origin", "Origin": "null", "Content-Type": kind}
    return await visitor.send("POST", path, headers=headers, data=body.encode())


@pytest.mark.parametrize(
    "url",
    [
        "https://[acme.example]/",
        "https://[::1/",
        "https://[::1]:x/",
        "https://acme.example:99999/",
        "https://acme.example:/",
    ],
)
async def test_a_return_url_that_is_none_is_refused(world: World, visitor: Visitor, url: str) -> None:
    """Brackets and ports that no parser accepts."""
    answer = await world.begin(visitor, returnUrl=url, challenge=challenge_of("v" * 43))
    assert answer.status in {400, 403}, answer.text


class FakeClient(Client):
    """A fake OpenRouter with given answers."""

    def __init__(self, document: object, status: int = 200) -> None:
        self._document = Document(status, orjson.dumps(document), "application/json")

    async def post_json(self, *_: object, **__: object) -> Document:
        return self._document

    async def fetch(self, *_: object, **__: object) -> Document:
        return self._document


@pytest.mark.parametrize(
    "key", ["", " ", "sk-or-v1-a\r\nX: y", "sk-or-v1-\u00e9\u00e9\u00e9", "sk or", "x" * 600, None, 7, []]
)
async def test_a_key_that_no_header_can_carry_is_never_stored(key: object) -> None:
    """OpenRouter's answer is not ours to trust: what is no key is no answer."""
    with pytest.raises(UpstreamError):
        await OpenRouter("https://or.example", FakeClient({"key": key})).exchange("code", "verifier")


@pytest.mark.parametrize(
    ("limit", "nano"),
    [(1e12, 9_007_199 * 10**9), (9_007_200, 9_007_199 * 10**9), (1e300, 9_007_199 * 10**9), (-5, 0), (0.5, 5 * 10**8)],
)
async def test_a_limit_beyond_our_numbers_is_a_large_one(limit: float, nano: int) -> None:
    """A key may have a limit of a trillion dollars."""
    facts = await OpenRouter(
        "https://or.example", FakeClient({"data": {"limit": limit, "limit_remaining": limit}})
    ).facts("k")
    assert (facts.limit_nano, facts.remaining_nano) == (nano, nano)
    assert nano <= MAX_NANO


async def test_an_answer_of_any_size_is_not_read_whole() -> None:
    """OpenRouter's answers about a key are short; one of 60 MB is an error."""

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                await answer.write(b" " * 64 * 1024)
        return answer

    app = web.Application()
    app.router.add_route("*", "/api/v1/{rest:.*}", endless)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        client = Client(f"http://127.0.0.1:{runner.addresses[0][1]}", Timeouts(5, 5, 5))
        site = OpenRouter("https://or.example", client)
        for call in (site.facts("sk-or-v1-x"), site.exchange("code", "verifier")):
            with pytest.raises(UpstreamError, match="too large"):
                await call
        await client.close()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "+1",
        "-1+cmd|' /C calc'!A0",
        "-x",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        "\uff1d1",
        "-1e5",
        "--1",
        "-1.2.3",
    ],
)
async def test_a_formula_in_an_export_is_text(cell: str) -> None:
    """The app picks a model's name, and a spreadsheet would run it."""
    assert apps_pages._escape_formula(cell) == f"'{cell}"


@pytest.mark.parametrize(
    "cell", ["openai/gpt-4o", "-0.000001", "-12", "3.5", "", "a=b", "2026-11-26T00:00:00.000+00:00"]
)
async def test_numbers_and_words_in_an_export_stay(cell: str) -> None:
    """A correction is a negative number."""
    assert apps_pages._escape_formula(cell) == cell
