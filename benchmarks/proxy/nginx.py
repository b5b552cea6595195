"""Runs nginx with a configuration from a template of this folder."""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.proxy.processes import BenchFailed, family, running, wait_until_listening

_HERE = Path(__file__).parent
# The order matters: the Lua module depends on the other one.
_MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")
_TEMP_PATHS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_HOLE = re.compile("@([A-Z_]+)@")


@contextlib.contextmanager
def nginx(template: str, values: Mapping[str, object], *, folder: Path, core: int, port: int) -> Iterator[list[int]]:
    """Yield the process ids of an nginx running `template` (a .conf of this folder), filled with `values`."""
    log = folder / f"{template}.out"
    config = folder / f"{template}.conf"
    config.write_text(_filled((_HERE / f"{template}.conf").read_text(), {**values, **_own_values(folder)}))
    for script in _HERE.glob("*.lua"):
        shutil.copy(script, folder)
    directives = "daemon off;" + (" user root;" if os.getuid() == 0 else "")
    command = [_binary(), "-p", str(folder), "-c", str(config), "-e", str(log), "-g", directives]
    with running(command, core=core, log=log) as process:
        wait_until_listening(port, process, log)
        yield family(process.pid)


def version() -> str:
    """Return nginx's name and version. Raises BenchFailed."""
    output = subprocess.run([_binary(), "-v"], capture_output=True, text=True, check=True).stderr
    return output.strip().rpartition(": ")[2].replace("/", " ")


def complaints(template: str, folder: Path) -> str:
    """Return the content of an nginx's error log."""
    log = folder / f"{template}.log"
    return log.read_text(errors="replace") if log.exists() else ""


def _filled(text: str, values: Mapping[str, object]) -> str:
    return _HOLE.sub(lambda hole: str(values[hole[1]]), text)


def _own_values(folder: Path) -> dict[str, object]:
    output = subprocess.run([_binary(), "-V"], capture_output=True, text=True, check=True).stderr
    where = re.search(r"--modules-path=(\S+)", output)
    modules = [Path(where[1], name) for name in _MODULES] if where else []
    return {
        "FOLDER": folder,
        # An nginx with built-in Lua (OpenResty) has no module file.
        "MODULES": "\n".join(f"load_module {module};" for module in modules if module.exists()),
        "TEMP_PATHS": "\n  ".join(f"{name}_temp_path {folder}/{name};" for name in _TEMP_PATHS),
    }


def _binary() -> str:
    # Debian installs it in /usr/sbin, which is not in a user's PATH.
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise BenchFailed("nginx is missing: make bench installs it as root, else install nginx with its Lua module.")
    return found
