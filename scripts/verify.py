"""Recompute every balance from the ledger: `python -m scripts.verify [--json] [--against-upstream]`.

Exits 1 on any difference, 3 if there is none but not every key could be compared with OpenRouter. Budgets are named by
app and account, as in request ids and logs.
Rule: each budget is read atomically (the sweeper's list after it), so a budget in use causes no false alarm. Sums that
trimming by age may have affected are not compared.
"""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from itertools import chain

from gateway.digest import sha256_hex
from gateway.errors import UpstreamError
from gateway.keys import Budget
from gateway.ledger.audit import Audit, read_audit
from gateway.ledger.outcomes import WINDOW_DAYS, sum_by_day
from gateway.ledger.record import read_hold
from gateway.money import nano_from_usd, usd_from_nano
from gateway.openrouter.client import Client
from gateway.openrouter.usage import parsed
from gateway.sealing import SealBroken, Sealer
from gateway.services import Services
from gateway.settings import Settings
from gateway.store.store import Store
from scripts.command import Answer, run

# OpenRouter does not document how soon a key's usage includes a request: settlements of the last ten minutes may be
# missing there.
_USAGE_LAG_MS = 600_000
# A failover between an admission and its entry may set Redis's clock back, by an hour at most.
_CLOCK_STEP_MS = 3_600_000
# A hold that was neither renewed nor swept within a minute after it was due has no process that will close it.
_LATE_MS = 60_000
# The last parts of a budget's keys; any of them shows that a budget exists or existed.
_PARTS = frozenset({"budget", "days", "due", "ledger"})

# 2 is argparse's exit code.
NOT_COMPARED = 3

# What is wrong, the stored number, and the computed number.
Fault = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between a value stored in Redis and its computation from the ledger and the open holds.

    The values are amounts, except for `overruns` (a count) and for the presence of something (1 or 0).
    """

    app: str
    account: str
    mode: str
    what: str
    stored_nano: int
    computed_nano: int


@dataclass(slots=True)
class Claimed:
    """Spend with one funding key by our ledgers: `nano` by costs that OpenRouter stated, and by estimates.

    `old_nano`: the part of `nano` that OpenRouter's usage must include by now.
    """

    key: str
    accounts: list[str] = field(default_factory=list)
    nano: int = 0
    old_nano: int = 0
    requests: int = 0
    estimated_nano: int = 0

    def add(self, last: Mapping[str, str], recent_ms: int) -> None:
        """Add one request by its last entry, whose cost (not its difference) is what was billed."""
        cost = int(last["cost_nano"])
        if last["status"] == "estimated":
            self.estimated_nano += cost
        elif last["status"] == "settled":
            self.nano += cost
            self.old_nano += cost if int(last["settled_ms"]) < recent_ms else 0
            self.requests += 1


async def verify(services: Services, arguments: argparse.Namespace) -> Mapping[str, object]:
    """Check every budget; return totals and differences."""
    differences: list[Difference] = []
    unreadable: list[str] = []
    claims: dict[str, Claimed] = {}
    totals = dict.fromkeys(("budgets", "entries", "open_holds", "booked_nano", "spent_nano", "held_nano"), 0)
    async for budget in budgets(services.store):
        audit = await read_audit(services.store, budget)
        account = audit.standing.fields.get("account", b"").decode() or budget.account(services.store.salt)
        differences += differences_of(budget, audit, account=account, keep_days=services.settings.ledger_days)
        unlisted = [found async for found in forgotten(services.store, budget, audit)]
        differences += [Difference(budget.app_id, account, budget.mode, *found) for found in unlisted]
        totals["budgets"] += 1
        totals["entries"] += len(audit.entries)
        totals["open_holds"] += len(audit.holds)
        totals["booked_nano"] += _number(audit, "booked_nano")
        totals["spent_nano"] += audit.standing.spent_nano
        totals["held_nano"] += audit.standing.held_nano
        if arguments.against_upstream and not claim(claims, services.sealer, budget, audit, account):
            unreadable.append(account)
    answer: dict[str, object] = {"ok": not differences}
    for name, value in totals.items():
        answer[name.replace("_nano", "_usd")] = usd_from_nano(value) if name.endswith("_nano") else value
    if arguments.against_upstream:
        compared = await against_upstream(services.settings, list(claims.values()))
        verdicts = Counter(str(each["verdict"]) for each in compared) + Counter({"not compared": len(unreadable)})
        answer |= {"upstream": compared, "unreadable_keys": unreadable, "upstream_keys": dict(verdicts)}
        answer["ok"] = not differences and not verdicts["less"] and not verdicts["not compared"]
    return answer | {"differences": [asdict(each) for each in differences]}


async def budgets(store: Store) -> AsyncIterator[Budget]:
    """Yield every budget of which any key exists, once, even if its app does not."""
    seen: set[str] = set()
    async for key in store.each_key("wf:*}:[bdl]*"):
        name, _, part = key.rpartition(":")
        if part in _PARTS and name not in seen:
            seen.add(name)
            yield Budget.parse(name)


def differences_of(budget: Budget, audit: Audit, *, account: str, keep_days: int) -> Iterator[Difference]:
    """Yield the differences within one atomic reading of a budget."""
    checks = (
        _lost(audit),
        _days(audit, keep_days),
        _window(audit),
        _held(audit),
        _turns(audit),
        _requests(audit),
        _lifetime(audit),
        _records(audit),
        _uses(audit),
    )
    for what, stored, computed in chain(*checks):
        yield Difference(budget.app_id, account, budget.mode, what, stored, computed)


def _lost(audit: Audit) -> Iterator[Fault]:
    """Yield a fault if the budget's hash is missing: from its first connection on it always has a state."""
    if not audit.standing.state and (audit.days or audit.holds or audit.entries):
        yield "the budget itself is lost", 0, 1


def _days(audit: Audit, keep_days: int) -> Iterator[Fault]:
    # The newest day that a script used as today: Redis's clock may have stepped back since.
    today = max(audit.today, _number(audit, "window_day"))
    booked = sum_by_day(audit.entries)
    for day in sorted(booked.keys() | audit.days.keys()):
        is_dropped = day <= today - WINDOW_DAYS and day not in audit.days
        if day > today - keep_days and not is_dropped:
            yield from _unequal(f"day {day}", audit.days.get(day, 0), booked.get(day, 0))


def _window(audit: Audit) -> Iterator[Fault]:
    window_day = _number(audit, "window_day")
    if window_day:
        window = sum(nano for day, nano in audit.days.items() if day > window_day - WINDOW_DAYS)
        yield from _unequal("window_nano", _number(audit, "window_nano"), window)


def _held(audit: Audit) -> Iterator[Fault]:
    held = sum(nano or 0 for _, _, state, nano in audit.holds if state == "open")
    yield from _unequal("held_nano", audit.standing.held_nano, held)
    for request_id, _, state, _ in audit.holds:
        yield from _unequal(f"{request_id} is due but not open", int(state != "open"), 0)


def _turns(audit: Audit) -> Iterator[Fault]:
    """Check that at most one open hold is below its bound, and that no request both holds and waits."""
    if len(audit.beyond) > 1:
        yield "open holds beyond their bound", len(audit.beyond), 1
    both = {name for name, _, state, _ in audit.holds if state == "open"}.intersection(audit.waiting)
    for request_id in sorted(both):
        yield f"{request_id} both holds and waits", 1, 0


def _requests(audit: Audit) -> Iterator[Fault]:
    """Compare the sum of each request's entries with its last cost, unless its first entry may be trimmed."""
    for request_id, entries in by_request(audit).items():
        if not _may_be_cut(audit, entries[0]):
            booked = sum(int(entry["delta_nano"]) for entry in entries)
            yield from _unequal(f"{request_id} is booked at", booked, int(entries[-1]["cost_nano"]))


def _may_be_cut(audit: Audit, first: Mapping[str, str]) -> bool:
    """Return whether an entry before `first`, a request's oldest remaining one, may have been trimmed.

    Only a `settled` entry can be a request's second. If its difference equals its cost, the earlier ones summed to 0
    and do not matter. Otherwise time decides: trimming removes the oldest entries, and a request's entries are written
    after its admission. So a request admitted after the oldest remaining entry was written has lost none.
    """
    if audit.is_whole or first["status"] != "settled" or first["delta_nano"] == first["cost_nano"]:
        return False
    oldest_ms = int(audit.entries[0]["entry"].partition("-")[0])
    return int(first["admitted_ms"]) <= oldest_ms + _CLOCK_STEP_MS


def _lifetime(audit: Audit) -> Iterator[Fault]:
    """Compare the totals booked, and the totals of costs above holds.

    Trimmed entries are a request's oldest ones, whose sum is a cost and never negative, and overruns only increase. So
    the remaining entries can never sum to more than the stored totals.
    """
    overruns, overrun_nano = _overruns(audit)
    booked = sum(int(entry["delta_nano"]) for entry in audit.entries)
    for name, computed in (("booked_nano", booked), ("overruns", overruns), ("overrun_nano", overrun_nano)):
        stored = _number(audit, name)
        if audit.is_whole:
            yield from _unequal(name, stored, computed)
        elif stored < computed:
            yield f"{name} is less than what is left of the ledger", stored, computed


def _overruns(audit: Audit) -> tuple[int, int]:
    """Return how many requests exceeded their hold, and by how much. A correction may only increase that."""
    count = nano = 0
    for entries in by_request(audit).values():
        # What a trimmed entry had counted is unknown: assume that the correction added nothing.
        before = int(entries[0]["overrun_nano"]) if _may_be_cut(audit, entries[0]) else 0
        for overrun in (int(entry["overrun_nano"]) for entry in entries):
            count += before == 0 < overrun
            nano += max(0, overrun - before)
            before = overrun
    return count, nano


def _records(audit: Audit) -> Iterator[Fault]:
    """Compare each request's record, which `GET /v1/usage` shows, with its last entry; expired records are skipped.

    A hold is closed atomically with its first entry, and changes later only atomically with another one. If a budget
    needed several readings, a record and its last entry are from the same one (`Audit.records`).
    """
    last = {entry["request_id"]: entry for entry in audit.entries}
    for request_id, (state, cost) in audit.records.items():
        status, booked = last[request_id]["status"], int(last[request_id]["cost_nano"])
        if (state, cost) != (status, booked):
            yield f"{request_id} shows {state or 'no state'}, its last entry says {status}", cost, booked


def _uses(audit: Audit) -> Iterator[Fault]:
    """Compare a grant's used requests with those that are open or were billed."""
    if audit.standing.uses is not None and audit.is_whole is not False:
        held = sum(state == "open" for _, _, state, _ in audit.holds)
        billed = sum(entries[-1]["status"] != "void" for entries in by_request(audit).values())
        yield from _unequal("used", audit.standing.used, held + billed)


async def forgotten(store: Store, budget: Budget, audit: Audit) -> AsyncIterator[Fault]:
    """Yield each overdue hold whose budget is not on the sweeper's list: no sweeper will ever close it.

    The list is in another slot and is read after the holds, so a hold counts only if it is still open then. A sweeper
    may remove a budget from the list between two requests, and a process that has just listed it lists it again only at
    a later request or renewal; so a hold that is not overdue proves nothing. An overdue hold was not renewed; a process
    that would still close it lists the budget within seconds, so a minute is enough.
    """
    overdue = [name for name, due_ms, state, _ in audit.holds if state == "open" and due_ms < audit.now_ms - _LATE_MS]
    if overdue and await store.call("ZSCORE", budget.open_shard, budget.name) is None:
        for request_id in overdue:
            raw = await store.call("GET", budget.hold(request_id))
            if raw is not None and read_hold(raw).is_open:
                yield f"{request_id} is overdue, but no sweeper's list has its budget", 0, 1


def claim(claims: dict[str, Claimed], sealer: Sealer, budget: Budget, audit: Audit, account: str) -> bool:
    """Add a budget's spend with its present funding key; return False if the key cannot be opened."""
    sealed = audit.standing.fields.get("funding", b"")
    if budget.mode != "live" or not sealed:
        return True
    try:
        key = sealer.open(sealed, place=budget.place)
    except SealBroken:
        return False
    claimed = claims.setdefault(sha256_hex(key), Claimed(key))
    claimed.accounts.append(account)
    version = audit.standing.fields.get("funding_version", b"").decode()
    recent_ms = time.time_ns() // 1_000_000 - _USAGE_LAG_MS
    for entries in by_request(audit).values():
        if entries[-1]["funding_version"] == version:
            claimed.add(entries[-1], recent_ms)
    return True


async def against_upstream(settings: Settings, claims: list[Claimed]) -> list[dict[str, object]]:
    """Compare each key's usage at OpenRouter with our ledgers. Only a lower usage is a fault.

    `difference_usd`: how much more OpenRouter counts: by use of the key elsewhere, or by spend that we lost.
    """
    upstream = Client.of(settings)
    try:
        return list(await asyncio.gather(*(_compare(upstream, claimed) for claimed in claims)))
    finally:
        await upstream.close()


async def _compare(upstream: Client, claimed: Claimed) -> dict[str, object]:
    found: dict[str, object] = {
        "accounts": claimed.accounts,
        "ledger_usd": usd_from_nano(claimed.nano),
        "estimated_usd": usd_from_nano(claimed.estimated_nano),
    }
    usage_nano = await _usage_nano(upstream, claimed.key)
    if usage_nano is None:
        note = "OpenRouter does not say what this key has used."
        return {**found, "upstream_usd": None, "difference_usd": None, "verdict": "not compared", "note": note}
    difference_usd = usd_from_nano(usage_nano - claimed.nano)
    verdict = _verdict(claimed, usage_nano)
    return {**found, "upstream_usd": usd_from_nano(usage_nano), "difference_usd": difference_usd, "verdict": verdict}


def _verdict(claimed: Claimed, usage_nano: int) -> str:
    """Return how OpenRouter's usage compares: `equal`, `more` (use elsewhere, or spend that we lost), `less` (a fault),
    or `behind` (less, but only by recent requests that it may not have counted yet).
    """
    # Each request's cost was rounded up to a whole nano-USD.
    if claimed.old_nano > usage_nano + claimed.requests:
        return "less"
    if claimed.nano > usage_nano + claimed.requests:
        return "behind"
    return "equal" if usage_nano <= claimed.nano + claimed.estimated_nano else "more"


def exit_code(answer: Answer) -> int:
    """Return 1 for a difference, 3 if there is none but not every key could be compared with OpenRouter, else 0."""
    is_different = answer["differences"] or answer.get("upstream_keys", {}).get("less")
    return 1 if is_different else 0 if answer["ok"] else NOT_COMPARED


async def _usage_nano(upstream: Client, key: str) -> int | None:
    try:
        document = await upstream.fetch("key", key)
    except UpstreamError:
        return None
    data = parsed(document.body).get("data") if document.status == 200 else None
    if not isinstance(data, dict):
        return None
    # With BYOK the ledger counts the provider's bill too.
    try:
        return sum(_nano(part) for part in (data.get("usage"), data.get("byok_usage", 0)))
    except ValueError:
        return None


def _nano(usd: object) -> int:
    if isinstance(usd, bool) or not isinstance(usd, Decimal | int):
        raise ValueError("no amount")
    return nano_from_usd(usd)


def by_request(audit: Audit) -> dict[str, list[dict[str, str]]]:
    """Return the remaining entries of each request, oldest first."""
    found: dict[str, list[dict[str, str]]] = {}
    for entry in audit.entries:
        found.setdefault(entry["request_id"], []).append(entry)
    return found


def _unequal(what: str, stored: int, computed: int) -> Iterator[Fault]:
    if stored != computed:
        yield what, stored, computed


def _number(audit: Audit, name: str) -> int:
    return int(audit.standing.fields.get(name, b"0"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="verify", description="Recompute every balance from the ledger.")
    parser.add_argument("--against-upstream", action="store_true", help="compare with OpenRouter's own usage, too")
    run(parser, verify, code=exit_code)
