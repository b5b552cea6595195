"""The Lua scripts called directly, on a real Valkey and beside it on fakeredis."""

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from gateway.keys import Budget
from gateway.ledger.admission import constants
from gateway.ledger.pace import Pace
from gateway.ledger.record import CLOSED, OPEN, read_entry
from gateway.payers.connections import change_keys
from gateway.store import scripts

BUDGET = Budget.of_user("live", "app2222222222222222", "ada")
FUNDING = "sealed"
KEEP_DAYS = 90
DAY_MS = 86_400_000
LEASE_MS = 60_000
TRIAL_MS = 5_000

# Redis 7.2.0 to 7.2.4 and Valkey 7.2.5 give a command a Lua number such as 300000000 as "3e+8", which is no integer.
PRINTS_EXPONENTS = """
local redis = setmetatable({call = function(...)
  local words = {...}
  for i, word in ipairs(words) do
    if type(word) == 'number' and word ~= 0 and word % 1e8 == 0 then words[i] = string.format('%.9e', word) end
  end
  return redis.call(unpack(words))
end}, {__index = redis})
"""


class DirectRedis(Protocol):
    """What these tests need of a Redis client: of redis-py's, or of fakeredis's beside it."""

    def execute_command(self, *args: Any) -> Any: ...

    def pubsub(self, *, ignore_subscribe_messages: bool) -> Any: ...


class Scripts:
    """Runs scripts by name and commands by theirs; answers come as bytes and ints, as the gateway gets them."""

    def __init__(self, client: DirectRedis, *, prints_exponents: bool = False) -> None:
        self.call = client.execute_command
        self._client = client
        self.admitted: dict[str, bytes] = {}
        start = PRINTS_EXPONENTS if prints_exponents else ""
        self._texts = {name: start + script.text for name, script in scripts.load().items()}

    def run(self, script: str, keys: Sequence[str], *args: str | int | bytes, constants: str = "") -> Any:
        return self.call("EVAL", constants + self._texts[script], len(keys), *keys, *args)

    def listening(self, channel: str) -> Callable[[], str]:
        """Subscribe to a channel; each call of the result returns the next message."""
        heard = self._client.pubsub(ignore_subscribe_messages=True)
        heard.subscribe(channel)

        def said() -> str:
            for _ in range(100):
                if (message := heard.get_message(timeout=0.1)) is not None:
                    word: str = message["data"].decode()
                    return word
            raise AssertionError("nothing was said")

        return said

    # -- the ledger's scripts with the arguments that a test leaves out ------------------------------------

    def connect(self, cap: str | int = 1000, *, funding: str = FUNDING) -> int:
        return self.approve(cap, funding, "", "", "account", "", secrets.token_hex(4), "operator", "", "")

    def approve(self, *args: str | int) -> int:
        version: int = self.run("connect", change_keys(BUDGET), *args)
        return version

    def change(self, verb: str, cap: int | str = "", by: str = "payer") -> int:
        code: int = self.run("change", change_keys(BUDGET), verb, cap, by)
        return code

    def admit(
        self,
        request_id: str,
        worst: int | str,
        *,
        fixed: int = 0,
        per_token: str = "0",
        min_tokens: int | str = 0,
        usual_tokens: int = 10**6,
        expected: tuple[int, int, str] | None = None,
        has_terms: bool = True,
        channel: str = "",
        place: int | str = "",
        funded: bool = True,
        lease_ms: int = LEASE_MS,
    ) -> list[Any]:
        """Run admit.lua. `expected`: total, fixed and per-token amount; None: equal to the bound."""
        total, its_fixed, its_per_token = expected or (worst, fixed, per_token)
        terms = f"{int(expected is not None)} {total} {its_fixed} {its_per_token} {min_tokens} {usual_tokens}"
        said = f"{terms} {fixed} {per_token}" if has_terms and worst != "" else ""
        asked = f"{place} {said}" if place or said else ""
        found = self.told(request_id, worst, asked, channel, funded=funded, lease_ms=lease_ms)
        _, *flags, admitted, key = found.split(b" ", 5)
        lines = admitted.split(b"\n")
        overdue, cap, held = map(int, flags)
        hold, code, max_tokens, spent = (int(lines[number]) for number in (0, 4, 5, 6))
        due_ms = 0
        if code >= 0:
            self.admitted[request_id] = admitted
            due_ms = int(lines[2]) + lease_ms
            held = int(self.budget()["held_nano"])
        return [code, hold, max_tokens, spent, held, cap, key, overdue, due_ms]

    def told(
        self,
        request_id: str,
        worst: int | str,
        asked: str = "",
        channel: str = "",
        *,
        funded: bool = True,
        lease_ms: int = LEASE_MS,
    ) -> bytes:
        """Return the reply of admit.lua, asked as briefly as `holds.admit` does it."""
        names = [BUDGET.budget, BUDGET.due, BUDGET.hold(request_id), BUDGET.days, BUDGET.queue, BUDGET.alive]
        mode, pace = "live" if funded else "test", Pace(10_000, 60_000)
        settings = constants(pace, lease_ms=lease_ms, keep_days=KEEP_DAYS, trial_ms=TRIAL_MS, mode=mode)
        words = (request_id, worst, 7, "m")
        stored = self.dump()
        reply: bytes = b"" if asked else self.run("admit", names[:3], *words, constants=settings)
        assert reply or self.dump() == stored
        return reply or self.run("admit", names, *words, asked, channel, constants=settings)

    def settle(
        self, request_id: str, status: str, cost: int = 0, *, funding: str = "", generation: str = "", model: str = ""
    ) -> list[Any]:
        """With generation and model, as a process does it that remembers the admission."""
        admitted = self.admitted.get(request_id, b"") if generation and model else b""
        names = [BUDGET.budget, BUDGET.days, BUDGET.due, BUDGET.ledger, BUDGET.queue, BUDGET.events]
        names.append(BUDGET.hold(request_id))
        ending = f"{status}\n{generation}\ncomplete\n{model}"
        known = (request_id, KEEP_DAYS * DAY_MS, ending, cost, " ", _verdict(funding), admitted)
        code, *first, overrun = self.run("settle", names, *known).split()
        said, nano = first or (status.encode(), 0 if status == "void" else cost)
        return [int(code), said, int(nano), int(overrun)]

    def attach(
        self,
        request_id: str,
        *,
        generation: str = "",
        estimate: int | str = "",
        due_ms: int | str = "",
        attempt: int = 0,
        ended: str = "",
        funding: str = "",
    ) -> list[int]:
        names = [BUDGET.hold(request_id), BUDGET.due, BUDGET.budget, BUDGET.events]
        known = (generation, request_id, estimate, due_ms, attempt, ended, _verdict(funding))
        return [int(each) for each in self.run("attach", names, *known).split()]

    def note_id(self, request_id: str, generation: str) -> list[int]:
        """As `holds.post_generation` writes it down."""
        found = self.run("attach", [BUDGET.hold(request_id)], generation)
        return [int(each) for each in found.split()]

    def sent(self, request_id: str, due_ms: int) -> None:
        """As `holds.post_sent` marks it."""
        self.call("ZADD", BUDGET.due, "XX", f"{due_ms}.5", request_id)

    # -- what Redis holds ------------------------------------------------------------------------------------

    def fields(self, key: str) -> dict[str, str]:
        flat = self.call("HGETALL", key)
        # redis-py answers with a mapping, fakeredis's raw reply may be a list.
        pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
        return {name.decode(): value.decode() for name, value in pairs}

    def budget(self) -> dict[str, str]:
        return self.fields(BUDGET.budget)

    def hold(self, request_id: str) -> dict[str, str]:
        return lines(self.call("GET", BUDGET.hold(request_id)))

    def change_hold(self, request_id: str, **changed: str | int) -> None:
        """Write other lines into a hold."""
        name = BUDGET.hold(request_id)
        self.call("SET", name, rewritten(self.call("GET", name), **changed), "KEEPTTL")

    def days(self) -> list[int]:
        return sorted(int(nano) for nano in self.fields(BUDGET.days).values())

    def due(self) -> dict[str, float]:
        flat = self.call("ZRANGE", BUDGET.due, 0, -1, "WITHSCORES")
        pairs = flat if flat and isinstance(flat[0], (tuple, list)) else zip(flat[::2], flat[1::2], strict=True)
        return {name.decode(): float(score) for name, score in pairs}

    def receipts(self) -> list[dict[str, str]]:
        return self.stream(BUDGET.history)

    def entries(self) -> list[dict[str, str]]:
        found = self.call("XRANGE", BUDGET.ledger, "-", "+")
        return [read_entry(name, dict(_pairs(fields))) for name, fields in found]

    def stream(self, key: str) -> list[dict[str, str]]:
        """The entries of a stream."""
        found = self.call("XRANGE", key, "-", "+")
        return [{name.decode(): value.decode() for name, value in _pairs(fields)} for _, fields in found]

    def now_ms(self) -> int:
        found = self.call("TIME")
        return int(found[0]) * 1000 + int(found[1]) // 1000

    def dump(self) -> dict[str, object]:
        """All that is stored, to see that a repeat changed nothing."""
        read = {b"hash": "HGETALL", b"string": "GET", b"set": "SMEMBERS"}
        found: dict[str, object] = {}
        for key in sorted(self.call("KEYS", "*")):
            kind = self.call("TYPE", key)
            kind = kind if isinstance(kind, bytes) else str(kind).encode()
            if kind in read:
                found[key.decode()] = self.call(read[kind], key)
            elif kind == b"zset":
                found[key.decode()] = self.call("ZRANGE", key, 0, -1, "WITHSCORES")
            else:
                found[key.decode()] = self.call("XRANGE", key, "-", "+")
        return found


def _verdict(funding: str) -> str:
    return f"refused {TRIAL_MS}" if funding == "refused" else funding


def lines(raw: bytes) -> dict[str, str]:
    """The lines of a hold by name."""
    names = OPEN if raw.startswith(b"open\n") else CLOSED
    found = raw.decode("latin-1").split("\n", len(names) - 1)
    return dict(zip(names, found, strict=True))


def rewritten(raw: bytes, **changed: str | int) -> bytes:
    """A hold with some of its lines changed, by name."""
    return "\n".join(str(line) for line in (lines(raw) | changed).values()).encode("latin-1")


def _pairs(fields: Any) -> Any:
    return fields.items() if isinstance(fields, dict) else zip(fields[::2], fields[1::2], strict=True)
