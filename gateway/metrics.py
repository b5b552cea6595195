"""Prometheus metrics: counters, histograms and gauges, served on a port of their own (WATTFARE_METRICS_PORT).

Rule: no label identifies a payer or an app.
Several workers write to files in one folder and the supervisor serves the sums, so the counts of a replaced worker are
kept.
What every request counts is only added up, and handed to prometheus_client when a scrape asks (`hand_on`): counting
there takes six calls and a lock each time.
"""

import os
import tempfile
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from gateway.money import NANO_PER_USD


class Sums(defaultdict[tuple[str | int, ...], int]):
    """What was added to `counter`, by its labels. One thread adds; another may hand on.

    `parts`: how many of what is added here make one of the counter's unit.
    """

    def __init__(self, counter: Counter, parts: int = 1) -> None:
        super().__init__(int)
        self._counter = counter
        self._parts = parts
        self._handed: dict[tuple[str | int, ...], int] = {}

    def hand_on(self) -> None:
        """Add to the counter what was added here since the last time."""
        for labels, total in tuple(self.items()):
            counter = self._counter.labels(*labels) if labels else self._counter
            counter.inc((total - self._handed.get(labels, 0)) / self._parts)
            self._handed[labels] = total


class Timings(Histogram):
    """A histogram that is filled by `note`. One thread notes; another may hand on."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._noted, self._noted_seconds = [0] * len(self._upper_bounds), 0.0
        self._handed, self._handed_seconds = [0] * len(self._upper_bounds), 0.0

    def note(self, seconds: float) -> None:
        """Note one duration."""
        self._noted[bisect_left(self._upper_bounds, seconds)] += 1
        self._noted_seconds += seconds

    def hand_on(self) -> None:
        """Add to the histogram what was noted since the last time."""
        for index, count in enumerate(self._noted):
            self._buckets[index].inc(count - self._handed[index])
            self._handed[index] = count
        seconds = self._noted_seconds
        self._sum.inc(seconds - self._handed_seconds)
        self._handed_seconds = seconds


class _HandingOn(Collector):
    """Stands first among what is collected, so that the others are up to date."""

    def collect(self) -> list[Metric]:
        hand_on()
        return []


REGISTRY = CollectorRegistry()
REGISTRY.register(_HandingOn())
_handing_on = threading.Lock()
# prometheus_client reads this variable, when it is imported, to find the folder shared by several processes.
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# Prometheus scrapes every few seconds at most.
_HAND_ON_SECONDS = 1.0
# The gateway itself takes a millisecond or two; a slow Redis adds tens of milliseconds.
_OWN_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
# A reasoning model may take minutes to its first byte.
_MODEL_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)

REQUESTS = Counter("wattfare_requests", "Answered HTTP calls by status.", ["status"], registry=REGISTRY)
REFUSALS = Counter("wattfare_refusals", "Refused calls by error code.", ["code"], registry=REGISTRY)
SETTLEMENTS = Counter("wattfare_settlements", "Closed metered requests.", ["ledger", "ended_by"], registry=REGISTRY)
SETTLED_USD = Counter("wattfare_settled_usd", "Cost booked, in US dollars.", registry=REGISTRY)
LIMITED = Counter("wattfare_limited", "Calls that a limit of ours refused (429).", ["limit"], registry=REGISTRY)
HOLDS = Counter("wattfare_holds", "Placed holds: metered requests that were let through.", registry=REGISTRY)
_requests, _settlements, _holds = map(Sums, (REQUESTS, SETTLEMENTS, HOLDS))
_settled_nano = Sums(SETTLED_USD, NANO_PER_USD)
OVERRUNS = Counter("wattfare_overruns", "Requests that cost more than their hold.", registry=REGISTRY)
OVERRUN_USD = Counter("wattfare_overrun_usd", "Cost above the holds, in US dollars.", registry=REGISTRY)
STORE_OUTAGES = Counter("wattfare_store_outages", "Times that Redis went away.", registry=REGISTRY)
WEBHOOKS = Counter("wattfare_webhooks", "Attempts to deliver a webhook.", ["outcome"], registry=REGISTRY)
WAIT_SECONDS = Histogram(
    "wattfare_wait_seconds", "Until a request was decided whose bound did not fit at once.", registry=REGISTRY
)
ADDED_SECONDS = Timings(
    "wattfare_added_seconds",
    "From the call to the request's way upstream, without waits: what the gateway adds.",
    buckets=_OWN_SECONDS,
    registry=REGISTRY,
)
FIRST_BYTE_SECONDS = Timings(
    "wattfare_first_byte_seconds",
    "From the call to OpenRouter's first byte.",
    buckets=_MODEL_SECONDS,
    registry=REGISTRY,
)


def _state(name: str, what: str, mode: str) -> Gauge:
    """Return a gauge. `mode`: how the values of several live processes are combined (sum, minimum, maximum)."""
    return Gauge(name, what, registry=REGISTRY, multiprocess_mode=mode)  # type: ignore[arg-type]


OPEN_REQUESTS = _state("wattfare_open_requests", "Metered requests that are open now, streams included.", "livesum")
WAITING_REQUESTS = _state("wattfare_waiting_requests", "Requests that wait for others of their budget.", "livesum")
STORE_UP = _state("wattfare_store_up", "1 where Redis is there and the one we knew.", "livemin")
STORE_PENDING = _state("wattfare_store_pending", "Commands that Redis has not acknowledged yet.", "livesum")
OPENROUTER_UP = _state("wattfare_openrouter_up", "1 where OpenRouter answered when last asked for prices.", "livemin")
PRICES_AGE_SECONDS = _state("wattfare_prices_age_seconds", "How old the price list in use is.", "livemax")
SWEEPER_LATE = _state("wattfare_sweeper_late", "Budgets that have waited for a sweeper for a minute.", "livemax")

WEBHOOKS_LATE = _state(
    "wattfare_webhooks_late", "Budgets whose webhooks no sender has looked at for a minute.", "livemax"
)


def hand_on() -> None:
    """Give prometheus_client what was counted since the last time."""
    with _handing_on:
        for each in (_requests, _settlements, _settled_nano, _holds, ADDED_SECONDS, FIRST_BYTE_SECONDS):
            each.hand_on()


def count_request(status: int) -> None:
    """Count one answered call."""
    _requests[(status,)] += 1


def count_hold() -> None:
    """Count one placed hold."""
    _holds[()] += 1


@cache
def webhooks_of(outcome: str) -> Counter:
    """Return the counter of one outcome of webhooks: delivered, failed, given_up."""
    return WEBHOOKS.labels(outcome)


def count_settlement(ledger: str, ended_by: str, cost_nano: int, overrun_nano: int) -> None:
    """Count one closed request. `ledger`: its status in the ledger; `overrun_nano`: its cost above its hold."""
    _settlements[(ledger, ended_by)] += 1
    _settled_nano[()] += cost_nano
    if overrun_nano:
        OVERRUNS.inc()
        OVERRUN_USD.inc(overrun_nano / NANO_PER_USD)


@cache
def refusals_of(code: str) -> Counter:
    """Return the counter of one error code."""
    return REFUSALS.labels(code)


@cache
def limited_by(limit: str) -> Counter:
    """Return the counter of one limit: `app`, `user`, `open`."""
    return LIMITED.labels(limit)


def serve(host: str, port: int) -> None:
    """Serve this process's metrics from a thread. Raises OSError when the port is taken."""
    _serve(host, port, REGISTRY)


@contextmanager
def summed(host: str, port: int) -> Iterator[None]:
    """Serve the combined metrics of all processes started inside the block. Raises OSError when the port is taken."""
    with tempfile.TemporaryDirectory(prefix="wattfare-metrics-") as folder:
        os.environ[_FOLDER] = folder  # noqa: TID251 - how prometheus_client tells its processes; nothing is read
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
        _serve(host, port, registry)
        try:
            yield
        finally:
            del os.environ[_FOLDER]  # noqa: TID251


def keep_handing_on() -> None:
    """Hand on once a second from now on: what a worker counts is read from its files, without asking it."""

    def hand_on_for_ever() -> None:
        while True:
            time.sleep(_HAND_ON_SECONDS)
            hand_on()

    threading.Thread(target=hand_on_for_ever, name="metrics", daemon=True).start()


def forget_process(pid: int) -> None:
    """Remove the gauges of a process that has ended; its counters are kept."""
    if _FOLDER in os.environ:  # noqa: TID251
        mark_process_dead(pid)  # type: ignore[no-untyped-call]


def _serve(host: str, port: int, registry: CollectorRegistry) -> None:
    try:
        start_http_server(port, addr=host, registry=registry)
    except OSError as refused:
        raise OSError(f"WATTFARE_METRICS_PORT {port} cannot be listened on: {refused.strerror}") from None
