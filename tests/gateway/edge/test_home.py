"""The page at `/`."""

import re

from gateway.edge.home import _page
from tests.gateway.environments import load
from tests.gateway.stack import Stack


async def test_the_page_leads_to_docs_dashboard_and_openapi_and_every_link_of_ours_answers(stack: Stack) -> None:
    """Also with HEAD; it runs no script, and no frame of another site shows it."""
    answer = await stack.ask("GET", "/")
    text = answer.body.decode()
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "<script" not in text
    links = re.findall(r'href="([^"]+)"', text)
    assert {"http://127.0.0.1:8081", "http://127.0.0.1:8081/docs", "/openapi.json"} <= set(links)
    for link in links:
        if link.startswith("/"):
            assert (await stack.ask("GET", link)).status == 200, link
    assert (await stack.ask("HEAD", "/")).status == 200
    assert (await stack.ask("POST", "/")).refusal == (405, "invalid_request")


async def test_the_demo_is_linked_where_there_is_one(stack: Stack) -> None:
    """`make run` says where it is; a deployment has none."""
    assert b"demo app" not in (await stack.ask("GET", "/")).body
    shown = _page(load(WATTFARE_DEMO_URL="http://127.0.0.1:9"))
    assert 'href="http://127.0.0.1:9"' in shown
