"""The endpoints besides inference: /key, /generation, /models, /credits, the PKCE exchange, the sandbox's bill."""

from datetime import UTC, datetime

from aiohttp import web

from gateway.money import usd_from_nano
from sandbox.api_keys import ApiKey, ExchangeRefusedError
from sandbox.bill import GenerationState
from sandbox.state import STATE_KEY, RefusedError, SandboxState, json_body, json_response
from simulator.variants import ErrorAnswer, ModelVariant, find_variant, listed_variants, model_entry

_LIST_CACHING = "public, max-age=300, stale-while-revalidate=3600, stale-if-error=3600"


async def key(request: web.Request) -> web.Response:
    """Answer `GET /key` and its old alias `GET /auth/key`."""
    state = request.app[STATE_KEY]
    return json_response({"data": _key_json(state, state.api_key_of(request))})


def _key_json(state: SandboxState, api_key: ApiKey) -> dict[str, object]:
    used_nano = state.used_nano(api_key)
    byok = usd_from_nano(state.bill.total_nano(api_key.key_sha256, is_byok=True))
    used = usd_from_nano(used_nano)
    limit = api_key.limit_nano
    return {
        "label": api_key.label,
        "is_management_key": api_key.is_management,
        "is_provisioning_key": api_key.is_management,
        "limit": None if limit is None else usd_from_nano(limit),
        "limit_reset": None,
        "limit_remaining": None if limit is None else usd_from_nano(max(0, limit - used_nano)),
        "include_byok_in_limit": False,
        **{f"usage{period}": used for period in ("", "_daily", "_weekly", "_monthly")},
        **{f"byok_usage{period}": byok for period in ("", "_daily", "_weekly", "_monthly")},
        "is_free_tier": not api_key.has_credit,
        "expires_at": None,
        "creator_user_id": None,
        "rate_limit": {"requests": -1, "interval": "10s", "note": "deprecated"},
    }


async def generation(request: web.Request) -> web.Response:
    """Answer `GET /generation?id=`: 404 for a while after the end, and always for another key."""
    state = request.app[STATE_KEY]
    api_key = state.api_key_of(request)
    generation_id = request.query.get("id", "")[:100]
    entry = state.bill.find(generation_id)
    known = entry is not None and entry.key_sha256 == api_key.key_sha256 and entry.state is not GenerationState.OPEN
    if entry is None or not known or state.now() < (entry.ended_at or 0) + state.settings.generation_delay_ms / 1000:
        raise RefusedError(ErrorAnswer(404, f"Generation {generation_id} not found", with_user=False))
    headers = {"Cache-Control": "private, no-store"}
    return web.Response(body=entry.generation(), content_type="application/json", headers=headers)


def _variants(state: SandboxState) -> list[ModelVariant]:
    extra = [variant for name in state.settings.listed_models if (variant := find_variant(name)) is not None]
    return list({variant.name: variant for variant in [*listed_variants(), *extra]}.values())


async def models(request: web.Request) -> web.Response:
    """Answer `GET /models`."""
    entries = [model_entry(variant) for variant in _variants(request.app[STATE_KEY])]
    response = json_response({"data": entries, "total_count": len(entries), "links": {"next": None}})
    response.headers["Cache-Control"] = _LIST_CACHING
    return response


async def endpoints(request: web.Request) -> web.Response:
    """Answer `GET /models/{author}/{slug}/endpoints`, for members of families too."""
    variant = find_variant(f"{request.match_info['author']}/{request.match_info['slug']}")
    if variant is None:
        raise RefusedError(ErrorAnswer(404, "Model not found", with_user=False))
    entry = model_entry(variant)
    endpoint = {
        "name": f"{variant.model.provider} | {variant.name}",
        "model_id": variant.name,
        "context_length": variant.model.context_length,
        "pricing": entry["pricing"],
        "provider_name": variant.model.provider,
        "tag": variant.model.provider.lower(),
        "quantization": None,
        "max_completion_tokens": variant.max_completion_tokens,
        "max_prompt_tokens": None,
        "supported_parameters": entry["supported_parameters"],
        "status": 0,
        "uptime_last_30m": 100,
    }
    kept = ("id", "name", "created", "description", "architecture")
    return json_response({"data": {**{field: entry[field] for field in kept}, "endpoints": [endpoint]}})


async def credits_of_account(request: web.Request) -> web.Response:
    """Answer `GET /credits`, for management keys only."""
    api_key = request.app[STATE_KEY].api_key_of(request)
    if not api_key.is_management:
        raise RefusedError(ErrorAnswer(403, "Only management keys can perform this operation", with_user=False))
    return json_response({"data": {"total_credits": 100, "total_usage": 0}})


async def exchange_code(request: web.Request) -> web.Response:
    """Answer `POST /auth/keys`: exchange a PKCE code for a key, once."""
    state = request.app[STATE_KEY]
    body = await json_body(request)
    method = body.get("code_challenge_method")
    try:
        issued, user_id = state.api_keys.exchange(
            str(body.get("code")),
            str(body.get("code_verifier") or ""),
            None if method is None else str(method),
            state.now(),
        )
    except ExchangeRefusedError as refused:
        raise RefusedError(ErrorAnswer(refused.status, refused.message, with_user=False)) from None
    return json_response({"key": issued, "user_id": user_id})


async def show_bill(request: web.Request) -> web.Response:
    """Answer `GET /sandbox/bill`."""
    state = request.app[STATE_KEY]
    stamp = datetime.fromtimestamp(state.now(), UTC).isoformat()
    return json_response({"at": stamp, **state.bill.as_json()})


async def reset(request: web.Request) -> web.Response:
    """Answer `POST /sandbox/reset`: empty the bill; keys are kept."""
    request.app[STATE_KEY].bill.reset()
    return web.Response(status=204)
