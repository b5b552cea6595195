"""A warning precedes leaving a wallet that cannot be recovered; and a URL's fragment focuses nothing."""

import re
from pathlib import Path

import pytest

import consent_web
from tests.consent_web.sight import PAGES
from tests.consent_web.world import Visitor, World

WARNING = "Nothing could bring this budget back"


async def is_lost_by_leaving(world: World, visitor: Visitor) -> object:
    return (await world.begin(visitor, token=world.token("new"))).json["isLostByLeaving"]


async def test_leaving_what_nothing_brings_back_is_warned_of(world: World, visitor: Visitor) -> None:
    """With a pasted key, one browser and an app that may spend, popup and dashboard warn first."""
    await world.connected(visitor)
    assert await is_lost_by_leaving(world, visitor) is True
    home = await visitor.get("/")
    assert WARNING in home.text
    assert 'action="/leave"' not in home.text
    asked = await visitor.read_csrf("/leave")
    assert WARNING in asked.text
    assert "Acme" in asked.text
    assert (await visitor.submit("/leave")).status == 303
    assert (await visitor.get("/leave")).status == 404


async def test_what_can_be_found_again_is_left_with_one_click(world: World, visitor: Visitor) -> None:
    """An OpenRouter account, or nothing that spends: no warning."""
    await world.funded(visitor)
    assert await is_lost_by_leaving(world, visitor) is False
    owner = world.visitor()
    await owner.open()
    await world.by_openrouter(owner)
    begun = await world.begin(owner, token=world.token("ada"))
    await owner.post(f"/consent/attempts/{begun.json['id']}/approve", {"monthlyUsd": 5})
    assert await is_lost_by_leaving(world, owner) is False
    home = await owner.read_csrf()
    assert WARNING not in home.text
    assert 'action="/leave"' in home.text


FOCUSABLE = re.compile(r"<(?:a|button|input|select|textarea|summary|details|iframe)\b[^>]*>|<[^>]*\btabindex[^>]*>")


@pytest.mark.parametrize("path", [*PAGES, "app", "/leave", "/browsers", "/funding/remove"])
async def test_no_control_can_be_focused_by_a_fragment(world: World, visitor: Visitor, path: str) -> None:
    """Another page opens `…#amount` and has the payer press keys: a control with an id would take them."""
    await world.connected(visitor)
    if path == "app":
        home = await visitor.get("/")
        path = "/" + re.findall(r'href="/(apps/[a-z0-9]+)"', home.text)[0]
    answer = await visitor.get(path)
    controls = FOCUSABLE.findall(answer.text)
    assert [control for control in controls if re.search(r"\sid=", control)] == []


def test_no_field_is_a_password() -> None:
    """A password manager would offer to keep the payer's key, in a vault that fills it into other pages."""
    folder = Path(consent_web.__file__).parent
    files = [*folder.glob("templates/*.html"), *folder.glob("static/*.js")]
    assert len(files) > 20
    assert [file.name for file in files if re.search(r"""type(=|: ?)["']password""", file.read_text())] == []
    assert "data-1p-ignore" in (folder / "static/key_field.js").read_text()
