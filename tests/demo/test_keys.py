"""The demo's app: registered once, kept for its owner alone."""

import dataclasses
from pathlib import Path

import pytest

from demo.keys import AppKeys, NoKeysError, load_keys
from demo.settings import DemoSettings, read_settings


@pytest.fixture
def settings(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> DemoSettings:
    """Settings on a store of the test's own."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("WATTFARE_DATA_DIR", str(tmp_path))
    return read_settings({"WATTFARE_DATA_DIR": str(tmp_path)})


def test_the_app_is_registered_once(settings: DemoSettings) -> None:
    """The second start finds the keys of the first; a start at another address registers anew."""
    first = load_keys(settings)
    assert first.publishable.startswith("pk_live_")
    assert load_keys(settings) == first
    assert load_keys(dataclasses.replace(settings, port=9999)) != first


def test_nobody_else_reads_the_secret(settings: DemoSettings) -> None:
    """The file's mode is its owner's alone, and no repr shows the secret."""
    keys = load_keys(settings)
    assert settings.keys_file.stat().st_mode & 0o077 == 0
    assert keys.secret not in repr(keys)
    assert isinstance(keys, AppKeys)


def test_without_a_store_it_says_why(settings: DemoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registration that fails is one error with the command's own reason."""
    monkeypatch.setenv("REDIS_URL", "nonsense")
    with pytest.raises(NoKeysError, match="REDIS_URL"):
        load_keys(settings)
