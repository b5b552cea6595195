"""Sends a simulated answer over HTTP, one write for each chunk, and bills a client that hangs up."""

import asyncio
import secrets
import string
from contextlib import suppress

from aiohttp import web

from sandbox.bill import Entry, GenerationState
from sandbox.state import API_PATH, STATE_KEY, SandboxState, json_body, whole_response
from simulator.answers import SimulatedAnswer, simulate

# Polling interval for a client's hang-up during a pause, which aiohttp reports to a handler only by cancelling it.
_WATCH_SECONDS = 0.02

DIALECTS = ("chat/completions", "completions", "embeddings", "responses", "messages")
"""The inference paths below API_PATH."""

_ALPHABET = string.ascii_letters + string.digits


async def answer_request(request: web.Request) -> web.StreamResponse:
    """Answer a `POST` to any of DIALECTS."""
    state = request.app[STATE_KEY]
    api_key = state.payer_of(request)
    answer = simulate(
        await json_body(request),
        generation_id=_generation_id(state),
        created_seconds=int(state.now()),
        dialect=request.path.removeprefix(API_PATH),
        user_id=api_key.user_id,
        keepalive_ms=state.settings.keepalive_ms,
    )
    if answer.status != 200:
        return whole_response(answer)
    return await _send(request, answer, state.bill.open(answer, api_key.key_sha256))


def _generation_id(state: SandboxState) -> str:
    return f"gen-{int(state.now())}-" + "".join(secrets.choice(_ALPHABET) for _ in range(20))


async def _send(request: web.Request, answer: SimulatedAnswer, entry: Entry) -> web.StreamResponse:
    now = request.app[STATE_KEY].now
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    try:
        with suppress(ConnectionError):
            await response.prepare(request)
            if await _send_all(request, response, answer, entry):
                entry.end(GenerationState.DONE, now())
                await _end_connection(request, answer)
    finally:
        entry.end(GenerationState.CANCELLED, now())
    return response


async def _send_all(request: web.Request, response: web.StreamResponse, answer: SimulatedAnswer, entry: Entry) -> bool:
    """Send every chunk; return False if the client hung up before the last one."""
    for chunk in answer.chunks:
        if not await _waits(request, chunk.pause_ms / 1000):
            return False
        if chunk.data:
            await response.write(chunk.data)
        entry.produced_tokens += chunk.tokens
    return True


async def _waits(request: web.Request, seconds: float) -> bool:
    """Wait `seconds` and return True; return False as soon as the client has hung up."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    await asyncio.sleep(min(seconds, _WATCH_SECONDS))
    while not _is_gone(request):
        left = until - clock()
        if left <= 0:
            return True
        await asyncio.sleep(min(left, _WATCH_SECONDS))
    return False


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


async def _end_connection(request: web.Request, answer: SimulatedAnswer) -> None:
    """End the connection as the answer specifies: drop it, keep it open until the client hangs up, or end cleanly."""
    if answer.cut and request.transport is not None:
        request.transport.close()
    if answer.hangs:
        while await _waits(request, 60):
            pass
