"""What a key can ask about itself, its generations and the models: /key, /generation, /models, the PKCE exchange."""

from datetime import UTC, datetime

from aiohttp import web

from gateway.money import usd_from_nano
from sandbox.bill import State
from sandbox.house import HOUSE_KEY, House, RefusedError, json_body, json_response
from sandbox.wallets import ExchangeRefusedError, Wallet
from simulator.variants import Refusal, Role, find_role, listed_roles, model_entry

_LIST_CACHING = "public, max-age=300, stale-while-revalidate=3600, stale-if-error=3600"


async def key(request: web.Request) -> web.Response:
    """Answer `GET /key` and its old alias `GET /auth/key`."""
    house = request.app[HOUSE_KEY]
    return json_response({"data": _key_json(house, house.wallet_of(request))})


def _key_json(house: House, wallet: Wallet) -> dict[str, object]:
    used_nano = house.used_nano(wallet)
    byok = usd_from_nano(house.bill.total_nano(wallet.key_sha256, is_byok=True))
    used = usd_from_nano(used_nano)
    limit = wallet.limit_nano
    return {
        "label": wallet.label,
        "is_management_key": wallet.is_management,
        "is_provisioning_key": wallet.is_management,
        "limit": None if limit is None else usd_from_nano(limit),
        "limit_reset": None,
        "limit_remaining": None if limit is None else usd_from_nano(max(0, limit - used_nano)),
        "include_byok_in_limit": False,
        **{f"usage{period}": used for period in ("", "_daily", "_weekly", "_monthly")},
        **{f"byok_usage{period}": byok for period in ("", "_daily", "_weekly", "_monthly")},
        "is_free_tier": not wallet.has_credit,
        "expires_at": None,
        "creator_user_id": None,
        "rate_limit": {"requests": -1, "interval": "10s", "note": "deprecated"},
    }


async def generation(request: web.Request) -> web.Response:
    """Answer `GET /generation?id=`: 404 for a while after the end, and always to any other key."""
    house = request.app[HOUSE_KEY]
    wallet = house.wallet_of(request)
    generation_id = request.query.get("id", "")[:100]
    entry = house.bill.find(generation_id)
    known = entry is not None and entry.key_sha256 == wallet.key_sha256 and entry.state is not State.OPEN
    if entry is None or not known or house.now() < (entry.ended_at or 0) + house.settings.generation_delay_ms / 1000:
        raise RefusedError(Refusal(404, f"Generation {generation_id} not found", with_user=False))
    headers = {"Cache-Control": "private, no-store"}
    return web.Response(body=entry.generation(), content_type="application/json", headers=headers)


def _roles(house: House) -> list[Role]:
    extra = [role for name in house.settings.listed_models if (role := find_role(name)) is not None]
    return list({role.name: role for role in [*listed_roles(), *extra]}.values())


async def models(request: web.Request) -> web.Response:
    """Answer `GET /models`."""
    entries = [model_entry(role) for role in _roles(request.app[HOUSE_KEY])]
    response = json_response({"data": entries, "total_count": len(entries), "links": {"next": None}})
    response.headers["Cache-Control"] = _LIST_CACHING
    return response


async def endpoints(request: web.Request) -> web.Response:
    """Answer `GET /models/{author}/{slug}/endpoints`, for every member of a family too."""
    role = find_role(f"{request.match_info['author']}/{request.match_info['slug']}")
    if role is None:
        raise RefusedError(Refusal(404, "Model not found", with_user=False))
    entry = model_entry(role)
    endpoint = {
        "name": f"{role.model.provider} | {role.name}",
        "model_id": role.name,
        "context_length": role.model.context_length,
        "pricing": entry["pricing"],
        "provider_name": role.model.provider,
        "tag": role.model.provider.lower(),
        "quantization": None,
        "max_completion_tokens": role.max_completion_tokens,
        "max_prompt_tokens": None,
        "supported_parameters": entry["supported_parameters"],
        "status": 0,
        "uptime_last_30m": 100,
    }
    kept = ("id", "name", "created", "description", "architecture")
    return json_response({"data": {**{field: entry[field] for field in kept}, "endpoints": [endpoint]}})


async def credits_of_account(request: web.Request) -> web.Response:
    """Answer `GET /credits`, which only a management key may ask."""
    wallet = request.app[HOUSE_KEY].wallet_of(request)
    if not wallet.is_management:
        raise RefusedError(Refusal(403, "Only management keys can perform this operation", with_user=False))
    return json_response({"data": {"total_credits": 100, "total_usage": 0}})


async def exchange_code(request: web.Request) -> web.Response:
    """Answer `POST /auth/keys`: a PKCE code for a key, once."""
    house = request.app[HOUSE_KEY]
    body = await json_body(request)
    method = body.get("code_challenge_method")
    try:
        issued, user_id = house.wallets.exchange(
            str(body.get("code")),
            str(body.get("code_verifier") or ""),
            None if method is None else str(method),
            house.now(),
        )
    except ExchangeRefusedError as refused:
        raise RefusedError(Refusal(refused.status, refused.message, with_user=False)) from None
    return json_response({"key": issued, "user_id": user_id})


async def show_bill(request: web.Request) -> web.Response:
    """Answer `GET /sandbox/bill`."""
    house = request.app[HOUSE_KEY]
    stamp = datetime.fromtimestamp(house.now(), UTC).isoformat()
    return json_response({"at": stamp, **house.bill.as_json()})


async def reset(request: web.Request) -> web.Response:
    """Answer `POST /sandbox/reset`: the bill is empty again; keys stay what they are."""
    request.app[HOUSE_KEY].bill.reset()
    return web.Response(status=204)
