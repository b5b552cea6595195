"""Check a deployment and say what to mend: `python -m scripts.doctor [--json] [--before-start]`. Exits 1 on a fault.

Run it with the environment of the services, where Redis and the public URLs are reachable. `--before-start` checks only
the settings and Redis, for a release that is not running yet.
"""

import argparse
from collections.abc import Iterator, Mapping

from gateway.errors import WattfareError
from gateway.services import Services
from scripts import doctor_public, doctor_store
from scripts.command import Answer, run
from scripts.findings import Check, Finding

BEFORE_START: tuple[Check, ...] = (doctor_store.servers, doctor_store.clock, doctor_store.rings)
RUNNING: tuple[Check, ...] = (
    *BEFORE_START,
    doctor_store.apps,
    doctor_store.prices,
    doctor_store.sweeper,
    doctor_store.webhooks,
    doctor_public.openrouter,
    doctor_public.names,
    doctor_public.services_answer,
    doctor_public.stream,
)


async def doctor(services: Services, arguments: argparse.Namespace) -> Mapping[str, object]:
    """Return every finding; checks that need Redis are skipped when it is away."""
    found = [finding async for finding in doctor_store.store(services)]
    if not any(finding.is_fault for finding in found):
        for check in BEFORE_START if arguments.before_start else RUNNING:
            found += await _run_check(check, services)
    elif not arguments.before_start:
        for check in (doctor_public.openrouter, doctor_public.names):
            found += await _run_check(check, services)
    rows = [{"check": each.what, "ok": not each.is_fault, "said": each.result, "mend": each.mend} for each in found]
    return {"ok": not any(each.is_fault for each in found), "checks": rows}


async def _run_check(check: Check, services: Services) -> list[Finding]:
    found: list[Finding] = []
    try:
        async for finding in check(services):
            found.append(finding)  # noqa: PERF401 - keeps the findings made before an exception
    except WattfareError as broken:
        found.append(Finding(check.__name__, broken.message, "see whether Redis is there, and run this again"))
    return found


def _shown(answer: Answer, _: argparse.Namespace) -> Iterator[str]:
    for row in answer["checks"]:
        yield f"{'ok   ' if row['ok'] else 'FAULT'}  {row['check']}: {row['said']}"
        if not row["ok"]:
            yield f"       {row['mend']}"
    faults = sum(not row["ok"] for row in answer["checks"])
    yield f"{faults} to mend." if faults else "All is well."


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="doctor", description="Check a deployment and say what to mend.")
    parser.add_argument("--before-start", action="store_true", help="settings and Redis alone")
    run(parser, doctor, despite_doubt=True, show=_shown)
