"""The operator's counters."""

import re
import socket
import urllib.request
from pathlib import Path

import pytest

from gateway import metrics

ROOT = Path(__file__).parents[2]


def test_a_settlement_is_counted_once_with_its_cost_and_overrun() -> None:
    """Overruns are rare and matter: they have counters of their own."""
    read = metrics.REGISTRY.get_sample_value
    before = [read(name) or 0 for name in ("wattfare_settled_usd_total", "wattfare_overruns_total")]

    metrics.count_settlement("settled", "complete", 500_000_000, 125_000_000)
    metrics.count_settlement("settled", "complete", 250_000_000, 0)

    assert read("wattfare_settled_usd_total") == before[0] + 0.75
    assert read("wattfare_overruns_total") == before[1] + 1


def test_the_counters_are_served_on_a_port_of_their_own() -> None:
    """Labels are states and statuses only, and name no payer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    metrics.serve("127.0.0.1", port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()

    assert "wattfare_settlements" in text


def test_a_taken_port_is_told_by_its_variable() -> None:
    """Two services on one host need a port each."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"WATTFARE_METRICS_PORT {port} cannot be listened on"):
            metrics.serve("127.0.0.1", port)


@pytest.mark.parametrize("name", ["deploy/alerts.yml", "deploy/grafana.json"])
def test_what_is_drawn_and_alerted_on_is_exported(name: str) -> None:
    """A rule on a name that nothing exports would never fire."""
    exported = {
        f"{family.name}{suffix}"
        for family in metrics.REGISTRY.collect()
        for suffix in {
            "counter": ["_total"],
            "histogram": ["_bucket", "_count", "_sum"],
            "gauge": [""],
        }[family.type]
    }
    named = set(re.findall(r"\bwattfare_\w+", (ROOT / name).read_text()))
    assert named
    assert named - exported == set()


def test_what_is_handed_on_again_and_again_counts_once() -> None:
    """A histogram counts the durations in each bucket, its bound included, and their sum."""
    read = metrics.REGISTRY.get_sample_value
    timings: list[tuple[str, dict[str, str]]] = [
        ("wattfare_added_seconds_count", {}),
        ("wattfare_added_seconds_sum", {}),
    ]
    buckets = [("wattfare_added_seconds_bucket", {"le": le}) for le in ("0.0005", "0.001", "5.0", "+Inf")]
    requests = ("wattfare_requests_total", {"status": "418"})
    before = [read(*each) or 0 for each in (*timings, *buckets, requests)]

    for seconds in (0.001, 0.0006, 7.0):
        metrics.ADDED_SECONDS.note(seconds)
        metrics.count_request(418)
        metrics.hand_on()

    after = [read(*each) or 0 for each in (*timings, *buckets, requests)]
    assert [new - old for new, old in zip(after, before, strict=True)] == pytest.approx([3, 7.0016, 0, 2, 2, 3, 3])
