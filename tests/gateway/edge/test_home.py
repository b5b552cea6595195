"""The page at `/`."""

import re

from gateway.edge.home import page
from tests.gateway.environments import load
from tests.gateway.stack import Stack


async def test_the_page_leads_to_docs_dashboard_and_openapi(stack: Stack) -> None:
    """Also with HEAD, and by no other method; it runs no script, and no frame of another site shows it."""
    answer = await stack.ask("GET", "/")
    text = answer.body.decode()
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "<script" not in text
    links = re.findall(r'href="([^"]+)"', text)
    assert links == ["http://127.0.0.1:8081/docs", "/openapi.json", "http://127.0.0.1:8081"]
    assert (await stack.ask("GET", "/openapi.json")).status == 200
    assert (await stack.ask("HEAD", "/")).status == 200
    assert (await stack.ask("POST", "/")).refusal == (405, "invalid_request")


def test_the_demo_is_linked_where_there_is_one() -> None:
    """`make run` passes the demo's address; a deployment has none."""
    assert "demo app" not in page(load())
    assert 'href="http://127.0.0.1:9"' in page(load(WATTFARE_DEMO_URL="http://127.0.0.1:9"))
