"""The packed JavaScript package: linters, and its server half against a running gateway."""

import json
import re
import shutil
from pathlib import Path

from tests.gateway.stack import Stack
from tests.sdk.packed import NODE, PACKAGE, ROOT, node, run

HERE = Path(__file__).parent


def bring(project: Path, name: str) -> str:
    """Copy a script of this folder into the project, as packages are looked up from where a file lies."""
    shutil.copy(HERE / name, project / name)
    return name


async def test_linters_find_nothing(project: Path) -> None:
    """Publint in strict mode; arethetypeswrong for every way to resolve an ES module."""
    [tarball] = project.parent.glob("wattfare-*.tgz")
    assert await node(project, bring(project, "package.test.mjs"), str(tarball)) == ""


async def test_the_server_half_does_what_it_says(project: Path, sandboxed: Stack) -> None:
    """All of server.test.mjs passes: the AI SDK, OpenAI's and Anthropic's libraries, sessions, errors."""
    await sandboxed.connect("0.0000001", user="poor", key="sk-or-v1-poor")
    grant = await sandboxed.grant(requests=2)
    secrets = {"SECRET": sandboxed.secret, "TEST_SECRET": sandboxed.test_secret, "GRANT": grant}
    await node(project, "--test", bring(project, "server.test.mjs"), GATEWAY=sandboxed.url, **secrets)


def test_the_server_half_runs_at_the_edge() -> None:
    """Nothing of Node: no `node:` import, no `process`, no `Buffer`."""
    for name in ("server.js", "client.js"):
        assert not re.search(r"node:|\bprocess\.|\bBuffer\b|\brequire\(", (PACKAGE / name).read_text())


def test_the_types_by_hand_are_those_of_the_code(tmp_path: Path) -> None:
    """server.d.ts and react.d.ts, and what TypeScript derives from the code, can stand for each other."""
    source, read = tmp_path / "source", tmp_path / "read"
    source.mkdir()
    (source / "package.json").write_text('{"type": "module"}')
    shutil.copy(PACKAGE / "client.d.ts", source)
    for name in ("server", "react"):
        # The code is read without its .d.ts beside it, which would stand in for it.
        written = f"written-{name}"
        shutil.copy(PACKAGE / f"{name}.d.ts", source / f"{written}.d.ts")
        code = (PACKAGE / f"{name}.js").read_text()
        (source / f"{name}.js").write_text(code.replace(f"'./{name}.js'", f"'./{written}.js'"))
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    emit = {"noEmit": False, "declaration": True, "emitDeclarationOnly": True, "outDir": str(read)}
    compile_with(tmp_path, {**emit, "rootDir": str(source)}, "source/server.js", "source/react.js")
    for found in source.glob("*.d.ts"):
        shutil.copy(found, read)
    shutil.copy(HERE / "types_agree_package.ts", tmp_path)
    paths = {f"#read/{name}": [str(read / f"{name}.d.ts")] for name in ("server", "react")}
    paths |= {f"#written/{name}": [str(source / f"written-{name}.d.ts")] for name in ("server", "react")}
    compile_with(tmp_path, {"paths": paths}, "types_agree_package.ts")


def compile_with(folder: Path, options: dict[str, object], *files: str) -> None:
    settings = {"extends": str(ROOT / "tsconfig.json"), "compilerOptions": options, "files": files, "include": []}
    (folder / "tsconfig.json").write_text(json.dumps(settings))
    run(NODE, str(ROOT / "node_modules/typescript/bin/tsc"), "--project", "tsconfig.json", cwd=folder)
