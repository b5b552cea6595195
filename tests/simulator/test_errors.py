"""Each status that a model fails with has a name of both kinds."""

from simulator.errors import code_name, type_name


def test_a_status_has_two_names() -> None:
    """OpenRouter's and Anthropic's; what is in no list is the server's fault."""
    assert (code_name(402), type_name(402)) == ("payment_required", "billing_error")
    assert (code_name(418), type_name(418)) == ("server_error", "api_error")
