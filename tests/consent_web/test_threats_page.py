"""Attacks on origin and page (O…, I…), as far as a plain HTTP client can play them; the rest is in docs/threats.md."""

# ruff: noqa: N802 - the names carry the checklist's ids

import asyncio
import re
import time
from dataclasses import replace
from urllib.parse import urlsplit

import jwt
import pytest
from aiohttp.test_utils import TestServer

from consent_web.server import create_app
from gateway.settings import Operator
from tests.consent_web.sight import PAGES, dump
from tests.consent_web.test_dashboard import ref_of
from tests.consent_web.world import ORIGIN, Visitor, World, a_key, challenge_of


@pytest.mark.parametrize(
    "origin",
    [
        "http://acme.example",
        "https://acme.example:8443",
        "https://www.acme.example",
        "https://sub.acme.example",
        "https://acme.example.",
        "https://acme.example.evil.com",
        "https://evilacme.example",
        "https://xn--cme-7cd.example",
        "HTTPS://ACME.EXAMPLE",
        "https://user@acme.example",
        "https://acme.example/",
        "https://acme.example/path",
        "https://acme.example:443",
        "http://localhost:3000",
        "null",
        "data:text/html,x",
        "blob:https://acme.example/1",
        "file://",
        "chrome-extension://abc",
    ],
)
async def test_O01_only_the_registered_origin_opens_an_attempt(world: World, visitor: Visitor, origin: str) -> None:
    """Scheme, host and port are equal, letter by letter, or it is refused."""
    answer = await world.begin(visitor, origin=origin)
    assert (answer.status, answer.reason) == (403, "origin")


async def test_O01_test_keys_take_loopback_pages_and_no_others(world: World, visitor: Visitor) -> None:
    """A developer's own machine needs no registration; another site does."""
    for origin, status in (("http://localhost:5173", 200), ("http://127.0.0.1:1", 200), ("https://evil.example", 403)):
        token = world.token(mode="test")
        assert (await world.begin(visitor, mode="test", token=token, origin=origin)).status == status


async def test_I01_and_I05_every_answer_carries_the_headers(world: World, visitor: Visitor) -> None:
    """Pages, errors, redirects and 404s alike; only /consent is without COOP."""
    await visitor.open()
    answers = {path: await visitor.get(path) for path in PAGES}
    answers["refused"] = await visitor.post("/consent/attempts", {})
    answers["wrong method"] = await visitor.send("DELETE", "/")
    await world.connected(visitor)
    await visitor.read_csrf()
    answers["redirect"] = await visitor.submit("/stop")
    answers["file"] = await visitor.get(f"/static/{world.site.assets.version}/consent.js")
    assert answers["redirect"].status == 303
    for path, answer in answers.items():
        assert "frame-ancestors 'none'" in answer.header("Content-Security-Policy"), path
        assert answer.header("X-Frame-Options") == "DENY"
        assert answer.header("Referrer-Policy") == "no-referrer"
        assert answer.header("X-Content-Type-Options") == "nosniff"
        assert answer.header("Cross-Origin-Resource-Policy") == "same-origin"
        assert answer.header("Origin-Agent-Cluster") == "?1"
        assert "payment=()" in answer.header("Permissions-Policy")
        assert answer.header("Cache-Control") == (
            "no-store" if path != "file" else "public, max-age=31536000, immutable"
        )
        assert answer.header("Cross-Origin-Opener-Policy") == ("" if path == "/consent" else "same-origin")


async def test_every_page_says_who_runs_it(world: World, visitor: Visitor) -> None:
    """With help, terms and privacy, in windows that leave ours; none draws a lock of its own."""
    links = ("https://acme.example/help", "https://acme.example/terms", "https://acme.example/privacy")
    operator = Operator("Acme Budgets", terms_url=links[1], privacy_url=links[2], support_url=links[0])
    site = replace(world.site, operator=operator)
    server = TestServer(create_app(site))
    await server.start_server()
    at_home = replace(visitor, base=str(server.make_url("")).rstrip("/"))
    for path in PAGES:
        answer = await at_home.get(path)
        assert "Acme Budgets" in answer.text, path
        for link in links:
            assert f'<a href="{link}" target="_blank" rel="noopener noreferrer">' in answer.text, path
        assert "You are on" not in answer.text
    await server.close()


async def test_I03_the_policy_lets_only_our_nonce_run(visitor: Visitor) -> None:
    """Nonce, strict-dynamic and Trusted Types; a new nonce with each answer, on every script and style."""
    first, second = await visitor.get("/consent"), await visitor.get("/consent")
    policies = [answer.header("Content-Security-Policy") for answer in (first, second)]
    nonces = [re.findall(r"'nonce-([^']+)'", policy) for policy in policies]
    assert len({*nonces[0]}) == 1
    assert nonces[0] != nonces[1]
    for word in ("default-src 'none'", "'strict-dynamic'", "base-uri 'none'", "require-trusted-types-for 'script'"):
        assert word in policies[0]
    tags = re.findall(r"<(?:script|style|link rel=\"modulepreload\")[^>]*>", first.text)
    assert tags
    assert all(f'nonce="{nonces[0][0]}"' in tag for tag in tags)
    assert " style=" not in first.text
    assert " on" not in re.sub(r">[^<]*<", "><", first.text).replace(" one", "")


async def test_I04_names_and_labels_are_tamed(world: World, visitor: Visitor) -> None:
    """Direction-changing and invisible characters are removed, long names shortened; markup stays text."""
    name = "<img src=x onerror=alert(1)>\u202egnp.exe\u200b" + "x" * 200
    app = await world.site.apps.create(name, [ORIGIN])
    token = world.token(app_id=app["appId"], userLabel="a\u202eb\u0000c\n" + "y" * 900)
    begun = await world.begin(visitor, app_id=app["appId"], token=token)
    assert isinstance(begun.json["app"], dict)
    shown = str(begun.json["app"]["name"])
    assert shown.startswith("<img src=x onerror=alert(1)>gnp.exe")
    assert len(shown) == 48
    await visitor.post(f"/consent/attempts/{begun.json['id']}/key", {"key": a_key()})
    await visitor.post(f"/consent/attempts/{begun.json['id']}/approve", {"monthlyUsd": 5})
    page = (await visitor.get("/")).text
    assert "<img" not in page
    assert "\u202e" not in page + begun.text


async def test_I06_consent_never_redirects_and_no_answer_holds_a_token(world: World, visitor: Visitor) -> None:
    """A redirect would carry the fragment to another host; a token in an answer would end in a log."""
    assert (await visitor.get("/consent")).status == 200
    assert (await visitor.get("/consent/")).status == 404
    begun = await world.begin(visitor)
    assert "eyJ" not in begun.text
    assert "eyJ" not in (await visitor.get(f"/consent/attempts/{begun.json['id']}")).text


async def test_I07_and_I18_pages_load_nothing_from_elsewhere(world: World, visitor: Visitor) -> None:
    """Every source is ours or written into the page."""
    await world.connected(visitor)
    ref = await ref_of(visitor)
    for path in (*PAGES, f"/apps/{ref}"):
        text = (await visitor.get(path)).text
        loads = re.findall(r"<(?:script|link|img|iframe|source)[^>]*(?:src|href)=\"([^\"]+)\"", text)
        assert all(load.startswith(("/static/", "data:")) for load in loads), loads


async def test_I08_cookies_are_host_only_and_rotate_at_approval(world: World, visitor: Visitor) -> None:
    """Every cookie is __Host-, Secure, HttpOnly, Lax, Path=/; a wallet's old value dies once the new one is seen."""
    page = await visitor.get("/consent")
    attempt = await world.funded(visitor)
    before = dict(visitor.cookies)
    approved = await visitor.post(f"/consent/attempts/{attempt}/approve", {"monthlyUsd": 5})
    for answer in (page, approved):
        for line in answer.headers.getall("Set-Cookie"):
            assert line.startswith("__Host-wattfare-")
            for word in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
                assert word in line
            assert "Domain" not in line
    thief = world.visitor()
    thief.cookies = before
    assert (await visitor.get("/funding")).status == 200
    assert (await thief.get("/funding")).status == 404


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "https://acme.example\\@evil.example/",
        "https://acme.example@evil.example/",
        "https://acme.example.evil.example/",
        "javascript:alert(1)//https://acme.example",
        "https://acme.example/%0d%0aSet-Cookie:x=y\r\nX: y",
        "https://acme.example /",
        "https://acme.example:444/",
        "http://acme.example/",
        "https://acme.example/",
        "https://acme.example/app",
        "https://acme.example/app?tab=1&to=https://evil.example",
        "https://acme.example/app/out?to=https://evil.example/steal",
    ],
)
async def test_I10_only_registered_pages_are_returned_to(world: World, visitor: Visitor, url: str) -> None:
    """A return URL that is not registered, whole, opens no attempt: an origin may hold an open redirect."""
    answer = await world.begin(visitor, returnUrl=url, challenge=challenge_of("v" * 43))
    assert (answer.status, answer.reason) == (403, "return_url")


async def test_I11_known_and_unknown_payers_get_the_same_popup(world: World, visitor: Visitor) -> None:
    """The page reveals nothing about the visitor: same status, same size, no redirect."""
    stranger = await world.visitor().get("/consent")
    await world.connected(visitor)
    known = await visitor.get("/consent")
    assert (stranger.status, len(stranger.text)) == (known.status, len(known.text))


@pytest.mark.parametrize("where", ["iframe", "frame", "embed", "object"])
async def test_I11_frames_are_refused(visitor: Visitor, where: str) -> None:
    """A request for a frame gets no page."""
    assert (await visitor.get("/consent", **{"Sec-Fetch-Dest": where})).status == 403


async def test_I12_tokens_of_another_time_app_or_algorithm_are_refused(world: World, visitor: Visitor) -> None:
    """Expired, not yet valid, unsigned, of another key or another app: all the same 401."""
    now = int(time.time())
    claims = jwt.decode(world.token(), options={"verify_signature": False})
    other = await world.site.apps.create("Other", [ORIGIN])
    tokens = [
        world.token(exp=now - 120),
        world.token(nbf=now + 300),
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode(claims, "k" * 32, algorithm="HS256", headers={"kid": "dev"}),
        world.token(app_id=other["appId"]),
        world.token(mode="test"),
        "eyJ",
        "",
    ]
    answers = [await world.begin(visitor, token=token) for token in tokens]
    assert {(answer.status, answer.reason) for answer in answers} == {(401, "auth")}


async def test_I12_a_minute_of_drift_is_forgiven(world: World, visitor: Visitor) -> None:
    """RFC 7519: clocks of two hosts differ."""
    assert (await world.begin(visitor, token=world.token(exp=int(time.time()) - 30))).status == 200


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("sk-proj-abcdefghijklmnop", "key_form"),
        ("sk-or-v1-" + "x" * 600, "key_form"),
        ("sk-or-v1-\u0430bcdefghijkl", "key_form"),
        ("sk-or-v1-revoked-0123456789abcdef", "key_refused"),
        ("sk-or-v1-mgmt-0123456789abcdef", "key_management"),
    ],
)
async def test_I13_keys_that_cannot_pay_are_refused_and_never_repeated(
    world: World, visitor: Visitor, key: str, reason: str
) -> None:
    """Wrong prefix before the network, dead and management keys after it; no answer holds the key."""
    begun = await world.begin(visitor)
    answer = await visitor.post(f"/consent/attempts/{begun.json['id']}/key", {"key": key})
    assert answer.status in {400, 402, 422}
    assert answer.reason == reason
    assert key not in answer.text


async def test_I13_a_key_is_nowhere_in_clear(world: World, visitor: Visitor) -> None:
    """Not in an answer, not in the store: only its last four characters."""
    key = a_key()
    begun = await world.begin(visitor)
    pasted = await visitor.post(f"/consent/attempts/{begun.json['id']}/key", {"key": key})
    approved = await visitor.post(f"/consent/attempts/{begun.json['id']}/approve", {"monthlyUsd": 5})
    pages = [await visitor.get(path) for path in ("/", "/funding", f"/consent/attempts/{begun.json['id']}")]
    for answer in (pasted, approved, *pages):
        assert key not in answer.text
        assert key[:-4] not in answer.text
    assert key[-4:] in pasted.text
    for name, content in (await dump(world)).items():
        assert isinstance(content, bytes)
        assert key.encode() not in content, name


async def test_I16_popups_and_key_tries_are_counted(world: World, visitor: Visitor) -> None:
    """A browser that opens popups or tries keys without end is rate-limited."""
    answers = [await world.begin(visitor, token=world.token(str(number))) for number in range(21)]
    assert [answer.status for answer in answers] == [200] * 20 + [429]
    other = world.visitor()
    begun = await world.begin(other, token=world.token("x"))
    path = f"/consent/attempts/{begun.json['id']}/key"
    tries = [await other.post(path, {"key": f"sk-or-v1-revoked-{number:016}"}) for number in range(11)]
    assert [answer.status for answer in tries] == [402] * 10 + [429]
    assert int(tries[-1].header("Retry-After")) > 0


async def test_I16_an_unknown_app_looks_like_a_wrong_token(world: World, visitor: Visitor) -> None:
    """Publishable keys cannot be searched for."""
    body = {"app_id": "app" + "a" * 16, "token": world.token(app_id="app" + "a" * 16)}
    unknown = await world.begin(visitor, **body)
    wrong = await world.begin(visitor, app_id="app" + "a" * 16)
    assert (unknown.status, unknown.reason) == (wrong.status, wrong.reason) == (401, "auth")


async def test_I17_two_refusals_within_a_minute_start_a_cooldown(
    world: World, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app may not ask this browser again for a while; another browser is not touched. Not so in development."""

    async def refuse_twice() -> None:
        for user in ("bob", "bob2"):
            begun = await world.begin(visitor, token=world.token(user))
            denied = await visitor.post(f"/consent/attempts/{begun.json['id']}/deny")
            assert denied.json["state"] == "denied"

    await refuse_twice()
    assert (await world.begin(visitor)).status == 200
    monkeypatch.setattr(world.site.limits, "_cools_down", True)
    await refuse_twice()
    third = await world.begin(visitor)
    assert (third.status, third.reason) == (429, "cooldown")
    assert (await world.begin(world.visitor(), token=world.token("eve"))).status == 200


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("/consent/attempts", {"Content-Type": "application/json; charset=none"}, b"{}", 400),
        ("/consent/attempts", {"Content-Type": "application/json; charset=utf-16"}, b"{", 400),
        ("/consent/attempts", {"Content-Encoding": "gzip"}, b"{}", 415),
        ("/leave", {"Content-Type": "application/x-www-form-urlencoded; charset=none"}, b"csrf=1", 400),
        ("/leave", {"Content-Type": "application/x-www-form-urlencoded"}, b"csrf=\xff", 400),
    ],
)
async def test_a_post_in_any_bytes_is_no_bug_of_ours(
    visitor: Visitor, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    """What cannot be read is refused as the sender's fault."""
    await visitor.open()
    assert (await visitor.post(path, body, headers=headers)).status == status


async def test_a_cookie_in_any_bytes_opens_no_wallet(world: World) -> None:
    """It is no cookie of ours: the page is that of a browser without one."""
    address = urlsplit(world.base)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: __Host-wattfare-wallet=\xff\xfe\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200 ")
