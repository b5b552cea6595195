"""What the demo reads from the environment."""

from pathlib import Path

import pytest

from demo.settings import read_settings


def test_an_empty_environment_is_the_local_one() -> None:
    """Without a variable it serves on 127.0.0.1:8083 and finds its neighbours at their usual ports."""
    settings = read_settings({})
    assert settings.origin == "http://127.0.0.1:8083"
    assert (settings.gateway_url, settings.consent_url) == ("http://127.0.0.1:8080", "http://127.0.0.1:8081")
    assert settings.keys_file == Path(".wattfare/demo.json")


def test_its_keys_lie_beside_the_data() -> None:
    """The data folder contains the app's keys, so deleting the data deletes them too."""
    assert read_settings({"WATTFARE_DATA_DIR": "/data"}).keys_file == Path("/data/demo.json")


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "x"), ("PORT", "0"), ("PORT", "99999"), ("WATTFARE_PUBLIC_URL", "localhost")]
)
def test_a_malformed_value_names_its_variable(name: str, value: str) -> None:
    """The start fails with one line that names the variable."""
    with pytest.raises(ValueError, match=name):
        read_settings({name: value})


def test_the_models_of_the_sandbox_are_offered_before_a_sandbox_alone() -> None:
    """The real OpenRouter has none of them."""
    assert read_settings({"OPENROUTER_BASE_URL": "http://127.0.0.1:8082"}).is_sandbox
    assert not read_settings({}).is_sandbox
    settings = read_settings({"DEMO_MODEL": "acme/one"})
    assert [settings.model_for(asked) for asked in ("sandbox/slow", "openai/gpt-5", None)] == [
        "sandbox/slow", "acme/one", "acme/one"]  # fmt: skip
