"""The browser's cookie: renewed while it is used, and two that were given at the same moment live side by side."""

from tests.consent_web.world import Visitor, World

NAME = "__Host-wattfare-browser"


def given(visitor: Visitor) -> dict[str, str]:
    return {name: value for name, value in visitor.cookies.items() if name.startswith(NAME)}


async def test_the_browsers_cookie_is_renewed(world: World, visitor: Visitor) -> None:
    """Each response renews it for a day, so no attempt outlives the cookie it is bound to."""
    begun = await world.begin(visitor)
    before = given(visitor)
    for path in ("/consent", "/", f"/consent/attempts/{begun.json['id']}"):
        answer = await visitor.get(path)
        lines = [line for line in answer.headers.getall("Set-Cookie") if line.startswith(NAME)]
        assert len(lines) == 1, path
        assert "Max-Age=86400" in lines[0]
    assert given(visitor) == before
    assert len(before) == 1


async def test_two_first_windows_live_side_by_side(world: World, visitor: Visitor) -> None:
    """Both pages were requested before either was answered; each attempt can be approved or denied."""
    other = world.visitor()
    await visitor.open()
    await other.open()
    first = await world.begin(visitor, mode="test", token=world.token("ada", mode="test"))
    assert given(visitor).keys() != given(other).keys()
    visitor.cookies |= given(other)
    csrf = visitor.csrf
    second = await world.begin(visitor, mode="test", token=world.token("eve", mode="test"))
    for begun, token in ((first, csrf), (second, visitor.csrf)):
        visitor.csrf = token
        path = f"/consent/attempts/{begun.json['id']}"
        assert (await visitor.get(path)).json["state"] == "pending"
        visitor.csrf = token
        assert (await visitor.post(f"{path}/deny")).json["state"] == "denied"


async def test_cookies_made_at_will_are_not_all_looked_at(world: World, visitor: Visitor) -> None:
    """A page on another port may set hundreds: four count, and none of another form."""
    visitor.cookies = {f"{NAME}-{number:04}": f"{number:043}" for number in range(200)}
    visitor.cookies[f"{NAME}-0000"] = "x"
    answer = await visitor.get("/consent")
    assert len([line for line in answer.headers.getall("Set-Cookie") if line.startswith(NAME)]) == 4
    assert (await world.begin(visitor)).status == 200


async def test_a_wrong_code_burns_no_state(world: World, visitor: Visitor) -> None:
    """An attacker with the callback's URL can break nothing: the payer's own code works after theirs."""
    await visitor.read_csrf("/fund/start")
    started = await visitor.post("/fund/start")
    back = await world.authorize(str(started.json["url"]))
    state, _, code = back.rpartition("/")[2].partition("?code=")
    for wrong in ("wrong", "x" * 512):
        assert (await visitor.post("/fund/finish", {"state": state, "code": wrong})).status == 400
    assert (await visitor.post("/fund/finish", {"state": state, "code": code})).status == 200
