"""`make bench`: nginx, nginx + Lua and the gateway side by side; prints, and writes JSON and the README's table.

The service under test has one core for itself; load, upstream and Redis share another. Only ratios of one run mean
anything. Ends with 1 when an answer was not the one due, or when what was booked is not what upstream served.
"""

import contextlib
import datetime as dt
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.proxy.bench import Bench, compare_bytes, open_installations
from benchmarks.proxy.checkout import HERE
from benchmarks.proxy.limits import limits
from benchmarks.proxy.nginx import version
from benchmarks.proxy.options import Options
from benchmarks.proxy.processes import BenchFailed, Cores
from benchmarks.proxy.results import Result, disturbed, readme_table, report, with_table
from benchmarks.proxy.rows import ROWS
from benchmarks.proxy.stand_in import stand_in

_FILES = 16_000


def main() -> None:
    """Run the rows chosen by the environment."""
    try:
        options = Options.load()
        about = _about(options)
        print(_line(about), flush=True)
        results = run(options)
    except BenchFailed as failed:
        sys.exit(f"bench: {failed}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    document = {**about, "results": [result.as_json() for result in results]}
    options.out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    for warning in disturbed(results):
        print(warning)
    table = readme_table(results, _line(about))
    print(f"\n{table}\n\nwritten to {options.out}")
    if options.writes_readme:
        readme = HERE / "README.md"
        readme.write_text(with_table(readme.read_text(), table))


def run(options: Options) -> list[Result]:
    """Measure every chosen row, then compare each ledger with upstream's counts. Raises BenchFailed."""
    results: list[Result] = []
    with _opened(options) as bench:
        for name in options.rows:
            started = time.monotonic()
            found = ROWS[name](bench)
            results += found
            print(report(found), f"\n  ({name}: {time.monotonic() - started:.0f} s)", flush=True)
        bench.limits.lua.check()
        for installation in bench.installations:
            installation.check()
    return results


@contextlib.contextmanager
def _opened(options: Options) -> Iterator[Bench]:
    cores = _cores()
    # This process must not disturb the service under test either.
    os.sched_setaffinity(0, {cores.other})
    _allow_files()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wf-bench-")))
        upstream = stack.enter_context(stand_in(folder, core=cores.other))
        both = stack.enter_context(limits(folder, upstream=upstream, cores=cores))
        for contender in (both.bare, both.lua, both.bare_tls, both.lua_tls):
            compare_bytes(contender, upstream)
        installations = stack.enter_context(open_installations(options, folder=folder, upstream=upstream, cores=cores))
        yield Bench(options, folder, cores, upstream, both, installations)


def _cores() -> Cores:
    if not hasattr(os, "sched_setaffinity"):
        raise BenchFailed("needs Linux: a process is pinned to a core, and its CPU time is read from /proc.")
    found = sorted(os.sched_getaffinity(0))
    if len(found) < 2:
        raise BenchFailed("needs two cores: one for the service under test, one for all else.")
    return Cores(found[0], found[1])


def _allow_files() -> None:
    """Raise the limit of open files for this process and its children to twice what five thousand streams need."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < _FILES:
        raise BenchFailed(f"needs {_FILES} open files, and {most} are allowed: ulimit -n {_FILES}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, most))


def _about(options: Options) -> dict[str, object]:
    return {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": _commit(HERE),
        "other_commit": _commit(options.other) if options.other else None,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "nginx": version(),
        "seconds": options.seconds,
        "rounds": options.rounds,
    }


def _line(about: Mapping[str, object]) -> str:
    return (
        f"Commit {about['commit']}, {str(about['at'])[:10]}, {about['processor']}, {about['cores']} cores, "
        f"Python {about['python']}, {about['nginx']}; medians of {about['rounds']} stretches of {about['seconds']} s."
    )


def _commit(root: Path) -> str:
    command: Sequence[str] = ("git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
