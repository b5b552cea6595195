"""Fetches and refreshes OpenRouter's model list, and keeps the last good copy in Redis with its age."""

import asyncio
import contextlib
import time
from collections import OrderedDict

from gateway import keys
from gateway.errors import Unavailable, UpstreamError
from gateway.logs import log
from gateway.openrouter.client import Client, Document
from gateway.openrouter.pricelist import PriceList
from gateway.store.store import Store

# OpenRouter's own max-age for the list (openrouter.md §5).
_FRESH_SECONDS = 300
_RETRY_SECONDS = 5
# A gateway starts without OpenRouter: until it has the list, a request holds all that is left.
_START_SECONDS = 3
# The default list omits models without text output (openrouter.md §5), which have prices too.
_EVERY_MODEL = "models?output_modalities=all"
_PAGES = 64


class Prices:
    """The current price list, and OpenRouter's public lists as it serves them."""

    def __init__(self, store: Store, upstream: Client) -> None:
        self._store = store
        self._upstream = upstream
        self._pages: OrderedDict[str, tuple[float, Document]] = OrderedDict()
        self.current: PriceList | None = None
        self.is_away = False
        """Whether OpenRouter did not answer the last request of the list."""

    async def start(self) -> None:
        """Fetch the list; use the copy in Redis if OpenRouter does not answer in time."""
        is_here = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                is_here = await self.refresh()
        if not is_here:
            await self._recall()

    async def keep_fresh(self) -> None:
        """Refresh until cancelled; after a failure use the newest copy of any process, with its age."""
        while True:
            is_fresh = self.current is not None and _now_ms() - self.current.fetched_ms < _FRESH_SECONDS * 1000
            await asyncio.sleep(_FRESH_SECONDS if is_fresh else _RETRY_SECONDS)
            try:
                if not await self.refresh():
                    await self._recall()
            except Exception as fault:
                log.error("prices_not_refreshed", error=type(fault).__name__)

    async def refresh(self) -> bool:
        """Fetch the list; return whether that succeeded."""
        try:
            document = await self._upstream.fetch(_EVERY_MODEL)
            if document.status != 200:
                raise ValueError(f"status {document.status}")
            fetched_ms = _now_ms()
            listed = PriceList.parse(document.body, fetched_ms=fetched_ms)
            if len(listed) == 0:
                raise ValueError("an empty list")
            self.current = listed
        except (UpstreamError, ValueError) as failed:
            # One log line for an outage, however many attempts fail.
            if not self.is_away:
                log.warning("prices_away", reason=str(failed)[:200], retry_seconds=_RETRY_SECONDS)
            self.is_away = True
            return False
        if self.is_away:
            log.info("prices_back", models=len(listed))
        self.is_away = False
        with contextlib.suppress(Unavailable):
            await self._store.call("HSET", keys.PRICES, "raw", document.body, "fetched_ms", fetched_ms)
        return True

    async def page(self, path: str) -> Document:
        """Return one of OpenRouter's public lists, at most five minutes old. Raises UpstreamError."""
        kept = self._pages.get(path)
        if kept is not None and time.monotonic() - kept[0] < _FRESH_SECONDS:
            return kept[1]
        document = await self._upstream.fetch(path)
        if document.status == 200:
            self._keep(path, document)
        return document

    async def _recall(self) -> None:
        """Use the copy in Redis if it is newer than the current one."""
        with contextlib.suppress(Unavailable, ValueError):
            fetched_ms = int(await self._store.call("HGET", keys.PRICES, "fetched_ms") or 0)
            if fetched_ms > (self.current.fetched_ms if self.current else 0):
                raw = await self._store.call("HGET", keys.PRICES, "raw")
                self.current = PriceList.parse(raw, fetched_ms=fetched_ms)

    def _keep(self, path: str, document: Document) -> None:
        self._pages[path] = (time.monotonic(), document)
        self._pages.move_to_end(path)
        while len(self._pages) > _PAGES:
            self._pages.popitem(last=False)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
