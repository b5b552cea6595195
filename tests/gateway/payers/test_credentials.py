"""Credentials in the wrong place: the refusal names the kind sent and the kind expected, and repeats no value."""

import pytest

from gateway.payers.credentials import no_secret_key, no_session_token
from tests.gateway.stack import Stack

_APP = "app" + "a" * 16
_JWT = "eyJhbGciOiJIUzI1NiJ9.eyJhcHBJZCI6ImFwcCJ9.c2ln"


@pytest.mark.parametrize(
    ("credential", "kind"),
    [
        (f"pk_live_{_APP}", "a publishable key"),
        (f"pk_test_{_APP}", "a publishable key"),
        (_JWT, "a session token"),
        (f"gr_live_{'x' * 43}", "a grant token"),
        (f"sk-or-v1-{'0' * 64}", "an OpenRouter key"),
    ],
)
def test_what_stands_for_a_secret_key_is_named(credential: str, kind: str) -> None:
    """With its scheme or without; the credential itself is not repeated."""
    for authorization in (f"Bearer {credential}", credential):
        said = no_secret_key(authorization)
        assert said.startswith(f"This is {kind}")
        assert "secret key: 'Authorization: Bearer sk_…'" in said
        assert credential not in said


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer x", f"sk_live_{_APP}_x", "Basic eDp5"])
def test_where_no_other_kind_is_known_the_form_is_told(authorization: str | None) -> None:
    """Nothing, something, or a secret key without its scheme."""
    assert no_secret_key(authorization) == "Send your secret key as 'Authorization: Bearer sk_…'."


def test_a_key_where_a_page_sends_its_token_is_named() -> None:
    """A secret key above all: it must not be on a page."""
    assert no_session_token(f"Bearer sk_live_{_APP}_x").startswith(
        "This is a secret key, which stays with your backend"
    )
    assert no_session_token(f"Bearer pk_live_{_APP}").startswith("This is a publishable key")
    assert "has expired" in no_session_token(f"Bearer {_JWT}")


async def test_the_refusals_over_http_say_it(stack: Stack) -> None:
    """401 auth, on a metered call and on a page's."""
    wrong = await stack.chat(headers=stack.as_user(secret=stack.app["publishableKey"]))
    assert wrong.refusal == (401, "auth")
    assert wrong.document["error"]["message"].startswith("This is a publishable key")
    token = await stack.chat(headers=stack.as_user(secret=await stack.token()))
    assert token.refusal == (401, "auth")
    assert token.document["error"]["message"].startswith("This is a session token")
    page = await stack.ask("GET", "/v1/connections", headers={"Authorization": f"Bearer {stack.secret}"})
    assert page.refusal == (401, "auth")
    assert page.document["error"]["message"].startswith("This is a secret key")
    assert stack.secret not in page.body.decode()
