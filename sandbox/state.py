"""The state shared by the sandbox's handlers (settings, clock, bill, API keys), and authentication."""

from collections.abc import Callable
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from sandbox.api_keys import ApiKey, ApiKeys
from sandbox.bill import Bill
from sandbox.settings import SandboxSettings
from simulator.answers import SOME_USER_ID, SimulatedAnswer, error_answer, refusal_form
from simulator.variants import KEY_LIMIT, USER_NOT_FOUND, ErrorAnswer

API_PATH = "/api/v1/"
_NO_KEY = ErrorAnswer(401, "Missing Authentication header", with_user=False)
_NO_CREDIT = ErrorAnswer(402, "Insufficient credits. Add more using https://openrouter.ai/credits")
_NO_INFERENCE = ErrorAnswer(403, "Management keys cannot be used for inference", with_user=False)


class RefusedError(Exception):
    """The request gets an error answer."""

    def __init__(self, error: ErrorAnswer, user_id: str = SOME_USER_ID) -> None:
        super().__init__(error.message)
        self.error = error
        self.user_id = user_id


@dataclass(frozen=True)
class SandboxState:
    """One running sandbox. `now` returns unix seconds."""

    settings: SandboxSettings
    now: Callable[[], float]
    bill: Bill = field(default_factory=Bill)
    api_keys: ApiKeys = field(default_factory=ApiKeys)

    def api_key_of(self, request: web.Request) -> ApiKey:
        """Return the request's bearer key. Raises RefusedError if it is missing, malformed or revoked."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise RefusedError(_NO_KEY)
        if not key.startswith("sk-or-v1-"):
            raise RefusedError(USER_NOT_FOUND)
        api_key = self.api_keys.find(key)
        if api_key.is_revoked:
            raise RefusedError(USER_NOT_FOUND)
        return api_key

    def payer_of(self, request: web.Request) -> ApiKey:
        """Count a request and return its paying key. Raises RefusedError, also without credit."""
        api_key = self.api_key_of(request)
        self.bill.requests[api_key.key_sha256] += 1
        if api_key.is_management:
            raise RefusedError(_NO_INFERENCE)
        if not api_key.has_credit:
            raise RefusedError(_NO_CREDIT, api_key.user_id)
        if api_key.limit_nano is not None and self.used_nano(api_key) >= api_key.limit_nano:
            raise RefusedError(KEY_LIMIT)
        return api_key

    def used_nano(self, api_key: ApiKey) -> int:
        """Return the spend that counts towards a key's limit, which excludes BYOK."""
        return self.bill.total_nano(api_key.key_sha256, is_byok=False)


STATE_KEY = web.AppKey("state", SandboxState)


def error_response(error: ErrorAnswer, user_id: str, path: str) -> web.Response:
    """Return an error answer in the format of the dialect at `path`; other paths have chat's."""
    return whole_response(error_answer(error, user_id=user_id, form=refusal_form(path.removeprefix(API_PATH))))


def whole_response(answer: SimulatedAnswer) -> web.Response:
    """Return an answer as one response, ignoring its pauses."""
    body = b"".join(chunk.data for chunk in answer.chunks)
    return web.Response(status=answer.status, headers=answer.headers, body=body)


def json_response(body: object, *, status: int = 200) -> web.Response:
    """Return `body` as JSON."""
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")


async def json_body(request: web.Request) -> dict[str, object]:
    """Return the JSON object of a request. Raises RefusedError (400) if it is not one."""
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise RefusedError(ErrorAnswer(400, "Invalid JSON in the request body")) from None
    if not isinstance(body, dict):
        raise RefusedError(ErrorAnswer(400, "The request body must be a JSON object"))
    return body
