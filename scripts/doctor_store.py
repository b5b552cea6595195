"""The doctor's checks of Redis: availability, validity, persistence, capacity, and the data that must be current.

Rule: the checks change nothing, and name no key and no user.
"""

import time
from collections.abc import AsyncIterator, Iterator, Mapping

from gateway import keys
from gateway.keys import Budget
from gateway.ledger.backlog import LATE_MS, count_late
from gateway.sealing import SealBroken
from gateway.services import KEEPS_ALL, Services
from scripts.findings import Finding

# Session tokens are valid for ten minutes and prices for a day, so a few seconds of skew are harmless.
MOST_CLOCK_SKEW_MS = 2000
# Each process needs two connections, and retries ten times a second when refused.
_MOST_USED = 0.8
_MOST_MEMORY_USED = 0.9
# A missing master key shows in the first few; trying every key of a large installation would take minutes.
_KEYS_TRIED = 500
# Gateways refresh the list every five minutes; with prices older than a day each request holds all that is left.
_OLD_PRICES_MS = 3_600_000
_REACH = (
    "start it, or mend REDIS_URL: host, port, password, rediss:// for TLS;"
    " for a certificate that nobody signed: WATTFARE_REDIS_SELF_SIGNED=on"
)


async def store(services: Services) -> AsyncIterator[Finding]:
    """Check that Redis answers and is valid, which all other checks of it need."""
    if services.store.is_open:
        yield Finding("redis", "answers, and is the one we knew")
    elif "does not answer" in (why := services.store.why_closed):
        yield Finding("redis", why, _REACH)
    else:
        mend = "restore the newest backup; if the loss is known and meant: python -m scripts.accept_store --yes"
        yield Finding("redis", why, mend)


async def servers(services: Services) -> AsyncIterator[Finding]:
    """Check each server's persistence, memory and connections."""
    about = services.store.about
    sections = [await about(name) for name in ("persistence", "memory", "clients")]
    for persistence, memory, clients in zip(*sections, strict=True):
        place = f" {persistence['name']}" if persistence["name"] else ""
        for finding in (*_persistence(persistence), *_memory(memory), *_connections(clients)):
            yield Finding(finding.what + place, finding.result, finding.mend)


def _persistence(facts: Mapping[str, str]) -> Iterator[Finding]:
    if facts.get("aof_enabled") != "1":
        mend = "set appendonly yes (and appendfsync everysec, or always where a host's power may fail)"
        yield Finding("persistence", "a restart forgets all spend since the last snapshot", mend)
    elif facts.get("aof_last_write_status") != "ok" or facts.get("aof_last_bgrewrite_status") != "ok":
        yield Finding("persistence", "the append-only file could not be written", "make room on Redis's disk")
    else:
        yield Finding("persistence", "every write goes to the append-only file")


def _memory(facts: Mapping[str, str]) -> Iterator[Finding]:
    policy = facts.get("maxmemory_policy", KEEPS_ALL)
    if policy == KEEPS_ALL:
        yield Finding("eviction", KEEPS_ALL)
    else:
        yield Finding("eviction", f"maxmemory-policy {policy} may drop holds and spend", f"set it to {KEEPS_ALL}")
    limit, used = int(facts.get("maxmemory", 0)), int(facts.get("used_memory", 0))
    if limit and used > _MOST_MEMORY_USED * limit:
        yield Finding(
            "memory",
            f"{used / limit:.0%} of maxmemory is used",
            "give Redis more memory, or lower WATTFARE_LEDGER_DAYS",
        )
    else:
        yield Finding("memory", f"{used / 2**20:.0f} MB used" + (f" of {limit / 2**20:.0f}" if limit else ", no limit"))


def _connections(facts: Mapping[str, str]) -> Iterator[Finding]:
    used, most = int(facts.get("connected_clients", 0)), int(facts.get("maxclients", 0))
    if most and used > _MOST_USED * most:
        mend = "raise maxclients: two for each gateway worker, one for each other process, and some to spare"
        yield Finding("connections", f"{used} of {most} are used", mend)
    else:
        yield Finding("connections", f"{used} of {most or 'any number'} are used")


async def clock(services: Services) -> AsyncIterator[Finding]:
    """Check that this machine's clock and each server's agree."""
    for facts in await services.store.about("server"):
        if "server_time_usec" in facts:
            yield clock_finding(int(facts["server_time_usec"]) // 1000 - time.time_ns() // 1_000_000)


def clock_finding(skew_ms: int) -> Finding:
    """Return the finding for Redis's clock being `skew_ms` ahead of ours."""
    if abs(skew_ms) <= MOST_CLOCK_SKEW_MS:
        return Finding("clock", "agrees with Redis's")
    which = "ahead of" if skew_ms > 0 else "behind"
    result = f"Redis's is {abs(skew_ms) / 1000:.1f} s {which} this machine's"
    return Finding("clock", result, "run a time service (chrony, systemd-timesyncd) on both")


async def rings(services: Services) -> AsyncIterator[Finding]:
    """Check that funding keys can be opened, and whether some are sealed under an older master key."""
    tried = broken = older = 0
    async for key in services.store.each_key("wf:*:budget"):
        budget = Budget.parse(key.removesuffix(":budget"))
        sealed = await services.store.call("HGET", key, "funding")
        if not sealed:
            continue
        tried += 1
        try:
            services.sealer.open(sealed, place=budget.place)
            older += not services.sealer.is_newest(sealed)
        except SealBroken:
            broken += 1
        if tried >= _KEYS_TRIED:
            break
    if broken:
        result = f"{broken} of {tried} funding keys do not open"
        yield Finding("key rings", result, "put the master key they were sealed under back into WATTFARE_MASTER_KEYS")
    elif older:
        yield Finding("key rings", f"all {tried} open, {older} under an older key: python -m scripts.rotate_master_key")
    else:
        yield Finding("key rings", f"all {tried} funding keys that were tried open")


async def apps(services: Services) -> AsyncIterator[Finding]:
    """Check that each open app has origins, and in production no unencrypted ones."""
    known = [app for app in await services.apps.every() if not app.is_closed]
    without = [app.app_id for app in known if not app.origins]
    local = [app.app_id for app in known if any(origin.startswith("http://") for origin in app.origins)]
    if without:
        result = f"no page can ask for {', '.join(without)}"
        yield Finding("origins", result, "python -m scripts.update_app --app ID --add-origin URL")
    elif local and services.settings.production:
        result = f"pages that are not encrypted may ask for {', '.join(local)}"
        yield Finding("origins", result, "python -m scripts.update_app --app ID --remove-origin URL")
    else:
        yield Finding("origins", f"{len(known)} apps, each with its origins")


async def webhooks(services: Services) -> AsyncIterator[Finding]:
    """Check that no webhook endpoint is disabled, that their secrets open, and that a sender is running."""
    disabled, sealed, number = [], [], 0
    for app in await services.apps.every():
        endpoint = None if app.is_closed else await services.endpoints.find(app.app_id)
        if endpoint is not None:
            number += 1
            disabled += [app.app_id] if endpoint.gone_ms is not None else []
            sealed += [] if endpoint.secrets else [app.app_id]
    late = await services.ledger.events.count_late(time.time_ns() // 1_000_000 - LATE_MS)
    if sealed:
        mend = "put their master key back into WATTFARE_MASTER_KEYS, or run scripts.webhooks --app ID --rotate-secret"
        yield Finding("webhooks", f"the secrets of {', '.join(sealed)} do not open", mend)
    elif disabled:
        mend = "python -m scripts.update_app --app ID --webhook-url URL, or --remove-webhook"
        yield Finding("webhooks", f"{', '.join(disabled)} answered 410 Gone, and gets no more", mend)
    elif late:
        mend = "start gateways with WATTFARE_SWEEPER=on, or python -m gateway.sweeper"
        yield Finding("webhooks", f"no sender has looked at {late} budgets for a minute", mend)
    else:
        yield Finding("webhooks", f"{number} apps have an endpoint, and nothing waits")


async def prices(services: Services) -> AsyncIterator[Finding]:
    """Check the age of the stored price list, which every gateway falls back to."""
    fetched_ms = int(await services.store.call("HGET", keys.PRICES, "fetched_ms") or 0)
    age_ms = time.time_ns() // 1_000_000 - fetched_ms
    if not fetched_ms:
        yield Finding("price list", "none was ever fetched", "start a gateway, and let it reach OPENROUTER_BASE_URL")
    elif age_ms > _OLD_PRICES_MS:
        result = f"{age_ms / 3_600_000:.1f} hours old; after 24 each request holds all that is left"
        yield Finding("price list", result, "see whether a gateway runs, and whether it reaches OPENROUTER_BASE_URL")
    else:
        yield Finding("price list", f"{age_ms / 60_000:.0f} minutes old")


async def sweeper(services: Services) -> AsyncIterator[Finding]:
    """Check that a sweeper is running."""
    late = await count_late(services.store, time.time_ns() // 1_000_000)
    if late:
        result = f"{late} budgets have waited for a sweeper for more than a minute"
        yield Finding("sweeper", result, "start gateways with WATTFARE_SWEEPER=on, or python -m gateway.sweeper")
    else:
        yield Finding("sweeper", "nothing waits")
