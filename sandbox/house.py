"""What every handler of the sandbox shares: settings, clock, bill and wallets, and who a request comes from."""

from collections.abc import Callable
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from sandbox.bill import Bill
from sandbox.settings import SandboxSettings
from sandbox.wallets import Wallet, Wallets
from simulator.answers import SOME_USER_ID, Performance, refusal
from simulator.variants import KEY_LIMIT, USER_NOT_FOUND, Refusal

_NO_KEY = Refusal(401, "Missing Authentication header", with_user=False)
_NO_CREDIT = Refusal(402, "Insufficient credits. Add more using https://openrouter.ai/credits")
_NO_INFERENCE = Refusal(403, "Management keys cannot be used for inference", with_user=False)


class RefusedError(Exception):
    """A request that gets an error answer instead of what it asked for."""

    def __init__(self, error: Refusal, user_id: str = SOME_USER_ID) -> None:
        super().__init__(error.message)
        self.error = error
        self.user_id = user_id


@dataclass(frozen=True)
class House:
    """One running sandbox. `now` returns unix seconds."""

    settings: SandboxSettings
    now: Callable[[], float]
    bill: Bill = field(default_factory=Bill)
    wallets: Wallets = field(default_factory=Wallets)

    def wallet_of(self, request: web.Request) -> Wallet:
        """Return the wallet of the bearer key. Raises RefusedError without one, or with one that is revoked."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise RefusedError(_NO_KEY)
        if not key.startswith("sk-or-v1-"):
            raise RefusedError(USER_NOT_FOUND)
        wallet = self.wallets.of_key(key)
        if wallet.is_revoked:
            raise RefusedError(USER_NOT_FOUND)
        return wallet

    def payer_of(self, request: web.Request) -> Wallet:
        """Return the wallet that pays for inference. Raises RefusedError also for want of credit."""
        wallet = self.wallet_of(request)
        self.bill.requests[wallet.key_sha256] += 1
        if wallet.is_management:
            raise RefusedError(_NO_INFERENCE)
        if not wallet.has_credit:
            raise RefusedError(_NO_CREDIT, wallet.user_id)
        if wallet.limit_nano is not None and self.used_nano(wallet) >= wallet.limit_nano:
            raise RefusedError(KEY_LIMIT)
        return wallet

    def used_nano(self, wallet: Wallet) -> int:
        """Return what OpenRouter charged the key; BYOK does not count toward a key's limit."""
        return self.bill.total_nano(wallet.key_sha256, is_byok=False)


HOUSE_KEY = web.AppKey("house", House)


def error_response(error: Refusal, user_id: str) -> web.Response:
    """Return an error answer in OpenRouter's shape."""
    return whole_response(refusal(error, user_id=user_id))


def whole_response(performance: Performance) -> web.Response:
    """Return a performance without pauses as one response."""
    body = b"".join(chunk.data for chunk in performance.chunks)
    return web.Response(status=performance.status, headers=performance.headers, body=body)


def json_response(body: object, *, status: int = 200) -> web.Response:
    """Return `body` as JSON."""
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")


async def json_body(request: web.Request) -> dict[str, object]:
    """Return the JSON object of a request. Raises RefusedError (400) when it is none."""
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise RefusedError(Refusal(400, "Invalid JSON in the request body")) from None
    if not isinstance(body, dict):
        raise RefusedError(Refusal(400, "The request body must be a JSON object"))
    return body
