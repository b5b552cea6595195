"""Samples of each dialect's stream and document, and reported unusual answers: the bytes, and the expected booking."""

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import brotli

from gateway.openrouter.dialects import Dialect
from tests.fakes import MODEL

COST_NANO = 500_000
"""What every answer here states: 0.0005 USD."""
STREAM_LABEL, JSON_LABEL = "text/event-stream", "application/json"
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
COMMENT = b": OPENROUTER PROCESSING\n\n"
BLANKS = b"\n         \n"
DONE = b"data: [DONE]\n\n"
PAGE = b"<!DOCTYPE html><html><head><title>502</title></head><body><h1>data: bad gateway</h1></body></html>"
_USAGE = {"prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 32, "cost": 0.0005, "is_byok": False}
_TOKENS = {"input_tokens": 12, "output_tokens": 20, "total_tokens": 32, "cost": 0.0005}


def _gzip(body: bytes) -> bytes:
    """The same bytes at any time of day."""
    return gzip.compress(body, mtime=0)


CODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": zlib.compress,
    "Deflate": lambda body: zlib.compress(body, wbits=-15),
    "br": brotli.compress,
}


def event(document: object, name: str = "") -> bytes:
    """One event of a stream."""
    named = f"event: {name}\n".encode() if name else b""
    return named + b"data: " + json.dumps(document).encode() + b"\n\n"


@dataclass(frozen=True, slots=True)
class DialectSample:
    """One dialect: a request, and its answer as a stream (in its parts) and as a document."""

    dialect: Dialect
    request: Mapping[str, object]
    start: bytes
    work: bytes
    usage: bytes
    end: bytes
    document: bytes
    error: bytes
    """An error event in the dialect's own shape."""
    refused_key: bytes
    """An error event that refuses the funding key."""

    @property
    def path(self) -> str:
        """The path of the endpoint."""
        return f"/v1/{self.dialect.value}"

    @property
    def stream(self) -> bytes:
        """A whole stream."""
        return self.start + self.work + self.usage + self.end

    def ask(self, *, stream: bool) -> dict[str, object]:
        """A request that is streamed, or not."""
        return {"model": MODEL, **self.request, "stream": stream}


def _chunk(choice: Mapping[str, object], **more: object) -> bytes:
    return event({"id": "gen-1", "object": "chat.completion.chunk", "created": 1, "choices": [choice], **more})


_CHAT_ERROR = event({"error": {"code": 429, "message": "slow down"}})
_NO_CREDIT = event({"error": {"code": 402, "message": "Insufficient credits"}})

CHAT = DialectSample(
    Dialect.CHAT,
    {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 64},
    start=_chunk({"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}),
    work=_chunk({"index": 0, "delta": {"content": "hi"}, "finish_reason": None}),
    usage=_chunk({"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}, usage=_USAGE),
    end=DONE,
    document=json.dumps(
        {"id": "gen-1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}], "usage": _USAGE}
    ).encode(),
    error=_CHAT_ERROR,
    refused_key=_NO_CREDIT,
)
COMPLETIONS = DialectSample(
    Dialect.COMPLETIONS,
    {"prompt": "hello", "max_tokens": 64},
    start=event({"id": "gen-1", "choices": [{"index": 0, "text": "", "finish_reason": None}]}),
    work=event({"id": "gen-1", "choices": [{"index": 0, "text": "hi", "finish_reason": None}]}),
    usage=event({"id": "gen-1", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}], "usage": _USAGE}),
    end=DONE,
    document=json.dumps({"id": "gen-1", "choices": [{"index": 0, "text": "hi"}], "usage": _USAGE}).encode(),
    error=event({"error": "slow down"}),
    refused_key=event({"choices": [{"text": "", "error": {"code": "insufficient_quota", "message": "no"}}]}),
)
EMBEDDINGS = DialectSample(
    Dialect.EMBEDDINGS,
    {"input": "hello"},
    start=event({"id": "gen-1", "data": []}),
    work=event({"id": "gen-1", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]}),
    usage=event({"id": "gen-1", "data": [], "usage": _USAGE}),
    end=DONE,
    document=json.dumps(
        {"object": "list", "data": [{"index": 0, "embedding": [0.5] * 8}], "usage": _USAGE, "id": "gen-1"}
    ).encode(),
    error=_CHAT_ERROR,
    refused_key=_NO_CREDIT,
)
_RESPONSE: Mapping[str, object] = {
    "id": "gen-1",
    "object": "response",
    "status": "in_progress",
    "output": [],
    "error": None,
    "usage": None,
}
_OUTPUT = [{"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "hi", "annotations": []}]}]
_FINISHED = {**_RESPONSE, "status": "completed", "output": _OUTPUT, "usage": _TOKENS}
_ITEM = {"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
RESPONSES = DialectSample(
    Dialect.RESPONSES,
    {"input": "hello", "max_output_tokens": 64},
    start=event({"type": "response.created", "response": _RESPONSE, "sequence_number": 0})
    + event({"type": "response.output_item.added", "output_index": 0, "item": _ITEM, "sequence_number": 1}),
    work=event({"type": "response.output_text.delta", "item_id": "msg_1", "delta": "hi", "sequence_number": 2}),
    usage=event({"type": "response.completed", "response": _FINISHED, "sequence_number": 3}),
    end=DONE,
    document=json.dumps(_FINISHED).encode(),
    error=event(
        {"type": "error", "code": "rate_limit_exceeded", "message": "Slow down", "param": None, "sequence_number": 2}
    ),
    refused_key=event(
        {"type": "response.failed", "response": {**_RESPONSE, "error": {"code": "insufficient_quota", "message": ""}}}
    ),
)
_MESSAGE = {"id": "gen-1", "type": "message", "role": "assistant", "content": [], "model": MODEL}
MESSAGES = DialectSample(
    Dialect.MESSAGES,
    {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 64},
    start=event(
        {"type": "message_start", "message": {**_MESSAGE, "usage": {"input_tokens": 12, "output_tokens": 1}}},
        "message_start",
    )
    + event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    work=event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}),
    usage=event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": _TOKENS}, "message_delta"),
    end=event({"type": "message_stop"}, "message_stop"),
    document=json.dumps({**_MESSAGE, "content": [{"type": "text", "text": "hi"}], "usage": _TOKENS}).encode(),
    error=event({"type": "error", "error": {"type": "rate_limit_error", "message": "busy"}}, "error"),
    refused_key=event({"type": "error", "error": {"type": "billing_error", "message": "no"}}, "error"),
)

SAMPLES = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES)


@dataclass(frozen=True, slots=True)
class Case:
    """One unusual answer. `pieces` are sent one by one; `status` and `nano` are the expected ledger entry.

    `generation`: the cost that `/generation` states; None: never one. `header_id`: sent as X-Generation-Id.
    `cut`: the connection breaks after the last piece.
    """

    name: str
    pieces: Callable[[DialectSample], list[bytes]]
    status: str
    nano: int = COST_NANO
    stream: bool = True
    label: str = STREAM_LABEL
    header_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    generation: float | None = None
    cut: bool = False


def _void(name: str, pieces: Callable[[DialectSample], list[bytes]], **more: object) -> Case:
    return Case(name, pieces, "void", 0, **more)  # type: ignore[arg-type]


def _filled(sample: DialectSample, filler: str, *, before: bool) -> bytes:
    """The document with one more large member, which speaks of another usage."""
    bait = {"filler": filler, "tools": [{"parameters": {"example": {"usage": {"cost": 0}}, "id": "gen-0"}}]}
    document = json.loads(sample.document)
    return json.dumps({**bait, **document} if before else {**document, **bait}).encode()


_LARGE = "y" * 600_000


def _coded(coding: str, *, stream: bool) -> Case:
    kind, label = ("stream", STREAM_LABEL) if stream else ("document", JSON_LABEL)

    def pieces(sample: DialectSample) -> list[bytes]:
        return [CODINGS[coding](sample.stream if stream else sample.document)]

    headers = {"Content-Encoding": coding}
    return Case(f"a {kind} in {coding}", pieces, "settled", stream=stream, label=label, headers=headers)


CASES = (
    _void("a JSON error under an event-stream label", lambda _: [b'{"error":{"code":429,"message":"slow down"}}']),
    _void("a JSON error behind comments", lambda _: [COMMENT, b'{"error":{"code":429,"message":"slow down"}}']),
    _void("an error event", lambda sample: [COMMENT, sample.error]),
    _void("pings, then an error", lambda sample: [PING, PING, sample.error]),
    _void("an error, then a cut", lambda sample: [sample.error], cut=True),
    _void("comments and nothing else", lambda _: [COMMENT] * 3),
    _void("[DONE] and nothing else", lambda _: [COMMENT, DONE]),
    _void("an empty answer", lambda _: []),
    _void("starts, then an orderly end", lambda sample: [sample.start], header_id="gen-9"),
    _void("a page of an edge", lambda _: [PAGE], label="text/html"),
    _void("a page of an edge under a JSON label", lambda _: [PAGE], label=JSON_LABEL, stream=False),
    _void("blanks without a document", lambda _: [BLANKS] * 3, label=JSON_LABEL, stream=False, header_id="gen-9"),
    Case("a stream", lambda sample: [sample.start, sample.work, sample.usage, sample.end], "settled"),
    Case("a document", lambda sample: [BLANKS, sample.document], "settled", stream=False, label=JSON_LABEL),
    Case("a document under an event-stream label", lambda sample: [sample.document], "settled", stream=False),
    Case("a document behind comments", lambda sample: [COMMENT, sample.document], "settled"),
    Case("a stream under a JSON label", lambda sample: [sample.stream], "settled", label=JSON_LABEL),
    Case("a stream without a label", lambda sample: [BLANKS, sample.stream], "settled", label=""),
    *(_coded(coding, stream=stream) for coding in CODINGS for stream in (True, False)),
    Case("gzip without a label", lambda sample: [_gzip(sample.stream)], "settled"),
    Case("a gzip label on plain bytes", lambda s: [s.stream], "settled", headers={"Content-Encoding": "gzip"}),
    Case(
        "an unknown coding",
        lambda sample: [bytes(255 - byte for byte in sample.document)],
        "settled",
        900_000,
        header_id="gen-1",
        headers={"Content-Encoding": "zstd"},
        generation=0.0009,
    ),
    Case(
        "usage before 600 kB that speak of another",
        lambda sample: [_filled(sample, _LARGE, before=False)],
        "settled",
        stream=False,
        label=JSON_LABEL,
    ),
    Case(
        "usage behind 600 kB that speak of another",
        lambda sample: [_filled(sample, _LARGE, before=True)],
        "settled",
        stream=False,
        label=JSON_LABEL,
    ),
    Case(
        "an event of 6 MB before the cost",
        lambda sample: [sample.start, event({"b64": "A" * 6_000_000}), sample.work, sample.usage, sample.end],
        "settled",
    ),
    Case(
        "a cost at the end of an event of 6 MB",
        lambda sample: [sample.start, b"data: " + _filled(sample, "A" * 6_000_000, before=True) + b"\n\n", sample.end],
        "settled",
    ),
    Case(
        "a cost before the end of a stream that is cut",
        lambda sample: [event({"id": "gen-1", "usage": {"prompt_tokens": 1, "cost": 0}}), sample.work],
        "settled",
        700_000,
        generation=0.0007,
        cut=True,
    ),
    Case(
        "a cost and an error",
        lambda sample: [sample.error, event({"id": "gen-1", "usage": _USAGE})],
        "settled",
    ),
)
