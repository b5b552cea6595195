"""Sessions, status, connections, usage and models over HTTP, for backends and for browsers."""

import asyncio
import json
import time
from typing import Any

import jwt
import pytest

from tests.fakes import COST_NANO, MODEL, Exchange, FakeOpenRouter, whole_answer
from tests.gateway.stack import Stack

_NOT_CONNECTED = {"connected": False, "limits": None, "usage": {"monthlyUsd": 0}, "remainingUsd": 0}
_JWT_KEY = b"j" * 32


def _bearer(token: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **more}


def _claims(stack: Stack, **changed: object) -> dict[str, object]:
    now = int(time.time())
    claims: dict[str, object] = {
        "appId": stack.app["appId"],
        "appUserId": "ada",
        "limits": None,
        "mode": "live",
        "iat": now,
        "exp": now + 600,
        "jti": "j",
        **changed,
    }
    return {name: value for name, value in claims.items() if value is not ...}


def _signed(claims: dict[str, object], *, key: bytes = _JWT_KEY, kid: str = "j1") -> str:
    return jwt.encode(claims, key, algorithm="HS256", headers={"kid": kid})


# -- sessions ---------------------------------------------------------------------------------------------


async def test_a_session_token_says_what_the_contract_says(stack: Stack) -> None:
    """HS256 with a kid, the claims by name, 600 seconds."""
    before = int(time.time())
    answer = await stack.ask(
        "POST",
        "/v1/sessions",
        document={"appUserId": "ada", "requestLimit": {"monthlyUsd": 12.345678901}},
        headers=_bearer(stack.secret),
    )
    assert set(answer.document) == {"token", "expiresAt"}
    token: str = answer.document["token"]
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "kid": "j1", "typ": "JWT"}
    claims = jwt.decode(token, _JWT_KEY, algorithms=["HS256"])
    assert set(claims) == {"appId", "appUserId", "limits", "mode", "iat", "exp", "jti"}
    assert (claims["appId"], claims["appUserId"], claims["mode"]) == (stack.app["appId"], "ada", "live")
    assert claims["limits"] == {"monthlyUsd": 12.345678901}
    assert claims["exp"] == claims["iat"] + 600 == answer.document["expiresAt"]
    assert before <= claims["iat"] <= time.time()
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_test_key_makes_test_tokens_without_limits(stack: Stack) -> None:
    """The mode is that of the key; a limit that was not requested is null; each token has its own jti."""
    tokens = [await stack.token(secret=stack.test_secret) for _ in range(2)]
    claims = [jwt.decode(token, _JWT_KEY, algorithms=["HS256"]) for token in tokens]
    assert [each["mode"] for each in claims] == ["test", "test"]
    assert [each["limits"] for each in claims] == [None, None]
    assert claims[0]["jti"] != claims[1]["jti"]


async def test_a_session_names_the_account_as_its_user_knows_it(stack: Stack) -> None:
    """`userLabel` is the claim of the same name."""
    document = {"appUserId": "7", "userLabel": "Ada Lovelace (ada@x.example)"}
    answer = await stack.ask("POST", "/v1/sessions", document=document, headers=_bearer(stack.secret))
    claims = jwt.decode(answer.document["token"], _JWT_KEY, algorithms=["HS256"])
    assert claims["userLabel"] == document["userLabel"]


@pytest.mark.parametrize("label", ["", "x" * 81, " ", "\u200b\u2060", "a\nb", "a\x00", "a\x85b", 7, ["ada"], {}])
async def test_a_label_that_cannot_be_shown_is_refused(stack: Stack, label: object) -> None:
    """1 to 80 characters, one of them visible, none a control character."""
    document = {"appUserId": "7", "userLabel": label}
    answer = await stack.ask("POST", "/v1/sessions", document=document, headers=_bearer(stack.secret))
    assert answer.refusal == (422, "invalid_request")
    assert "userLabel" in answer.document["error"]["message"]


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"appUserId": "7", "userlabel": "Ada"}, "'userlabel'"),
        ({"appUserId": "7", "requestLimit": {"monthlyUSD": 5}}, "'requestLimit.monthlyUSD'"),
        ({"appUserId": "7", "limits": {"monthlyUsd": 5}}, "'limits'"),
        ({"appUserId": "7", "\n" + "x" * 900: 1}, "'\\nxxx"),
    ],
)
async def test_an_unknown_field_of_a_session_is_named(stack: Stack, document: dict[str, object], named: str) -> None:
    """A misspelled limit would otherwise be silently ignored, that is: no limit."""
    answer = await stack.ask("POST", "/v1/sessions", document=document, headers=_bearer(stack.secret))
    assert answer.refusal == (422, "invalid_request")
    assert named in answer.document["error"]["message"]
    assert len(answer.document["error"]["message"]) < 200


async def test_200_at_once_are_120_and_80(stack: Stack) -> None:
    """Exactly 120 a minute for each app; the rest get a Retry-After. Another app is not affected."""
    asked = {"document": {"appUserId": "ada"}, "headers": _bearer(stack.secret)}
    answers = await asyncio.gather(*(stack.ask("POST", "/v1/sessions", **asked) for _ in range(200)))  # type: ignore[arg-type]
    assert sorted(answer.status for answer in answers) == [200] * 120 + [429] * 80
    for answer in answers:
        if answer.status == 429:
            assert answer.refusal == (429, "rate_limited")
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
            assert answer.document["error"]["retryAfter"] == int(answer.headers["Retry-After"])
    other = await stack.gateway.services.apps.create("Other", [])
    await stack.token(secret=other["secretKey"])
    # A refused call needs a right key first: a stranger cannot use the app's share up.
    assert (await stack.ask("POST", "/v1/sessions", document={}, headers=_bearer("sk_live_x_y"))).status == 401


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"appUserId": ""},
        {"appUserId": 5},
        {"appUserId": None},
        {"appUserId": "a" * 257},
        {"appUserId": "a\n"},
        {"appUserId": "a\x7f"},
        {"appUserId": "ada", "requestLimit": 5},
        {"appUserId": "ada", "requestLimit": [5]},
    ],
    ids=lambda document: json.dumps(document)[:40],
)
async def test_a_session_for_nobody_is_refused(stack: Stack, document: dict[str, object]) -> None:
    """422 names the field."""
    answer = await stack.ask("POST", "/v1/sessions", document=document, headers=_bearer(stack.secret))
    assert answer.refusal == (422, "invalid_request")


_BAD_CAPS = {
    "NaN": 400,
    "Infinity": 400,
    "-Infinity": 400,
    "1e309": 422,
    "1e999999999": 422,
    "-1": 422,
    '"5"': 422,
    "0": 422,
    "-0.0": 422,
    "true": 422,
    "[5]": 422,
    "9007200": 422,
}


@pytest.mark.parametrize("literal", _BAD_CAPS)
async def test_a_cap_that_is_none_is_refused_and_nothing_changes(stack: Stack, literal: str) -> None:
    """An invalid cap, in a session or an approval, test or live: status and code; the connection is unchanged."""
    body = b'{"appUserId":"ada","requestLimit":{"monthlyUsd":%s}}' % literal.encode()
    answer = await stack.ask("POST", "/v1/sessions", body=body, headers=_bearer(stack.secret))
    assert answer.refusal == (_BAD_CAPS[literal], "invalid_request")
    body = b'{"monthlyUsd":%s}' % literal.encode()
    for secret, mode in ((stack.secret, "live"), (stack.test_secret, "test")):
        token = await stack.token(secret=secret)
        before = await stack.standing(mode=mode)
        answer = await stack.ask("POST", "/v1/connections", body=body, headers=_bearer(token))
        assert answer.refusal == (_BAD_CAPS[literal], "invalid_request")
        assert await stack.standing(mode=mode) == before
        assert await stack.nothing_is_lost(mode=mode)


# -- tokens -----------------------------------------------------------------------------------------------


async def test_a_forged_or_old_token_is_401(stack: Stack) -> None:
    """Expired, alg none, another key, another kid, no kid, wrong claims, cut short, none at all."""
    now = int(time.time())
    unsigned = jwt.encode(_claims(stack), "", algorithm="none", headers={"kid": "j1"})
    good = _signed(_claims(stack))
    forged = {
        "expired": _signed(_claims(stack, iat=now - 2000, exp=now - 1000)),
        "alg none": unsigned,
        "foreign key": _signed(_claims(stack), key=b"x" * 32),
        "unknown kid": _signed(_claims(stack), kid="j2"),
        "no kid": jwt.encode(_claims(stack), _JWT_KEY, algorithm="HS256"),
        "master key's kid": _signed(_claims(stack), key=b"m" * 32, kid="m1"),
        "another app": _signed(_claims(stack, appId="app" + "a" * 16)),
        "no app": _signed(_claims(stack, appId=...)),
        "no user": _signed(_claims(stack, appUserId=...)),
        "user as a number": _signed(_claims(stack, appUserId=5)),
        "a long user": _signed(_claims(stack, appUserId="a" * 257)),
        "no mode": _signed(_claims(stack, mode=...)),
        "odd mode": _signed(_claims(stack, mode="prod")),
        "no jti": _signed(_claims(stack, jti=...)),
        "no exp": _signed(_claims(stack, exp=...)),
        "odd limits": _signed(_claims(stack, limits={"monthlyUsd": "5"})),
        "negative limits": _signed(_claims(stack, limits={"monthlyUsd": -5})),
        "cut short": good[:-4],
        "a secret key": stack.secret,
        "nothing": "",
        "not ASCII": "é",
    }
    for name, token in forged.items():
        answer = await stack.ask("GET", "/v1/connections", headers=_bearer(token))
        assert answer.refusal == (401, "auth"), name
    assert (await stack.ask("GET", "/v1/connections", headers=_bearer(good))).status == 200
    assert (await stack.ask("GET", "/v1/status?appUserId=ada", headers=_bearer(good))).refusal == (401, "auth")


# -- status and connections -------------------------------------------------------------------------------


async def test_status_is_a_value_also_for_a_stranger(stack: Stack) -> None:
    """Without a connection: 200 and `connected: false`; with one: cap, spend and remaining amount."""
    secret = _bearer(stack.secret)
    assert (await stack.ask("GET", "/v1/status?appUserId=nobody", headers=secret)).document == _NOT_CONNECTED
    await stack.chat()
    await stack.booked()
    spent = COST_NANO / 1e9
    answer = await stack.ask("GET", "/v1/status?appUserId=ada", headers=secret)
    assert json.loads(answer.body) == {
        "connected": True,
        "limits": {"monthlyUsd": 5},
        "usage": {"monthlyUsd": spent},
        "remainingUsd": 5 - spent,
    }
    token = await stack.token()
    assert (await stack.ask("GET", "/v1/connections", headers=_bearer(token))).document == answer.document
    # Live and test are two connections.
    test = await stack.ask("GET", "/v1/status?appUserId=ada", headers=_bearer(stack.test_secret))
    assert test.document == _NOT_CONNECTED


@pytest.mark.parametrize("query", ["", "?appUserId=", "?appUserId=a&appUserId=b", "?appUserId=a%0Ab", "?appUserId=%FF"])
async def test_status_of_nobody_is_422(stack: Stack, query: str) -> None:
    """One user id, and a valid one."""
    answer = await stack.ask("GET", f"/v1/status{query}", headers=_bearer(stack.secret))
    assert answer.refusal == (422, "invalid_request")


@pytest.mark.parametrize("user", ["a:b", "{x}", "a b/c", "é", "%41", "a+b", "日本語"])
async def test_any_user_id_finds_its_own_connection(stack: Stack, user: str) -> None:
    """Colons, braces, blanks, percent signs and letters of any script name one user and no other."""
    await stack.connect("3", user=user)
    async with stack.session.get(
        f"{stack.url}/v1/status", params={"appUserId": user}, headers=_bearer(stack.secret)
    ) as answer:
        assert (await answer.json())["limits"] == {"monthlyUsd": 3}
    token = await stack.token(user=user)
    assert (await stack.ask("GET", "/v1/connections", headers=_bearer(token))).document["connected"]


async def test_a_live_token_may_lower_and_nothing_else(stack: Stack) -> None:
    """Approving, raising and re-approving need the payer on the consent site."""
    headers = _bearer(await stack.token())

    async def post(document: object) -> Any:
        return await stack.ask("POST", "/v1/connections", document=document, headers=headers)

    assert (await post({"monthlyUsd": 6})).refusal == (403, "consent_required")
    assert (await post({})).refusal == (403, "consent_required")
    assert (await stack.ask("POST", "/v1/connections", headers=headers)).refusal == (403, "consent_required")
    lowered = await post({"monthlyUsd": 2.5})
    assert (lowered.status, json.loads(lowered.body)["limits"]) == (200, {"monthlyUsd": 2.5})
    assert (await post({"monthlyUsd": 2.6})).refusal == (403, "consent_required")
    stranger = _bearer(await stack.token(user="nobody"))
    answer = await stack.ask("POST", "/v1/connections", document={"monthlyUsd": 1}, headers=stranger)
    assert answer.refusal == (403, "consent_required")
    assert not (await stack.standing("nobody")).is_connected


async def test_test_mode_approves(stack: Stack) -> None:
    """Without a requested cap: unlimited; a cap in the token or in the body applies, the body's before the token's."""
    headers = _bearer(await stack.token(secret=stack.test_secret))
    answer = await stack.ask("POST", "/v1/connections", headers=headers)
    assert answer.document == {
        "connected": True,
        "limits": {"monthlyUsd": None},
        "usage": {"monthlyUsd": 0},
        "remainingUsd": None,
    }
    limited = _bearer(await stack.token(secret=stack.test_secret, requestLimit={"monthlyUsd": 7}))
    answer = await stack.ask("POST", "/v1/connections", document={}, headers=limited)
    assert answer.document["limits"] == {"monthlyUsd": 7}
    answer = await stack.ask("POST", "/v1/connections", document={"monthlyUsd": 9}, headers=limited)
    assert answer.document["limits"] == {"monthlyUsd": 9}


async def test_disconnecting_is_idempotent_by_token_and_by_secret(stack: Stack) -> None:
    """204 each time, without a body; spend survives a new connection."""
    await stack.chat()
    await stack.booked()
    token = _bearer(await stack.token())
    for _ in range(2):
        answer = await stack.ask("DELETE", "/v1/connections", headers=token)
        assert (answer.status, answer.body) == (204, b"")
    assert (await stack.ask("GET", "/v1/connections", headers=token)).document == _NOT_CONNECTED
    await stack.connect()
    assert (await stack.standing()).spent_nano == COST_NANO
    secret = _bearer(stack.secret)
    for _ in range(2):
        assert (await stack.ask("DELETE", "/v1/connections?appUserId=ada", headers=secret)).status == 204
    assert (await stack.chat()).refusal == (402, "not_connected")
    assert (await stack.ask("DELETE", "/v1/connections", headers=secret)).refusal == (401, "auth")
    assert (await stack.ask("DELETE", "/v1/connections?appUserId=ada", headers=token)).refusal == (401, "auth")


async def test_what_the_app_changes_leaves_a_receipt_of_the_app(stack: Stack) -> None:
    """Lowering and ending live, by token and by secret key; approving in test mode. Repeats leave nothing more."""
    live, test = _bearer(await stack.token()), _bearer(await stack.token(secret=stack.test_secret))
    for headers in (live, live, test, test):
        await stack.ask("POST", "/v1/connections", document={"monthlyUsd": 2}, headers=headers)
    for _ in range(2):
        await stack.ask("DELETE", "/v1/connections", headers=live)
        await stack.ask("DELETE", "/v1/connections?appUserId=ada", headers=_bearer(stack.test_secret))
    for mode, first in (("live", "cap"), ("test", "approved")):
        receipts = await stack.gateway.services.connections.receipts(stack.budget(mode=mode))
        assert [(line["by"], line["event"]) for line in receipts[:2]] == [("app", "revoked"), ("app", first)]
        assert len(receipts) == (3 if mode == "live" else 2)


# -- usage and models -------------------------------------------------------------------------------------


async def test_usage_tells_what_one_request_cost(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """`open` while it runs, then `settled` with its cost; only for the app and mode it belongs to."""
    other = await stack.gateway.services.apps.create("Other", [])
    seen: list[str] = []

    async def look(turn: Exchange) -> None:
        [request_id] = [exchange.request_id for each in stack.gateway.inflight._open.values() for exchange in each]
        answer = await stack.ask("GET", f"/v1/usage/{request_id}", headers=_bearer(stack.secret))
        seen.append(answer.document["status"])
        await whole_answer(turn)

    openrouter.play = look
    request_id = (await stack.chat()).headers["x-wattfare-request-id"]
    await stack.booked()
    told = json.loads((await stack.ask("GET", f"/v1/usage/{request_id}", headers=_bearer(stack.secret))).body)
    assert seen == ["open"]
    assert told["costUsd"] == COST_NANO / 1e9
    assert (told["status"], told["generationId"], told["model"]) == ("settled", "gen-1-fake", MODEL)
    assert (told["promptTokens"], told["completionTokens"], told["requestId"]) == (3, 1, request_id)
    for secret in (stack.test_secret, other["secretKey"]):
        answer = await stack.ask("GET", f"/v1/usage/{request_id}", headers=_bearer(secret))
        assert answer.refusal == (404, "invalid_request")
    unknown = await stack.ask("GET", f"/v1/usage/{request_id[:-1]}!", headers=_bearer(stack.secret))
    assert unknown.refusal == (404, "invalid_request")


async def test_models_are_openrouters_list_for_anybody(stack: Stack) -> None:
    """No key is needed, a page on any origin may read it, and an unknown model is 404."""
    answer = await stack.ask("GET", "/v1/models")
    assert [each["id"] for each in answer.document["data"]] == [MODEL, "acme/router"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert (await stack.ask("GET", "/api/v1/models")).body == answer.body
    assert (await stack.ask("GET", "/v1/models/acme/none/endpoints")).refusal == (404, "invalid_request")


@pytest.mark.parametrize("path", ["../keys", "%2e%2e/keys", "..%2F../keys", "a/..", "./keys", "%2E%2E/%2e%2e"])
async def test_no_dots_lead_out_of_the_public_lists(stack: Stack, openrouter: FakeOpenRouter, path: str) -> None:
    """No spelling of the path makes the gateway request anything but model lists from OpenRouter."""
    asked = len(openrouter.asked)
    request = f"GET /v1/models/{path}/endpoints HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    status, _, body = await stack.raw(request.encode())
    assert (status, json.loads(body)["error"]["code"]) == (404, "invalid_request")
    assert len(openrouter.asked) == asked
