"""Plays a performance over HTTP: each chunk goes out by itself, and a client that hangs up is noticed and billed."""

import asyncio
import secrets
import string
from contextlib import suppress

from aiohttp import web

from sandbox.bill import Entry, State
from sandbox.house import HOUSE_KEY, House, json_body, whole_response
from simulator.answers import Performance, perform

# How soon a hung-up client is noticed during a pause: aiohttp tells a handler only by cancelling it.
_WATCH_SECONDS = 0.02

_ALPHABET = string.ascii_letters + string.digits


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer `POST /chat/completions`."""
    house = request.app[HOUSE_KEY]
    wallet = house.payer_of(request)
    performance = perform(
        await json_body(request),
        generation_id=_generation_id(house),
        created_seconds=int(house.now()),
        user_id=wallet.user_id,
        keepalive_ms=house.settings.keepalive_ms,
    )
    if performance.status != 200:
        return whole_response(performance)
    return await _play(request, performance, house.bill.open(performance, wallet.key_sha256))


def _generation_id(house: House) -> str:
    return f"gen-{int(house.now())}-" + "".join(secrets.choice(_ALPHABET) for _ in range(20))


async def _play(request: web.Request, performance: Performance, entry: Entry) -> web.StreamResponse:
    now = request.app[HOUSE_KEY].now
    response = web.StreamResponse(status=performance.status, headers=performance.headers)
    try:
        with suppress(ConnectionError):
            await response.prepare(request)
            if await _send_all(request, response, performance, entry):
                entry.end(State.DONE, now())
                await _part(request, performance)
    finally:
        entry.end(State.CANCELLED, now())
    return response


async def _send_all(request: web.Request, response: web.StreamResponse, performance: Performance, entry: Entry) -> bool:
    """Send every chunk; False when the client hung up before the last one."""
    for chunk in performance.chunks:
        if not await _stays(request, chunk.pause_ms / 1000):
            return False
        if chunk.data:
            await response.write(chunk.data)
        entry.produced_tokens += chunk.tokens
    return True


async def _stays(request: web.Request, seconds: float) -> bool:
    """Wait that long; False as soon as the client has hung up."""
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


async def _part(request: web.Request, performance: Performance) -> None:
    """Leave as the performance says: dropped, kept open until the client goes, or (by returning) cleanly."""
    if performance.cut and request.transport is not None:
        request.transport.close()
    if performance.hangs:
        while await _stays(request, 60):
            pass
