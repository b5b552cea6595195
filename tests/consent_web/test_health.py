"""What watches over the consent site: liveness, readiness, and one line for each request."""

import contextlib
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway import metrics
from tests.consent_web.world import Visitor, a_world
from tests.servers import ValkeyServer


@contextlib.contextmanager
def _lines() -> Iterator[list[dict[str, Any]]]:
    """What is logged meanwhile."""
    lines: list[dict[str, Any]] = []

    def keep(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        lines.append(dict(event))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep])
    try:
        yield lines
    finally:
        structlog.configure(**before)


async def test_it_tells_whether_it_lives_and_whether_it_can_work(tmp_path: Path) -> None:
    """Without Redis it is alive but not ready; a load balancer calls it by IP address, without a cookie."""
    with ValkeyServer() as server:
        async with a_world(server.url, tmp_path) as world:
            visitor = world.visitor()
            for path, status in (("/healthz", "ok"), ("/readyz", "ready")):
                answer = await visitor.get(path, Host="10.0.0.1")
                assert (answer.status, answer.json) == (200, {"status": status})
            server.freeze()
            assert (await visitor.get("/healthz")).status == 200
            refused = await visitor.get("/readyz", Accept="application/json")
            server.thaw()
            assert (refused.status, refused.reason) == (503, "unavailable")


@pytest.mark.parametrize(
    ("path", "page", "status"),
    [("/consent?canary=1", "/consent", 200), ("/apps/canary", "/apps/{ref}", 404), ("/canary", "none", 404)],
)
async def test_each_request_is_one_line_that_names_the_page_and_nothing_of_the_visitor(
    visitor: Visitor, path: str, page: str, status: int
) -> None:
    """Paths of some pages, and every query, may hold what only this browser may know."""
    counted = _counted(status)
    with _lines() as lines:
        assert (await visitor.get(path)).status == status
    (line,) = lines
    assert (line["method"], line["page"], line["status"]) == ("GET", page, status)
    assert "canary" not in str(line)
    assert _counted(status) == counted + 1


def _counted(status: int) -> float:
    return metrics.REGISTRY.get_sample_value("wattfare_requests_total", {"status": str(status)}) or 0
