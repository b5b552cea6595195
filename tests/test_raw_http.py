"""Arbitrary bytes to both services: no 500, no hang, and no byte of a body is taken for a request."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from consent_web import server as consent_server
from gateway.settings import Settings
from tests.fakes import FakeOpenRouter
from tests.gateway.stack import open_stack, settings_for
from tests.raw_http import Answers, answers_to, in_a_thread, requests_in
from tests.servers import ValkeyServer

# For the thread of the services; the examples do not use the loop.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
# A well-formed request after the bytes of an example: a server that miscounts those answers it wrongly, or twice.
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
# A body with the form of a request. If it is answered, it was taken for one.
INNER = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
JSON = b'{"appUserId":"ada","model":"acme/large","messages":[{"role":"user","content":"canary7Qx"}]}'
SECRET = b"__SECRET__"  # replaced by the app's key, on which no example may depend
MARK = b"canary7Qx"  # no answer may contain it
GATEWAY = [b"/v1/chat/completions", b"/v1/sessions", b"/v1/models?a=%41", b"/v1/messages", b"/nowhere", b"*", b"//"]
CONSENT = [b"/consent/attempts", b"/consent", b"/", b"/apps/x/cap", b"/static/secret.js", b"/nowhere", b"*"]
METHODS = [b"POST", b"GET", b"DELETE", b"OPTIONS", b"PUT", b"CONNECT"]
FIELDS = [
    b"Content-Type: application/json",
    b"Authorization: Bearer " + SECRET,
    b"x-wattfare-user: ada",
    b"Sec-Fetch-Site: same-origin",
    b"Cookie: __Host-wattfare-browser=" + b"b" * 43 + b"; x=" + MARK,
    b"Origin: null",
    b"Expect: 100-continue",
    b"Connection: close",
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: h2c",
    b"Content-Encoding: gzip",
    b"X-A: " + b"a" * 9000,
    b"X-\xff: \xff",
]
# The variants of each part of a framing: the correct one, then ones that parsers read differently or refuse.
WRITTEN = {
    "version": [b"1.1", b"1.0", b"2.0"],
    "line": [b"\r\n", b"\n", b"\r"],
    "length": [
        b"%d",
        b"0%d",
        b"%d ",
        b"+%d",
        b"-%d",
        b"0x%x",
        b"%d, %d",
        b"%d;",
        b"%d_0",
        b"",
        b"1",
        b"999",
        b"\x0b%d",
    ],
    "coded": [b"Transfer-Encoding: ", b"Transfer-Encoding : ", b"Transfer_Encoding: ", b"Transfer-Encoding:\r\n "],
    "coding": [b"chunked", b"Chunked", b"identity", b"chunked, identity", b"xchunked", b"\x0bchunked", b"chunked;q=1"],
    "size": [b"%x", b"%x;a=b", b"0%x", b"0x%x", b"%x ", b"+%x", b"-%x", b"%xg", b"f%x", b"ffffffffffffffff%x", b";%x"],
    "head": [b"\r\n", b"\n", b"\r", b"", b"\r\r\n"],
    "tail": [b"\r\n", b"\n", b"\r", b"", b"\r\n\r\n", b"x\r\n"],
    "trailer": [b"", b"X: y\r\n", b"Content-Length: 5\r\n", b"x\r\n", b" x: y\r\n"],
}
EDITS = [b"", b"\r", b"\n", b"\r\n", b"\x00", b":", b"\t", b"\xff"]


def filled(pattern: bytes, number: int) -> bytes:
    return pattern % ((number,) * pattern.count(b"%"))


@st.composite
def requests(draw: st.DrawFn, paths: list[bytes]) -> bytes:
    """Generate requests with one wrong part, or some changed bytes; one in ten has two framings."""
    doubted = draw(st.sampled_from(["", "", *WRITTEN, "bytes"]))
    written = {part: draw(st.sampled_from(ways)) if part == doubted else ways[0] for part, ways in WRITTEN.items()}
    body = draw(st.sampled_from([INNER, INNER, JSON, b""]))
    is_chunked = draw(st.booleans()) or doubted in {"coded", "coding", "size", "head", "tail", "trailer"}
    has_length = not is_chunked or draw(st.integers(0, 9)) == 0
    framing = []
    if is_chunked:
        framing.append(written["coded"] + written["coding"])
        chunk = filled(written["size"], len(body)) + written["head"] + body + written["tail"] if body else b""
        body = chunk + b"0\r\n" + written["trailer"] + b"\r\n"
    if has_length:
        framing.append(b"Content-Length: " + filled(written["length"], len(body)))
    first = draw(st.sampled_from(METHODS)) + b" " + draw(st.sampled_from(paths)) + b" HTTP/" + written["version"]
    fields = draw(st.lists(st.sampled_from(FIELDS), max_size=4, unique=True))
    lines = [first, *draw(st.permutations([b"Host: x", *framing, *fields])), b"", b""]
    made = bytearray(written["line"].join(lines) + body)
    for _ in range(draw(st.integers(1, 3)) if doubted == "bytes" else 0):
        at = draw(st.integers(0, len(made)))
        made[at : at + draw(st.integers(0, 2))] = draw(st.sampled_from(EDITS))
    return bytes(made)


@contextlib.asynccontextmanager
async def both(redis_url: str, folder: Path) -> AsyncIterator[tuple[int, int, bytes]]:
    """Run both services; yield the gateway's port, the consent site's port, and a secret key."""
    site_settings = Settings.load({"REDIS_URL": redis_url, "WATTFARE_DATA_DIR": str(folder)}, default_port=8081)
    async with (
        FakeOpenRouter().running() as openrouter,
        open_stack(settings_for(redis_url, openrouter.url)) as stack,
        consent_server.open_site(site_settings) as site,
    ):
        await stack.connect()
        runner = consent_server.make_runner(consent_server.create_app(site), drain_seconds=0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield stack.port, runner.addresses[0][1], stack.secret.encode()
        finally:
            await runner.cleanup()


@pytest.fixture(scope="module")
def services(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int, bytes]]:
    """Run both services in a thread, as each example uses a blocking connection."""
    with in_a_thread(lambda: both(valkey.url, tmp_path_factory.mktemp("consent"))) as running:
        yield running


def check(port: int, sent: bytes) -> None:
    """Send bytes and a last request after them, and check the answers."""
    raw = sent + LAST
    count, is_whole = requests_in(raw)
    with capture_logs() as lines:
        came = answers_to(port, raw, is_whole=is_whole)
    answers = Answers(came)
    assert MARK not in came
    assert [line for line in lines if line["event"] == "bug"] == []
    assert not [status for status in answers.statuses if status >= 500]
    assert answers.unfinished == 0
    # Invalid HTTP gets one answer too, which ends the connection.
    assert len(answers.statuses) <= count + (not is_whole)
    if is_whole and not answers.closes:
        assert len(answers.statuses) == count


@settings(max_examples=200, deadline=None, derandomize=True)
@given(sent=requests(GATEWAY))
def test_the_gateway_stands_any_bytes(services: tuple[int, int, bytes], sent: bytes) -> None:
    """From an unknown caller, and from an app with a metered call."""
    check(services[0], sent.replace(SECRET, services[2]))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(sent=requests(CONSENT))
def test_the_consent_site_stands_any_bytes(services: tuple[int, int, bytes], sent: bytes) -> None:
    """As for the gateway."""
    check(services[1], sent)
