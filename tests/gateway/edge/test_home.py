"""The page at `/` and the documents that it links to."""

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
    assert "http://127.0.0.1:8081" in links
    assert {"/openapi.json", "/docs/api.md"} <= set(links)
    for link in links:
        if link.startswith("/"):
            assert (await stack.ask("GET", link)).status == 200, link
    assert (await stack.ask("HEAD", "/")).status == 200


async def test_a_document_is_served_as_text_and_no_other_file_is(stack: Stack) -> None:
    """What is not listed is not there, whatever its name."""
    answer = await stack.ask("GET", "/docs/api.md")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.body.startswith(b"#")
    for name in ("nothing.md", "..%2fREADME.md", "%2e%2e%2fsetup.cfg"):
        assert (await stack.ask("GET", f"/docs/{name}")).refusal == (404, "invalid_request")
    assert (await stack.ask("POST", "/")).refusal == (405, "invalid_request")


async def test_the_demo_is_linked_where_there_is_one(stack: Stack) -> None:
    """`make run` says where it is; a deployment has none."""
    assert b"demo app" not in (await stack.ask("GET", "/")).body
    shown = _page(load(WATTFARE_DEMO_URL="http://127.0.0.1:9"), {})
    assert 'href="http://127.0.0.1:9"' in shown
