"""What the tests of the scanners share: bodies read at once or in pieces, and all that was found in them."""

from itertools import pairwise

from gateway.openrouter.dialects import WIRE, Dialect
from gateway.openrouter.json_body import JsonScanner
from gateway.openrouter.scanner import Scanner
from gateway.openrouter.sse import SseScanner
from gateway.openrouter.usage import Usage

CHAT = WIRE[Dialect.CHAT]
COSTS = b'{"usage":{"prompt_tokens":3,"completion_tokens":4,"cost":0.5,"is_byok":false}}'
HALF_A_DOLLAR = Usage(500_000_000, 3, 4, is_byok=False)


def scanned(*chunks: bytes, most: int = 4096) -> SseScanner:
    scanner = SseScanner(CHAT, max_event_bytes=most)
    for chunk in chunks:
        scanner.feed(chunk)
    scanner.finish()
    return scanner


def read_json(*chunks: bytes) -> JsonScanner:
    scanner = JsonScanner(CHAT)
    for chunk in chunks:
        scanner.feed(chunk)
    scanner.finish()
    return scanner


def facts(scanner: Scanner) -> tuple[object, ...]:
    return (
        scanner.usage,
        scanner.generation_id,
        scanner.errors,
        scanner.done,
        scanner.has_work,
        scanner.is_outdone,
        scanner.payload_bytes,
        scanner.completion_bytes,
    )


def pieces(body: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [body[start:end] for start, end in pairwise(edges)]
