"""Metered calls paid by a grant: exactly N requests, a use is returned once, no other app's key can spend it."""

import asyncio

from gateway.payers.connections import By
from gateway.payers.limits import UNKNOWN_GRANTS_AN_APP
from tests.fakes import COST_NANO, STREAMED, Exchange, FakeOpenRouter, refuses, streams, whole_answer
from tests.gateway.stack import ORIGIN, PATIENCE_SECONDS, ReadAnswer, Stack, question

SEVEN = 7


def reason(answer: ReadAnswer) -> str:
    """Why a grant was refused."""
    assert answer.refusal == (402, "grant_invalid")
    found: str = answer.document["error"]["reason"]
    return found


async def status(stack: Stack, token: str) -> ReadAnswer:
    return await stack.ask("GET", "/v1/grants", headers=stack.as_grant(token))


async def test_a_grant_pays_for_so_many_requests(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Each answer states the remaining number; the next request is refused; the token is not sent upstream."""
    token = await stack.grant(2)
    answers = [await stack.chat(headers=stack.as_grant(token)) for _ in range(3)]
    assert [each.status for each in answers] == [200, 200, 402]
    assert [each.headers["x-wattfare-grant-remaining"] for each in answers[:2]] == ["1", "0"]
    assert answers[0].headers["x-wattfare-remaining-usd"] == "0.5"
    assert reason(answers[2]) == "used_up"
    await stack.quiet()
    found = (await status(stack, token)).document
    assert (found["requestsRemaining"], found["requests"], found["active"]) == (0, 2, False)
    assert found["spentUsd"] * 10**9 == 2 * COST_NANO
    usage = await stack.ask(
        "GET",
        f"/v1/usage/{answers[0].headers['x-wattfare-request-id']}",
        headers={"Authorization": f"Bearer {stack.secret}"},
    )
    assert (usage.document["status"], usage.document["costUsd"] * 10**9) == ("settled", COST_NANO)
    assert len(openrouter.received) == 2
    assert all("x-wattfare-grant" not in each.names and token not in str(each) for each in openrouter.received)


async def test_a_hundred_at_once_are_as_many_as_the_grant_carries(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Uses in flight count as taken, and a request does not wait for one."""
    token = await stack.grant(SEVEN)
    answers = await asyncio.gather(*(stack.chat(headers=stack.as_grant(token)) for _ in range(100)))
    assert sorted(each.status for each in answers) == [200] * SEVEN + [402] * (100 - SEVEN)
    assert len(openrouter.received) == SEVEN


async def test_no_other_key_finds_it(stack: Stack) -> None:
    """Another app's secret, the other mode's and a made-up token get the very same answer."""
    token = await stack.grant()
    other = await stack.gateway.services.apps.create("Other", [])
    headers = [
        stack.as_grant(token, secret=other["secretKey"]),
        stack.as_grant(token, secret=stack.test_secret),
        stack.as_grant("gr_live_" + "0" * 64),
        stack.as_grant("nonsense"),
    ]
    said = set()
    for each in headers:
        for answer in (await stack.chat(headers=each), await stack.ask("GET", "/v1/grants", headers=each)):
            assert reason(answer) == "unknown"
            said.add(answer.document["error"]["message"])
    assert len(said) == 1
    assert (await status(stack, token)).document["requestsRemaining"] == 3


async def test_a_refusal_before_any_work_gives_the_use_back(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Each refusal returns one use; an answer uses it finally."""
    token = await stack.grant(1)
    openrouter.play = refuses(429, {"code": 429, "message": "slow down"})
    for _ in range(3):
        assert (await stack.chat(headers=stack.as_grant(token))).status == 429
        await stack.quiet()
    openrouter.play = whole_answer
    assert (await stack.chat(headers=stack.as_grant(token))).status == 200
    assert reason(await stack.chat(headers=stack.as_grant(token))) == "used_up"


async def test_a_caller_who_hangs_up_has_used_a_request(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Work was done for it."""
    begun = asyncio.Event()

    async def play(turn: Exchange) -> None:
        await turn.head(200, {"Content-Type": "text/event-stream", "X-Generation-Id": "gen-1-fake"})
        await turn.send(b'data: {"id":"gen-1-fake","choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n')
        begun.set()
        await turn.until_closed()

    openrouter.play = play
    openrouter.generations["gen-1-fake"] = {"id": "gen-1-fake", "total_cost": 0.001, "model": "acme/large"}
    token = await stack.grant(1)
    asking = asyncio.create_task(stack.chat(question(stream=True), headers=stack.as_grant(token)))
    await begun.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await status(stack, token)).document["spentUsd"] == 0:
            await asyncio.sleep(0.01)
    assert reason(await stack.chat(headers=stack.as_grant(token))) == "used_up"


async def test_dollars_bind_a_grant_as_they_do_a_cap(stack: Stack) -> None:
    """Too little for the request, or all spent: invalid, and nothing leaves."""
    token = await stack.grant(3, "0.00001")
    answer = await stack.chat(question(max_tokens=9000), headers=stack.as_grant(token))
    assert reason(answer) == "over_budget"
    assert answer.document["error"]["neededUsd"] > answer.document["error"]["leftUsd"]
    assert (await status(stack, token)).document["requestsRemaining"] == 3


async def test_ending_a_grant_cuts_its_stream_and_lets_nothing_in(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """The broadcast is the same as for a revocation; the stream ends with the reason."""
    begun = asyncio.Event()

    async def play(turn: Exchange) -> None:
        await turn.head(200, {"Content-Type": "text/event-stream", "X-Generation-Id": "gen-1-fake"})
        await turn.send(b'data: {"id":"gen-1-fake","choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n')
        begun.set()
        await turn.until_closed()

    openrouter.play = play
    token = await stack.grant()
    asking = asyncio.create_task(stack.chat(question(stream=True), headers=stack.as_grant(token)))
    await begun.wait()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await stack.gateway.services.connections.revoke(stack.granted(token), by=By.PAYER)
        answer = await asking
    assert b"grant_invalid" in answer.body
    assert reason(await stack.chat(headers=stack.as_grant(token))) == "ended"
    assert (await status(stack, token)).document["active"] is False


async def test_a_stream_that_was_let_in_outlives_its_grant(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """Expiry closes the door; what is inside ends in order, and its cost is booked."""
    go_on = asyncio.Event()

    async def play(turn: Exchange) -> None:
        await go_on.wait()
        await streams([STREAMED])(turn)

    openrouter.play = play
    token = await stack.grant(life_ms=300)
    asking = asyncio.create_task(stack.chat(question(stream=True), headers=stack.as_grant(token)))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (await stack.gateway.services.ledger.standing(stack.granted(token))).has_ended:
            await asyncio.sleep(0.01)
    assert reason(await stack.chat(headers=stack.as_grant(token))) == "expired"
    go_on.set()
    assert (await asking).body.endswith(b"data: [DONE]\n\n")
    await stack.quiet()
    assert (await status(stack, token)).document["spentUsd"] * 10**9 == COST_NANO


async def test_a_request_that_waits_while_its_grant_expires_is_refused(
    patient: Stack, openrouter: FakeOpenRouter
) -> None:
    """The request waits for another's hold; the grant's expiry is checked again at its turn."""
    go_on, begun = asyncio.Event(), asyncio.Event()

    async def play(turn: Exchange) -> None:
        begun.set()
        await go_on.wait()
        await whole_answer(turn)

    openrouter.play = play
    token, asked = await patient.grant(5, "0.003", life_ms=1500), question(max_tokens=1000)
    first = asyncio.create_task(patient.chat(asked, headers=patient.as_grant(token)))
    await begun.wait()
    second = asyncio.create_task(patient.chat(asked, headers=patient.as_grant(token)))
    budget, store = patient.granted(token), patient.gateway.services.store
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await store.call("ZCARD", budget.queue):
            await asyncio.sleep(0.01)
        while not (await patient.gateway.services.ledger.standing(budget)).has_ended:
            await asyncio.sleep(0.01)
        go_on.set()
        assert (await first).status == 200
        assert reason(await second) == "expired"
    assert len(openrouter.received) == 1


async def test_a_request_waits_for_dollars_in_flight_and_is_then_let_in(
    patient: Stack, openrouter: FakeOpenRouter
) -> None:
    """As with a connection; it took no use while it waited."""
    token, asked = await patient.grant(2, "0.003"), question(max_tokens=1000)
    answers = await asyncio.gather(*(patient.chat(asked, headers=patient.as_grant(token)) for _ in range(2)))
    assert [each.status for each in answers] == [200, 200]
    assert sorted(each.headers["x-wattfare-grant-remaining"] for each in answers) == ["0", "1"]


async def test_a_test_grant_costs_nothing_and_needs_no_key(stack: Stack, openrouter: FakeOpenRouter) -> None:
    """It is counted like a live one; the simulator answers."""
    token = await stack.grant(1, mode="test")
    headers = stack.as_grant(token, secret=stack.test_secret)
    assert (await stack.chat(headers=headers)).status == 200
    assert reason(await stack.chat(headers=headers)) == "used_up"
    assert openrouter.received == []


async def test_guessing_is_slowed_down_for_the_app_that_guesses(stack: Stack) -> None:
    """After so many tokens that are none 429, for that app alone, and never for a grant that is one."""
    token = await stack.grant()
    codes = [(await status(stack, f"gr_live_{number:064x}")).status for number in range(UNKNOWN_GRANTS_AN_APP + 1)]
    assert codes == [402] * UNKNOWN_GRANTS_AN_APP + [429]
    assert (await stack.chat(headers=stack.as_grant(token))).status == 200


async def test_one_payer_is_named_and_the_grant_resource_wants_a_grant(stack: Stack) -> None:
    """Both headers together are refused; the error for a user token names the right header."""
    token = await stack.grant()
    both = stack.as_user() | stack.as_grant(token)
    assert (await stack.chat(headers=both)).refusal == (400, "invalid_request")
    assert (await stack.ask("GET", "/v1/grants", headers=stack.as_user())).refusal == (400, "invalid_request")


async def test_a_page_asks_what_became_of_its_window_with_the_publishable_key(stack: Stack) -> None:
    """On a registered origin; it names the app and opens nothing else."""
    key = {"Authorization": f"Bearer {stack.app['publishableKey']}"}
    path = "/v1/attempts/" + "n" * 22
    answer = await stack.ask("GET", path, headers={**key, "Origin": ORIGIN})
    assert (answer.status, answer.document) == (200, {"state": "unknown"})
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    refused = await stack.ask("GET", path, headers={**key, "Origin": "https://evil.example"})
    assert refused.refusal == (401, "auth")
    unknown = {"Authorization": "Bearer pk_live_appaaaaaaaaaaaaaaaa"}
    assert (await stack.ask("GET", path, headers=unknown)).refusal == (401, "auth")
    assert (await stack.ask("POST", path, headers=key, document={"code": "a", "verifier": "b"})).refusal == (
        401,
        "auth",
    )
    assert (await stack.ask("GET", "/v1/connections", headers=key)).refusal == (401, "auth")
