"""Counters for the operator, served on a port of their own (WATTFARE_METRICS_PORT).

Rule: no label holds anything of a payer or an app.
"""

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

REGISTRY = CollectorRegistry()

REQUESTS = Counter("wattfare_requests", "Answered HTTP calls by status.", ["status"], registry=REGISTRY)
SETTLEMENTS = Counter("wattfare_settlements", "Closed metered requests.", ["ledger", "ended_by"], registry=REGISTRY)
SETTLED_USD = Counter("wattfare_settled_usd", "Cost booked, in US dollars.", registry=REGISTRY)
OVERRUNS = Counter("wattfare_overruns", "Requests that cost more than their hold.", registry=REGISTRY)
OVERRUN_USD = Counter("wattfare_overrun_usd", "Cost above the holds, in US dollars.", registry=REGISTRY)
STORE_OUTAGES = Counter("wattfare_store_outages", "Times that Redis went away.", registry=REGISTRY)
WAIT_SECONDS = Histogram(
    "wattfare_wait_seconds", "How long requests waited for money that others in flight held.", registry=REGISTRY
)
FIRST_BYTE_SECONDS = Histogram(
    "wattfare_first_byte_seconds", "From the call to OpenRouter's first byte.", registry=REGISTRY
)


@cache
def requests_of(status: int) -> Counter:
    """Return the counter of one status."""
    return REQUESTS.labels(str(status))


@cache
def settlements_of(ledger: str, ended_by: str) -> Counter:
    """Return the counter of one kind of settlement."""
    return SETTLEMENTS.labels(ledger, ended_by)


def count_settlement(ledger: str, ended_by: str, cost_usd: float, overrun_usd: float) -> None:
    """Count one closed request. `ledger`: its status there, `overrun_usd`: its cost above its hold."""
    settlements_of(ledger, ended_by).inc()
    SETTLED_USD.inc(cost_usd)
    if overrun_usd:
        OVERRUNS.inc()
        OVERRUN_USD.inc(overrun_usd)


def serve(host: str, port: int) -> None:
    """Serve the counters from a thread of their own. Raises OSError when the port is taken."""
    start_http_server(port, addr=host, registry=REGISTRY)
