"""POST /v1/messages/count_tokens: what a prompt is expected to count, told without upstream, payer or hold.

Rule: it is free, so it asks for a secret key and touches no budget.
"""

import asyncio

from aiohttp import web

from gateway.call import Call
from gateway.metered.body import ChatRequest
from gateway.metered.expected import expected_tokens, prompt_measure
from gateway.metered.turns import turn_of
from gateway.openrouter.dialects import Dialect
from gateway.payers.apps import Caller

# One at a time in a process: it is free, and a large one takes a core from the streams for seconds. It is read and
# counted in one turn, so that requests with a budget never find both places of `expected.py` taken by free ones.
_FREE = "count_tokens"


async def count_tokens(caller: Caller, call: Call) -> web.Response:
    """Answer `{input_tokens}`. Raises InvalidRequest, ConnectionError (the caller is gone)."""
    call.notes["app"], call.notes["mode"] = caller.app.app_id, caller.mode
    # Not beside a stream: a large body takes seconds to weigh.
    body = await call.body()
    async with turn_of(f"count:{caller.app.app_id}"), turn_of(_FREE):
        if call.request.transport is None:
            raise ConnectionResetError
        request = await asyncio.to_thread(ChatRequest.parse, body, Dialect.MESSAGES)
        measure = await prompt_measure(request)
    return call.answer({"input_tokens": expected_tokens(request, request.model, measure)})
