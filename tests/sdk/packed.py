"""The JavaScript package as npm packs it, installed in an empty project, with what it is tried with beside it."""

import asyncio
import json
import os
import subprocess
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "sdk/js"
NODE = str(Path(sys.executable).parent / "node")
NPM = str(Path(sys.executable).parent / "npm")
NODE_SECONDS = 60


def install(folder: Path) -> Path:
    """Pack the package, install the tarball in an empty project below `folder`, and return that project.

    Its neighbours (the AI SDK, React …) are links to those of the lock, so that nothing is fetched.
    """
    run(NPM, "pack", "--silent", "--pack-destination", str(folder), cwd=PACKAGE)
    [tarball] = folder.glob("wattfare-*.tgz")
    project = folder / "project"
    project.mkdir()
    (project / "package.json").write_text(json.dumps({"name": "an-app", "type": "module", "private": True}))
    options = ("--offline", "--silent", "--no-audit", "--no-fund", "--legacy-peer-deps")
    run(NPM, "install", *options, str(tarball), cwd=project)
    for source in (ROOT / "node_modules").resolve().glob("[!.]*"):
        _link(source, project / "node_modules" / source.name)
    return project


def _link(source: Path, target: Path) -> None:
    if not target.exists():
        target.symlink_to(source, target_is_directory=True)


def run(*command: str, cwd: Path) -> str:
    """Run a command that must succeed; return what it printed."""
    path = f"{Path(NODE).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def node(project: Path, *arguments: str, **environ: str) -> str:
    """Run Node in the project while this process serves; it must succeed. Return what it printed."""
    process = await asyncio.create_subprocess_exec(
        NODE, *arguments, cwd=project, env={**os.environ, **environ}, stdout=PIPE, stderr=STDOUT
    )
    async with asyncio.timeout(NODE_SECONDS):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()
