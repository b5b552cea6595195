"""POST /v1/messages/count_tokens: the expected tokens of a prompt, without an upstream request, a payer or a hold.

Rule: it is free; it requires a secret key and uses no budget.
"""

import asyncio

from aiohttp import web

from gateway.call import Call
from gateway.metered.body import ChatRequest
from gateway.metered.expected import expected_tokens, prompt_measure
from gateway.metered.turns import turn_of
from gateway.openrouter.dialects import Dialect
from gateway.payers.apps import Caller

# One at a time in a process, because a large prompt takes CPU time from streams for seconds. Parsing and counting share
# one turn, so that free requests never occupy both slots of `expected.py`.
_FREE = "count_tokens"


async def count_tokens(caller: Caller, call: Call) -> web.Response:
    """Answer `{input_tokens}`. Raises InvalidRequest, and ConnectionError if the caller disconnected."""
    call.notes["app"], call.notes["mode"] = caller.app.app_id, caller.mode
    # In a thread, because weighing a large body takes seconds.
    body = await call.body()
    async with turn_of(f"count:{caller.app.app_id}"), turn_of(_FREE):
        if call.is_lost:
            raise ConnectionResetError
        request = await asyncio.to_thread(ChatRequest.parse, body, Dialect.MESSAGES)
        measure = await prompt_measure(request)
    return call.answer({"input_tokens": expected_tokens(request, request.model, measure)})
