"""Overdue holds become their true cost: found without scanning, claimed by one process, asked for, settled.

Runs inside every gateway, and alone as `python -m gateway.sweeper`. What is settled at what stands in `docs/ledger.md`.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from decimal import Decimal
from typing import ClassVar

from gateway import metrics
from gateway.errors import Unavailable, UpstreamError
from gateway.keys import OPEN_SHARDS, Budget
from gateway.ledger.holds import Ledger
from gateway.ledger.outcomes import Claim, Settlement
from gateway.ledger.record import Hold
from gateway.logs import log
from gateway.money import nano_from_usd, usd_from_nano
from gateway.openrouter.client import Client, Document
from gateway.openrouter.usage import fit_id, parsed
from gateway.sealing import SealBroken, Sealer

_LOOK_SECONDS = 1.0
_MOST_BUDGETS = 100
# Claimed at once, and all begun at once: what waited for the ones before it would outlive its claim.
_MOST_HOLDS = 4
# Longer than one look-up may take, so that no other process claims a hold that is being asked for.
_CLAIM_MS = 12_000
# Budgets that one process works on at once: an OpenRouter that hangs must not make the last orphan wait for the first.
_MOST_AT_ONCE = 32
# What cannot be swept by a fault of ours is left alone for so long, so that it floods no log.
_FAULT_MS = 60_000
# OpenRouter's record comes within a second or so, after an abort later; then less often (openrouter.md §2).
_BACKOFF_SECONDS = (0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
# What failed before any output most likely costs nothing: it holds the payer's money no longer than this.
_FAILED_MS = 30_000


class Sweeper:
    """Looks for overdue holds and closes them."""

    reached: ClassVar[Callable[[str], None]] = staticmethod(lambda _point: None)
    """Called at each named point of a sweep; the crash tests set it to kill the process there."""

    def __init__(
        self, ledger: Ledger, upstream: Client, sealer: Sealer, *, reconcile_seconds: float, is_sweeping: bool = True
    ) -> None:
        self._ledger = ledger
        self._upstream = upstream
        self._sealer = sealer
        self._is_sweeping = is_sweeping
        self._reconcile_ms = int(reconcile_seconds * 1000)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._room = asyncio.Semaphore(_MOST_AT_ONCE)
        self._next: dict[str, float] = {}
        """When each budget that is followed is swept next, by the loop's clock."""

    async def run(self) -> None:
        """Look through every shard for ever. Of several processes one looks at a budget, and one claims a hold."""
        while True:
            # The shard after the last stands for the grants that have expired.
            for shard in random.sample(range(OPEN_SHARDS + 1), OPEN_SHARDS + 1):
                try:
                    await (self._look_into(shard) if shard < OPEN_SHARDS else self._end_grants())
                except Unavailable:
                    pass  # The others may lie on servers that answer.
                except Exception as fault:
                    # One who stops for good leaves holds that never come free.
                    log.error("sweep_failed", error=type(fault).__name__)
            await asyncio.sleep(_LOOK_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - spreads processes out

    async def _look_into(self, shard: int) -> None:
        for budget in await self._ledger.ripe(shard, most=_MOST_BUDGETS, lease_ms=_CLAIM_MS):
            self.notice(budget)

    async def _end_grants(self) -> None:
        """Drop the funding keys of grants that have expired. Raises Unavailable."""
        for budget in await self._ledger.endings.ripe(most=_MOST_BUDGETS, lease_ms=_CLAIM_MS):
            await self._ledger.endings.finish(budget)

    def request_sweep(self, budget: Budget) -> None:
        """Have what is overdue in a budget swept: here, or by whichever process sweeps."""
        if self._is_sweeping:
            self.notice(budget)
        else:
            self.announce(budget)

    def notice(self, budget: Budget) -> None:
        """Sweep one budget now: something of it is overdue, as this process knows."""
        self._news.setdefault(budget.name, asyncio.Event()).set()
        if budget.name not in self._tasks:
            self._tasks[budget.name] = asyncio.get_running_loop().create_task(self._follow(budget))

    def announce(self, budget: Budget) -> None:
        """Have whichever process sweeps look at one budget now: this one does not."""
        if budget.name not in self._tasks:
            self._tasks[budget.name] = asyncio.get_running_loop().create_task(self._announce(budget))

    def ask(self, budget: Budget, request_id: str, generation_id: str, funding: bytes, *, ended_by: str) -> None:
        """Ask for the true cost of a request that has no open hold any more, and correct what was booked for it."""
        if request_id not in self._tasks:
            asking = self._ask_until_told(budget, request_id, generation_id, funding, ended_by=ended_by)
            self._tasks[request_id] = asyncio.get_running_loop().create_task(asking)

    async def close(self, *, seconds: float = 0) -> None:
        """Go on for so long with what is due until then, and stop; what is left is due for whoever sweeps next."""
        end = asyncio.get_running_loop().time() + seconds
        tasks = tuple(self._tasks.values())
        if soon := [task for name, task in self._tasks.items() if self._next.get(name, 0) < end]:
            await asyncio.wait(soon, timeout=seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def sweep(self, budget: Budget) -> float | None:
        """Close what is overdue in one budget; return the seconds until more is, None when nothing is open.

        Raises Unavailable.
        """
        while True:
            async with self._room:
                claim = await self._ledger.claim(budget, most=_MOST_HOLDS, lease_ms=_CLAIM_MS)
                Sweeper.reached("claimed")
                closing = (self._resolve_surely(budget, request_id, claim) for request_id in claim.request_ids)
                for fault in await asyncio.gather(*closing, return_exceptions=True):
                    if fault is not None:
                        raise fault
            if not claim.request_ids:
                break
        await self._ledger.events.list_unlisted(budget)
        if claim.next_due_ms is None:
            await self._ledger.rest(budget)
            return None
        wait_ms = max(0, claim.next_due_ms - claim.now_ms)
        await self._ledger.look_again(budget, after_ms=wait_ms)
        return wait_ms / 1000

    async def _resolve_surely(self, budget: Budget, request_id: str, claim: Claim) -> None:
        """Close one hold; a fault in it is told and keeps no other from being closed. Raises Unavailable."""
        try:
            await self._resolve(budget, request_id, claim)
        except asyncio.CancelledError:
            # A sweeper that is stopped gives it back at once.
            with contextlib.suppress(Unavailable):
                await self._ledger.postpone(budget, request_id, due_ms=0)
            raise
        except Unavailable:
            raise
        except Exception as fault:
            log.error("sweep_failed", error=type(fault).__name__, request_id=request_id)
            await self._ledger.postpone(budget, request_id, due_ms=_FAULT_MS, is_attempt=True)

    async def _announce(self, budget: Budget) -> None:
        try:
            with contextlib.suppress(Unavailable):
                await self._ledger.look_again(budget, after_ms=0)
        finally:
            del self._tasks[budget.name]

    async def _follow(self, budget: Budget) -> None:
        """Sweep a budget until nothing of it is due for a while; news of it cuts the waiting short."""
        news, clock = self._news[budget.name], asyncio.get_running_loop().time
        wait: float | None = 0
        try:
            while news.is_set() or (wait is not None and wait <= _BACKOFF_SECONDS[-1]):
                self._next[budget.name] = clock() + (wait or 0)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await news.wait()
                news.clear()
                while rest := self._ledger.rest_seconds(budget):
                    self._next[budget.name] = clock() + rest
                    await asyncio.sleep(rest)
                self._next[budget.name] = 0
                wait = await self.sweep(budget)
        except Unavailable:
            pass  # The list of due holds brings it back.
        except Exception as fault:
            log.error("sweep_failed", error=type(fault).__name__, app=budget.app_id)
        finally:
            del self._tasks[budget.name], self._news[budget.name]
            self._next.pop(budget.name, None)

    async def _resolve(self, budget: Budget, request_id: str, claim: Claim) -> None:
        hold = await self._ledger.hold(budget, request_id)
        if hold is None or not hold.is_open:
            # Nothing is known of it: there is nothing to ask, and a void leaves word of that.
            await self._close(budget, request_id, Settlement("void", ended_by="crash"))
            return
        ended_by, estimate, generation_id = hold.ended_by or "crash", hold.estimate_nano, hold.generation_id
        if budget.mode == "test" or _never_left(hold, claim):
            await self._close(budget, request_id, Settlement("void", ended_by=ended_by))
            return
        stated = await self._ask(budget, generation_id, hold.funding, ended_by=ended_by) if generation_id else None
        Sweeper.reached("asked")
        if stated is not None:
            await self._close(budget, request_id, stated)
            return
        since_ms = claim.now_ms if hold.reconcile_ms is None else hold.reconcile_ms
        patience_ms = self._reconcile_ms if estimate else min(self._reconcile_ms, _FAILED_MS)
        if not generation_id or claim.now_ms - since_ms >= patience_ms:
            again = await self._ledger.hold(budget, request_id)
            if again is None or (again.state, again.generation_id, again.ended_by) != (
                "open",
                generation_id,
                hold.ended_by,
            ):
                # It was handed over meanwhile, or closed: what was read of it counts no more.
                await self._ledger.postpone(budget, request_id, due_ms=0)
                return
            status = "estimated" if estimate else "void"
            await self._close(budget, request_id, Settlement(status, estimate, generation_id, ended_by=ended_by))
            return
        wait = min(_BACKOFF_SECONDS[min(hold.attempts, len(_BACKOFF_SECONDS) - 1)], self._reconcile_ms / 1000)
        await self._ledger.postpone(budget, request_id, due_ms=int(wait * 1000), is_attempt=True)

    async def _ask(self, budget: Budget, generation_id: str, funding: bytes, *, ended_by: str) -> Settlement | None:
        """Return the settlement at the cost that OpenRouter states, None when it states none (yet)."""
        try:
            key = self._sealer.open(funding, place=budget.place)
            document = await self._upstream.generation(generation_id, key)
        except (SealBroken, UpstreamError):
            return None
        return stated_settlement(document, ended_by=ended_by)

    async def _ask_until_told(
        self, budget: Budget, request_id: str, generation_id: str, funding: bytes, *, ended_by: str
    ) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + self._reconcile_ms / 1000
        waits = iter(_BACKOFF_SECONDS)
        is_told = False
        try:
            while clock() < end:
                stated = await self._ask(budget, generation_id, funding, ended_by=ended_by)
                if stated is not None:
                    with contextlib.suppress(Unavailable):
                        await self._close(budget, request_id, stated)
                        is_told = True
                        return
                wait = next(waits, _BACKOFF_SECONDS[-1])
                self._next[request_id] = clock() + wait
                await asyncio.sleep(wait)
        finally:
            if not is_told:
                # Its estimate, or its void, stands.
                log.warning("cost_not_told", request_id=request_id)
            del self._tasks[request_id]
            self._next.pop(request_id, None)

    async def _close(self, budget: Budget, request_id: str, settlement: Settlement) -> None:
        booked = await self._ledger.settle(budget, request_id, settlement)
        Sweeper.reached("swept")
        if booked.is_first:
            cost_usd, overrun_usd = usd_from_nano(booked.cost_nano), usd_from_nano(booked.overrun_nano)
            metrics.count_settlement(booked.status, settlement.ended_by, cost_usd, overrun_usd)
            log.info(
                "swept",
                request_id=request_id,
                ledger=booked.status,
                ended_by=settlement.ended_by,
                cost_usd=cost_usd,
            )


def _never_left(hold: Hold, claim: Claim) -> bool:
    """Tell whether a request surely never left: no mark says so, and no Redis has died that may have lost the mark."""
    return not hold.is_sent and (hold.admitted_ms or 0) > claim.started_ms


def stated_settlement(document: Document, *, ended_by: str) -> Settlement | None:
    """Return the settlement that a `/generation` answer states, None when it states no cost (openrouter.md §2).

    Billed are the native tokens. With the payer's own provider key the provider's bill counts beside OpenRouter's fee.
    """
    record = parsed(document.body).get("data") if document.status == 200 else None
    if not isinstance(record, dict):
        return None
    try:
        cost_nano = nano_from_usd(_decimal(record.get("total_cost")))
        if record.get("is_byok") is True and record.get("upstream_inference_cost") is not None:
            cost_nano += nano_from_usd(_decimal(record["upstream_inference_cost"]))
    except ValueError:
        return None
    model = record.get("model")
    return Settlement(
        "settled",
        cost_nano,
        fit_id(record.get("id")) or "",
        model if isinstance(model, str) and model.isprintable() else "",
        _count(record.get("native_tokens_prompt")),
        _count(record.get("native_tokens_completion")),
        ended_by=ended_by,
    )


def _decimal(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("no amount")
    return Decimal(value)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
