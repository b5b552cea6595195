"""The sweeper: finds overdue holds without scanning, claims them, requests their true cost and settles them.

It runs in every gateway, or alone as `python -m gateway.sweeper`. `docs/ledger.md` defines the settlements.
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
# Holds claimed at once; all are started immediately, because a hold that waited could outlive its claim.
_MOST_HOLDS = 4
# Longer than one look-up may take, so that no other process claims a hold during its look-up.
_CLAIM_MS = 12_000
# Budgets swept concurrently: a hanging OpenRouter must not serialise them.
_MOST_AT_ONCE = 32
# Pause for a hold whose sweep raised an unexpected exception, so that it does not flood the log.
_FAULT_MS = 60_000
# OpenRouter's record is available within about a second, after an abort later; then retry less often.
_BACKOFF_SECONDS = (0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
# A request that failed before any output most likely costs nothing, so its money is held no longer than this.
_FAILED_MS = 30_000


class Sweeper:
    """Finds overdue holds and closes them."""

    reached: ClassVar[Callable[[str], None]] = staticmethod(lambda _point: None)
    """Called at named points of a sweep; the crash tests replace it to kill the process there."""

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
        """When each followed budget is swept next, by the loop's clock."""

    async def run(self) -> None:
        """Sweep all shards until cancelled. A budget is taken by one process at a time, and a hold claimed by one."""
        while True:
            # The number after the last shard stands for expired grants.
            for shard in random.sample(range(OPEN_SHARDS + 1), OPEN_SHARDS + 1):
                try:
                    await (self._look_into(shard) if shard < OPEN_SHARDS else self._end_grants())
                except Unavailable:
                    pass  # other shards may be on servers that answer
                except Exception as fault:
                    # The loop must go on: a sweeper that ended would leave holds open for ever.
                    log.error("sweep_failed", error=type(fault).__name__)
            await asyncio.sleep(_LOOK_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - spreads processes out

    async def _look_into(self, shard: int) -> None:
        for budget in await self._ledger.take_due(shard, most=_MOST_BUDGETS, lease_ms=_CLAIM_MS):
            self.notice(budget)

    async def _end_grants(self) -> None:
        """Delete the funding keys of expired grants. Raises Unavailable."""
        for budget in await self._ledger.endings.take_due(most=_MOST_BUDGETS, lease_ms=_CLAIM_MS):
            await self._ledger.endings.finish(budget)

    def request_sweep(self, budget: Budget) -> None:
        """Have a budget swept now: by this process if it sweeps, else by another."""
        if self._is_sweeping:
            self.notice(budget)
        else:
            self.announce(budget)

    def notice(self, budget: Budget) -> None:
        """Sweep a budget now in this process."""
        self._news.setdefault(budget.name, asyncio.Event()).set()
        if budget.name not in self._tasks:
            self._tasks[budget.name] = asyncio.get_running_loop().create_task(self._follow(budget))

    def announce(self, budget: Budget) -> None:
        """Put a budget on the sweeper's list as due now, for another process."""
        if budget.name not in self._tasks:
            self._tasks[budget.name] = asyncio.get_running_loop().create_task(self._announce(budget))

    def ask(self, budget: Budget, request_id: str, generation_id: str, funding: bytes, *, ended_by: str) -> None:
        """Request the true cost of a request whose hold is closed or lost, and correct what was booked."""
        if request_id not in self._tasks:
            asking = self._look_up_until_stated(budget, request_id, generation_id, funding, ended_by=ended_by)
            self._tasks[request_id] = asyncio.get_running_loop().create_task(asking)

    async def close(self, *, seconds: float = 0) -> None:
        """Finish what is due within `seconds`, then stop; another process's sweeper finds the rest."""
        end = asyncio.get_running_loop().time() + seconds
        tasks = tuple(self._tasks.values())
        if soon := [task for name, task in self._tasks.items() if self._next.get(name, 0) < end]:
            await asyncio.wait(soon, timeout=seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def sweep(self, budget: Budget) -> float | None:
        """Close a budget's overdue holds; return the seconds until the next is overdue, None if none is open.

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
        if claim.has_unlisted_events:
            await self._ledger.events.list_unlisted(budget)
        if claim.next_due_ms is None:
            await self._ledger.rest(budget)
            return None
        wait_ms = max(0, claim.next_due_ms - claim.now_ms)
        await self._ledger.list_again(budget, after_ms=wait_ms)
        return wait_ms / 1000

    async def _resolve_surely(self, budget: Budget, request_id: str, claim: Claim) -> None:
        """Close one hold; log an unexpected exception, which must not prevent others from being closed.

        Raises Unavailable.
        """
        try:
            await self._resolve(budget, request_id, claim)
        except asyncio.CancelledError:
            # When stopped, give up the claim at once.
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
                await self._ledger.list_again(budget, after_ms=0)
        finally:
            del self._tasks[budget.name]

    async def _follow(self, budget: Budget) -> None:
        """Sweep a budget repeatedly until nothing is due soon; `notice` ends a wait early."""
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
            pass  # the sweeper's list leads back to it
        except Exception as fault:
            log.error("sweep_failed", error=type(fault).__name__, app=budget.app_id)
        finally:
            del self._tasks[budget.name], self._news[budget.name]
            self._next.pop(budget.name, None)

    async def _resolve(self, budget: Budget, request_id: str, claim: Claim) -> None:
        hold = await self._ledger.hold(budget, request_id)
        if hold is None or not hold.is_open:
            # The hold is missing or closed: settle writes a void for a missing one, and changes nothing otherwise.
            await self._close(budget, request_id, Settlement("void", ended_by="crash"))
            return
        ended_by, estimate, generation_id = hold.ended_by or "crash", hold.estimate_nano, hold.generation_id
        if budget.mode == "test" or _never_left(hold, claim):
            await self._close(budget, request_id, Settlement("void", ended_by=ended_by))
            return
        stated = await self._look_up(budget, generation_id, hold.funding, ended_by=ended_by) if generation_id else None
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
                # It was handed over or closed meanwhile: the values read before are outdated.
                await self._ledger.postpone(budget, request_id, due_ms=0)
                return
            status = "estimated" if estimate else "void"
            await self._close(budget, request_id, Settlement(status, estimate, generation_id, ended_by=ended_by))
            return
        wait = min(_BACKOFF_SECONDS[min(hold.attempts, len(_BACKOFF_SECONDS) - 1)], self._reconcile_ms / 1000)
        await self._ledger.postpone(budget, request_id, due_ms=int(wait * 1000), is_attempt=True)

    async def _look_up(self, budget: Budget, generation_id: str, funding: bytes, *, ended_by: str) -> Settlement | None:
        """Return the settlement at OpenRouter's stated cost, None if it states none (yet)."""
        try:
            key = self._sealer.open(funding, place=budget.place)
            document = await self._upstream.generation(generation_id, key)
        except (SealBroken, UpstreamError):
            return None
        return stated_settlement(document, ended_by=ended_by)

    async def _look_up_until_stated(
        self, budget: Budget, request_id: str, generation_id: str, funding: bytes, *, ended_by: str
    ) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + self._reconcile_ms / 1000
        waits = iter(_BACKOFF_SECONDS)
        is_settled = False
        try:
            while clock() < end:
                stated = await self._look_up(budget, generation_id, funding, ended_by=ended_by)
                if stated is not None:
                    with contextlib.suppress(Unavailable):
                        await self._close(budget, request_id, stated)
                        is_settled = True
                        return
                wait = next(waits, _BACKOFF_SECONDS[-1])
                self._next[request_id] = clock() + wait
                await asyncio.sleep(wait)
        finally:
            if not is_settled:
                # The booked estimate or void remains.
                log.warning("cost_not_told", request_id=request_id)
            del self._tasks[request_id]
            self._next.pop(request_id, None)

    async def _close(self, budget: Budget, request_id: str, settlement: Settlement) -> None:
        booked = await self._ledger.settle(budget, request_id, settlement)
        Sweeper.reached("swept")
        if booked.is_first:
            metrics.count_settlement(booked.status, settlement.ended_by, booked.cost_nano, booked.overrun_nano)
            log.info(
                "swept",
                request_id=request_id,
                ledger=booked.status,
                ended_by=settlement.ended_by,
                cost_usd=usd_from_nano(booked.cost_nano),
            )


def _never_left(hold: Hold, claim: Claim) -> bool:
    """Return whether a request was certainly never sent: it has no mark, and Redis has not restarted since its
    admission, which could have lost the mark.
    """
    return not hold.is_sent and (hold.admitted_ms or 0) > claim.started_ms


def stated_settlement(document: Document, *, ended_by: str) -> Settlement | None:
    """Return the settlement by a `/generation` answer, None if it states no cost.

    The native tokens are the billed ones. With BYOK the provider's bill is added to OpenRouter's fee.
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
