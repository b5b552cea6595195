"""Settings of commands: ports of `make run`, the store beside it, which service `web` is."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.environment import SettingsError
from scripts.settings import ROOT, RunSettings, command_environment, service_to_serve
from scripts.shared_run import publish_run, read_run
from tests.gateway.process import command, environment


def test_the_ports_decide_what_each_process_is_told() -> None:
    """Changing the gateway's port also changes its URL for the others, unless that is set explicitly."""
    settings = RunSettings.load({"GATEWAY_PORT": "18080", "WATTFARE_CONSENT_URL": "http://127.0.0.1:7"})
    assert settings.ports["GATEWAY_PORT"] == 18080
    assert settings.environ["WATTFARE_PUBLIC_URL"] == "http://127.0.0.1:18080"
    assert settings.environ["WATTFARE_CONSENT_URL"] == "http://127.0.0.1:7"
    assert settings.environ["OPENROUTER_BASE_URL"] == "http://127.0.0.1:8082"
    assert settings.environ["WATTFARE_LOG_FORMAT"] == "json"
    assert RunSettings.load({}, is_terminal=True).environ["WATTFARE_LOG_FORMAT"] == "text"


@pytest.mark.parametrize("environ", [{"DEMO_PORT": "http"}, {"DEMO_PORT": "8080"}, {"GATEWAY_PORT": "0"}], ids=str)
def test_a_port_that_cannot_be_names_its_variable(environ: dict[str, str]) -> None:
    """The same for two services is none either."""
    with pytest.raises(SettingsError, match=next(iter(environ))):
        RunSettings.load(environ)


def test_a_command_shares_what_make_run_has_while_it_runs(tmp_path: Path) -> None:
    """Its own variables win; afterwards, and from what a killed one left, nothing is taken."""
    running = {"OPENROUTER_BASE_URL": "http://127.0.0.1:9", "REDIS_URL": "redis://h", "HOME": "/nobody"}
    mine = {"WATTFARE_DATA_DIR": str(tmp_path), "REDIS_URL": "redis://other"}
    with publish_run(tmp_path, running):
        assert read_run(tmp_path) == {"OPENROUTER_BASE_URL": "http://127.0.0.1:9", "REDIS_URL": "redis://h"}
        seen = command_environment(mine)
        assert (seen["OPENROUTER_BASE_URL"], seen["REDIS_URL"]) == ("http://127.0.0.1:9", "redis://other")
        assert command_environment({**mine, "WATTFARE_ENV": "production"})["REDIS_URL"] == "redis://other"
        assert (tmp_path / "run.json").stat().st_mode & 0o077 == 0
        with publish_run(tmp_path, {"OPENROUTER_BASE_URL": "http://127.0.0.1:10"}):
            assert read_run(tmp_path)["OPENROUTER_BASE_URL"] == "http://127.0.0.1:9"
    assert read_run(tmp_path) == {}


async def test_a_command_in_another_folder_begins_no_store_of_its_own(tmp_path: Path) -> None:
    """The error says where to run it, and the folder is unchanged; a store that is named is created."""
    variables = {name: value for name, value in environment().items() if name != "WATTFARE_DATA_DIR"}
    code, out, errors = await command("scripts.list_apps", variables=variables, cwd=tmp_path)
    assert (code, out, errors.count("\n")) == (1, "", 1)
    assert errors.startswith("list_apps: WATTFARE_DATA_DIR is not set and there is no store in ")
    assert list(tmp_path.iterdir()) == []
    code, _, _ = await command(
        "scripts.list_apps", variables={**variables, "WATTFARE_DATA_DIR": str(tmp_path / "data")}, cwd=tmp_path
    )
    assert code == 0


@pytest.mark.parametrize("value", ["", "web", "consent_web"])
def test_web_is_one_of_two_or_nothing(value: str) -> None:
    """A slug that guessed would serve the wrong one under somebody's name."""
    assert service_to_serve({"WATTFARE_SERVICE": "gateway"}) == "gateway"
    with pytest.raises(SettingsError, match=r"^WATTFARE_SERVICE must be gateway or consent"):
        service_to_serve({"WATTFARE_SERVICE": value})


def test_the_procfile_names_commands_that_are_there() -> None:
    """`web`, `worker` and `release` import, and none of them sets a port: the platform does."""
    lines = [line for line in (ROOT / "Procfile").read_text().splitlines() if line and not line.startswith("#")]
    commands = dict(line.split(": ", 1) for line in lines)
    assert set(commands) == {"web", "worker", "release"}
    assert not any("PORT=" in command or "sandbox" in command or "demo" in command for command in commands.values())
    modules = [command.partition("-m ")[2].split()[0] for command in commands.values()]
    found = f"import importlib.util as u, sys; sys.exit(not all(u.find_spec(m) for m in {modules!r}))"
    assert subprocess.run([sys.executable, "-c", found], cwd=ROOT, check=False).returncode == 0
