"""Many faults at once for a while; afterwards the ledger must equal the sandbox's bill: `make soak` (SECONDS=600).

Two gateway processes before the sandbox, while callers hang up, upstream cuts, gateways are killed and started again,
payers revoke and reconnect, and the store fails: a Valkey (STORE=valkey) freezes, and is killed and started again; in a
Cluster (STORE=cluster) masters freeze, and slots move. Loopback only; a bounded load.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from gateway.errors import Unavailable
from sandbox.bill import Entry
from tests.clusters import MASTERS, ValkeyCluster
from tests.faults.process_forker import ROOT, ForkedGateway, ProcessForker
from tests.faults.world import FaultWorld, Sandbox, open_sandbox, open_world, variables
from tests.servers import ValkeyServer

CALLERS = 12
PAYERS = 8
# Uses of one-time grants: some grants are used up in a soak, some are not.
GRANTS = {"grant-a": 40, "grant-b": 40, "grant-c": 100_000}
NAMES = (*(f"payer-{number}" for number in range(PAYERS)), *GRANTS)
SLOW = "sandbox/slow-10"
MODELS = (
    "sandbox/echo",
    SLOW,
    "sandbox/usage-missing",
    "sandbox/usage-doubled",
    "sandbox/cost-missing",
    "sandbox/stream-error-billed",
    "sandbox/stream-error-usage",
    "sandbox/stream-error",
    "sandbox/no-id-header",
    "sandbox/split",
    "sandbox/cut",
    "sandbox/overrun",
    "sandbox/byok",
    "sandbox/abort-full",
    "sandbox/abort-free",
    "sandbox/error-502",
    "sandbox/error-429",
)
# A claim of a killed sweeper expires after 12 seconds.
QUIET_SECONDS = 60
# Canaries searched for in all files: neither prompts nor unsealed funding keys may be written.
PROMPT = "canary-prompt"
CANARIES = (PROMPT.encode(), FaultWorld.key("payer-").encode(), FaultWorld.key("grant-").encode(), b"gr_live_")
# The most between the admission of a request without an id and its generation's timestamp, in whole seconds.
TRAVEL_SECONDS = 5
# Longer than a freeze, so that no master of a Cluster fails over.
NODE_TIMEOUT_MS = 5000


@dataclass
class Soak:
    """The running parts of a soak, and its observations."""

    world: FaultWorld
    sandbox: Sandbox
    store: "ValkeyServer | ValkeyCluster"
    forker: ProcessForker
    environment: dict[str, str]
    chance: random.Random
    gateways: list[ForkedGateway] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the fault that acts on a server, because a killed one cannot be frozen."""

    async def call(self) -> None:
        """Send a request as a random payer through a random gateway, and possibly hang up during the answer."""
        chance = self.chance
        gateway = chance.choice(self.gateways)
        stream = chance.random() < 0.7
        body = {
            "model": chance.choice(MODELS),
            "stream": stream,
            "max_tokens": 200,
            "messages": [{"role": "user", "content": f"{PROMPT} " + "word " * chance.randint(1, 60)}],
        }
        leaves_after = chance.choice((None, None, 0, 300, 2000)) if stream else None
        payer = chance.choice(NAMES)
        try:
            async with asyncio.timeout(20), self.world.ask(gateway.url, payer, body) as answer:
                self.seen[str(answer.status)] += 1
                size = 0
                async for chunk in answer.content.iter_any():
                    size += len(chunk)
                    if leaves_after is not None and size > leaves_after:
                        self.seen["hung up"] += 1
                        answer.close()
                        break
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            self.seen["broken off"] += 1

    async def keep_calling(self) -> None:
        """Run one caller until the soak is over."""
        while not self.over.is_set():
            await self.call()

    async def pause(self, least: float, most: float) -> None:
        """Wait a random time between faults, at most until the soak is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.chance.uniform(least, most)):
                await self.over.wait()

    async def keep_killing(self) -> None:
        """Kill gateways with SIGKILL and start others in their place."""
        while not self.over.is_set():
            await self.pause(2, 6)
            place = self.chance.randrange(len(self.gateways))
            await self.gateways[place].kill()
            self.seen["killed"] += 1
            self.gateways[place] = await self.forker.start(self.environment)

    async def keep_freezing(self) -> None:
        """Freeze Redis, or one master of several, for a moment."""
        servers = [self.store] if isinstance(self.store, ValkeyServer) else self.store.nodes
        while not self.over.is_set():
            await self.pause(4, 9)
            async with self.turn:
                server = self.chance.choice(servers)
                server.freeze()
                self.seen["froze"] += 1
                await asyncio.sleep(self.chance.uniform(0.05, 0.8))
                server.thaw()

    async def keep_restarting(self, server: ValkeyServer) -> None:
        """Kill Redis and restart it a moment later with all acknowledged data."""
        while not self.over.is_set():
            await self.pause(6, 12)
            async with self.turn:
                server.kill()
                self.seen["restarted"] += 1
                await asyncio.sleep(self.chance.uniform(0, 0.5))
                await asyncio.to_thread(server.start)

    async def keep_moving(self, cluster: ValkeyCluster) -> None:
        """Migrate a payer's slot to another master, key by key."""
        while not self.over.is_set():
            await self.pause(1, 3)
            key = self.world.budget(f"payer-{self.chance.randrange(PAYERS)}").budget
            await asyncio.to_thread(_move_on, cluster, key)
            self.seen["moved"] += 1

    async def keep_revoking(self) -> None:
        """Revoke payers and connect them again."""
        while not self.over.is_set():
            await self.pause(0.5, 2)
            payer = f"payer-{self.chance.randrange(PAYERS)}"
            with contextlib.suppress(Unavailable):
                await self.world.services.connections.revoke(self.world.budget(payer))
                self.seen["revoked"] += 1
                await self.world.connect(payer, "50")

    async def run(self, seconds: float) -> None:
        """Run callers and faults for `seconds`, then drain."""
        self.gateways = [await self.forker.start(self.environment) for _ in range(2)]
        for number in range(PAYERS):
            await self.world.connect(f"payer-{number}", "50")
        for name, requests in GRANTS.items():
            await self.world.grant(name, requests, "50")
        fails = self.keep_restarting if isinstance(self.store, ValkeyServer) else self.keep_moving
        faults = (self.keep_killing(), self.keep_freezing(), self.keep_revoking(), fails(self.store))  # type: ignore[arg-type]
        async with asyncio.TaskGroup() as group:
            for work in (*faults, *(self.keep_calling() for _ in range(CALLERS))):
                group.create_task(work)
            await asyncio.sleep(seconds)
            self.over.set()
        for gateway in self.gateways:
            gateway.send(signal.SIGTERM)
            self.seen[f"exit {await gateway.ended()}"] += 1

    async def settle(self) -> list[str]:
        """Sweep until nothing is held; return the failures found."""
        for name in NAMES:
            await self.world.swept(name, seconds=QUIET_SECONDS)
        wrong = []
        for name in NAMES:
            wrong += await self.faults_of(name)
        for name, most in GRANTS.items():
            standing = await self.world.services.ledger.standing(self.world.budget(name))
            self.seen["uses"] += standing.used
            self.seen["used up"] += standing.used == most
            if standing.used > most or (standing.has_ended and standing.fields.get("funding")):
                wrong.append(f"{name}: used {standing.used} of {most}, or its key outlived it")
        return wrong

    def leaked(self) -> list[str]:
        """Return the logs and Redis files (append-only files contain every command) that contain a canary."""
        files = list(self.forker.folder.glob("*.log"))
        if isinstance(self.store, ValkeyServer):
            files += self.store.folder.rglob("*.aof")
        written = {file.name: file.read_bytes() for file in files}
        self.seen["files that name a payer"] = sum(b"payer-" in text or b'"user"' in text for text in written.values())
        return [f"{name} holds {canary!r}" for name, text in written.items() for canary in CANARIES if canary in text]

    def unequal(self) -> list[str]:
        """Return the differences between bill and ledger in nano-USD, except for estimates."""
        stated = self.seen["booked nano"] - self.seen["estimated nano"]
        billed = self.seen["billed nano"] - self.seen["billed nano of estimates"]
        return [] if stated == billed else [f"billed {billed}, booked {stated}"]

    async def faults_of(self, payer: str) -> list[str]:
        """Return the differences between one payer's ledger and bill, generation by generation."""
        books = await self.world.books(payer)
        for entry in books.entries:
            self.seen[f"ledger {entry['status']}"] += 1
        if not books.agree:
            totals = f"held {books.held_nano}, spent {books.spent_nano}, days {books.days_nano}, used {books.used}"
            return [f"{payer}: {totals}"]
        # A request's second entry corrects its first.
        ended = {entry["request_id"]: entry for entry in books.entries}.values()
        booked: Counter[str] = Counter()
        for entry in ended:
            booked[entry["generation_id"]] += int(entry["cost_nano"])
        # An estimate without an id covers one generation at most, of its model and time (docs/ledger.md, "one window").
        estimates = [entry for entry in ended if entry["status"] == "estimated" and not entry["generation_id"]]
        self.seen["estimated nano"] += sum(int(entry["cost_nano"]) for entry in estimates)
        del booked[""]
        wrong = []
        for generation in await self.sandbox.entries(self.world.key(payer)):
            name, model = generation.answer.generation_id or "", generation.answer.model
            self.seen["billed nano"] += generation.cost_nano
            booked_nano = booked.pop(name, None)
            if booked_nano is None and generation.cost_nano:
                stand_in = next((each for each in estimates if _may_be(each, generation)), None)
                if stand_in is None:
                    wrong.append(f"{payer}: {model} billed {generation.cost_nano}, booked nothing")
                else:
                    estimates.remove(stand_in)
                    self.seen["billed nano of estimates"] += generation.cost_nano
            elif booked_nano is not None and booked_nano != generation.cost_nano:
                wrong.append(f"{payer}: {model} billed {generation.cost_nano}, booked {booked_nano}")
        wrong += [f"{payer}: booked {nano} for {name}" for name, nano in booked.items() if nano]
        self.seen["booked nano"] += books.spent_nano
        return wrong


def _move_on(cluster: ValkeyCluster, key: str) -> None:
    cluster.move(key, (cluster.owner(key) + 1) % MASTERS)


def _may_be(estimate: dict[str, str], generation: Entry) -> bool:
    """Return whether an estimate can cover this generation."""
    answer = generation.answer
    waited = answer.created_seconds - int(estimate["admitted_ms"]) / 1000
    return estimate["model"] == answer.model and -1 <= waited <= TRAVEL_SECONDS


async def soak(seconds: float, folder: Path, seed: int, kind: str) -> tuple[Counter[str], list[str]]:
    """Run a soak on a store of this kind; return observations and failures."""
    store = (
        ValkeyCluster(replicas=False, node_timeout_ms=NODE_TIMEOUT_MS)
        if kind == "cluster"
        else ValkeyServer(durable=True)
    )
    with store:
        async with open_sandbox(SLOW, delay_ms=100) as sandbox, ProcessForker(folder) as forker:
            environment = variables(
                store.url,
                sandbox.url,
                WATTFARE_SWEEPER="on",
                WATTFARE_HOLD_SECONDS="3",
                WATTFARE_REDIS_DEADLINE_MS="75",
            )
            async with open_world({**environment, "WATTFARE_REDIS_DEADLINE_MS": "2000"}) as world:
                running = Soak(world, sandbox, store, forker, environment, random.Random(seed))
                await running.run(seconds)
                wrong = await running.settle()
                wrong += running.unequal() + running.leaked()
                wrong += await verified(environment)
                return running.seen, wrong


async def verified(environment: dict[str, str]) -> list[str]:
    """Return the differences found by `scripts.verify`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scripts.verify"),
        cwd=ROOT,
        env={**environment, "PATH": os.environ.get("PATH", "")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return [] if process.returncode == 0 else [f"verify: {output.decode()[-2000:]}"]


def main() -> None:
    """Soak for $SECONDS (600) on $STORE (valkey), with $SEED; exit 1 on any failure."""
    seconds = float(os.environ.get("SECONDS", "600"))
    seed = int(os.environ.get("SEED", str(int(time.time()))))
    kind = os.environ.get("STORE", "valkey")
    if kind not in ("valkey", "cluster"):
        sys.exit("STORE must be valkey or cluster.")
    print(f"soaking for {seconds:g} seconds with SEED={seed} STORE={kind}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        seen, wrong = asyncio.run(soak(seconds, Path(folder), seed, kind))
    print(json.dumps(dict(sorted(seen.items())), indent=2))
    for line in wrong:
        print("WRONG", line)
    asked = sum(count for name, count in seen.items() if name.isdigit())
    verdict = f"{len(wrong)} things are wrong" if wrong else "ledger and bill are equal, and nothing is held or leaked"
    print(f"{'FAILED' if wrong else 'OK'}: {verdict}, after {asked} answers (SEED={seed} STORE={kind}).")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
