"""The cost of metering a stream in nanoseconds per chunk, by payload size: `python -m benchmarks.sse_scan`.

The envelope is that of the recorded streams of 2026: one event a chunk, one token an event, usage in the last.
"""

import json
import time

from gateway.openrouter.dialects import WIRE, Dialect
from gateway.openrouter.sse import SseScanner

CHUNKS = 2000
ROUNDS = 15
TOKEN_BYTES = (4, 64, 512, 4096, 32_768)


def stream(token_bytes: int, count: int) -> list[bytes]:
    """Return `count` chunks of one event each, then the usage chunk and the terminator."""
    identity = {
        "id": "gen-1780944361-X5HAtL0Z2NQp8nHAiT6F",
        "object": "chat.completion.chunk",
        "created": 1780944361,
        "model": "anthropic/claude-4.5-haiku-20251001",
        "provider": "Amazon Bedrock",
    }
    choice = {"index": 0, "delta": {"content": "x" * token_bytes, "role": "assistant"}, "finish_reason": None}
    usage = {"prompt_tokens": 15, "completion_tokens": count, "cost": 0.00006, "is_byok": False}
    event = json.dumps({**identity, "choices": [choice]}, separators=(",", ":"))
    last = json.dumps({**identity, "choices": [], "usage": usage}, separators=(",", ":"))
    return [f"data: {event}\n\n".encode()] * count + [f"data: {last}\n\n".encode(), b"data: [DONE]\n\n"]


def nanoseconds_per_chunk(chunks: list[bytes]) -> float:
    """Return the best of ROUNDS, since noise of the machine only adds time."""
    best = float("inf")
    for _ in range(ROUNDS):
        scanner = SseScanner(WIRE[Dialect.CHAT])
        start = time.perf_counter_ns()
        for chunk in chunks:
            scanner.feed(chunk)
        scanner.finish()
        best = min(best, time.perf_counter_ns() - start)
    return best / len(chunks)


def main() -> None:
    """Print one line for each payload size."""
    print(f"{'payload bytes':>14}{'ns/chunk':>10}{'ns/byte':>10}")
    for token_bytes in TOKEN_BYTES:
        chunks = stream(token_bytes, CHUNKS)
        size = len(chunks[0])
        cost = nanoseconds_per_chunk(chunks)
        print(f"{size:>14}{cost:>10.0f}{cost / size:>10.3f}")
    halves = [part for chunk in stream(4, CHUNKS) for part in (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :])]
    print(f"{'halved events':>14}{nanoseconds_per_chunk(halves):>10.0f}")


if __name__ == "__main__":
    main()
