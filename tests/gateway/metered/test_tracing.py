"""Traces over OTLP as a collector receives them, with the real exporter, and with a collector that is down."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from structlog.testing import capture_logs

from gateway.call import Call
from gateway.metered.inflight import OpenRequest
from gateway.metered.tracing import INSTALL, hindrance, is_asked, traced
from gateway.settings import Settings
from tests.fakes import FakeOpenRouter
from tests.gateway.environments import RINGS
from tests.gateway.process import environment, gateway_process
from tests.gateway.stack import FUNDING_KEY, PATIENCE_SECONDS, Stack, open_stack, question, settings_for

TRACE_ID, CALLERS_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
USER, PROMPT = "canary-user-Qx7", "canary prompt Zk2"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Collector:
    """A fake collector that answers `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[bytes] = []
        self.url = ""
        self._came = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        """Keep what was sent."""
        self.bodies.append(await request.read())
        self._came.set()
        return web.Response(status=self.status)

    @property
    def spans(self) -> list[Span]:
        """All spans so far, in the order in which they ended."""
        batches = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        scopes = [scope for batch in batches for each in batch.resource_spans for scope in each.scope_spans]
        return [span for scope in scopes for span in scope.spans]

    async def until(self, count: int) -> list[Span]:
        """Wait for so many spans."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.spans) < count:
                self._came.clear()
                await self._came.wait()
        return self.spans


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """A collector on a loopback port."""
    taking = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", taking.take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        taking.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield taking
    finally:
        await runner.cleanup()


@pytest.fixture
async def traced_stack(
    redis_url: str, openrouter: FakeOpenRouter, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stack]:
    """A gateway that sends traces at once, with one connected live user."""
    named = {_ENDPOINT: collector.url, "OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_SERVICE_NAME": "gate"}
    for name in named:
        monkeypatch.delenv(name, raising=False)
    settings = settings_for(redis_url, openrouter.url, **named)
    async with traced(settings), open_stack(settings) as stack:
        await stack.connect(user=USER)
        yield stack
    for name in named:
        del os.environ[name]


def attributes(span: Span) -> dict[str, object]:
    found = {each.key: each.value for each in span.attributes}
    return {key: getattr(value, str(value.WhichOneof("value"))) for key, value in found.items()}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_metered_call_is_a_span_in_its_callers_trace(
    traced_stack: Stack, openrouter: FakeOpenRouter, collector: Collector, *, stream: bool
) -> None:
    """Child spans for admission, model and settlement; no trace header is sent upstream; no span has a secret."""
    headers = traced_stack.as_user(USER, traceparent=f"00-{TRACE_ID}-{CALLERS_SPAN}-01", tracestate="acme=1")
    assert (await traced_stack.chat(question(stream=stream, text=PROMPT), headers=headers)).status == 200
    own, *inside = sorted(await collector.until(4), key=lambda span: span.start_time_unix_nano)
    assert {span.trace_id.hex() for span in (own, *inside)} == {TRACE_ID}
    assert own.parent_span_id.hex() == CALLERS_SPAN
    assert {span.parent_span_id for span in inside} == {own.span_id}
    assert [own.name, *(span.name for span in inside)] == [
        "POST /v1/chat/completions",
        "admit",
        "chat acme/large",
        "settle",
    ]
    assert (own.kind, inside[1].kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    said, model = attributes(own), attributes(inside[1])
    assert (said["http.response.status_code"], said["wattfare.cost_usd"]) == (200, 0.0015)
    assert (model["gen_ai.usage.input_tokens"], model["gen_ai.usage.output_tokens"]) == (3, 1)
    [first_byte] = inside[1].events
    times = [own.start_time_unix_nano, first_byte.time_unix_nano, inside[2].end_time_unix_nano, own.end_time_unix_nano]
    assert times == sorted(times)
    assert not {"traceparent", "tracestate"} & openrouter.received[-1].names
    for secret in (traced_stack.secret, FUNDING_KEY, PROMPT, USER, "Hello"):
        assert not any(secret.encode() in body for body in collector.bodies)


async def test_what_is_traced(traced_stack: Stack, collector: Collector) -> None:
    """Refused metered calls too; no health checks, and no trace that its caller does not record."""
    unrecorded = traced_stack.as_user(USER, traceparent=f"00-{TRACE_ID}-{CALLERS_SPAN}-00")
    assert (await traced_stack.chat(headers=unrecorded)).status == 200
    assert (await traced_stack.ask("GET", "/healthz")).status == 200
    assert (await traced_stack.chat(headers={"Authorization": "Bearer sk_live_x"})).status == 401
    assert (await traced_stack.chat(headers=traced_stack.as_user("nobody"))).status == 402
    spans = await collector.until(3)
    assert sorted(span.name for span in spans) == ["POST /v1/chat/completions"] * 2 + ["admit"]
    codes = {attributes(span).get("wattfare.code") for span in spans if span.kind == Span.SPAN_KIND_SERVER}
    assert codes == {"auth", "not_connected"}
    assert {span.status.code for span in spans} == {Status.STATUS_CODE_UNSET}


async def test_a_collector_that_takes_nothing_changes_nothing(traced_stack: Stack, collector: Collector) -> None:
    """One line when spans are lost, one when they arrive again."""
    collector.status = 400
    with capture_logs() as lines:
        for expected in (1, 2):
            assert (await traced_stack.chat(headers=traced_stack.as_user(USER))).status == 200
            await collector.until(4 * expected)
        collector.status = 200
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any(line["event"] == "traces_sent_again" for line in lines):
                assert (await traced_stack.chat(headers=traced_stack.as_user(USER))).status == 200
                await asyncio.sleep(0.02)
    assert [line["event"] for line in lines if line["event"].startswith("traces")] == [
        "traces_lost",
        "traces_sent_again",
    ]


async def test_a_process_sends_its_last_spans_before_it_ends(redis_url: str, collector: Collector) -> None:
    """As an operator starts it, with nothing but the usual variables."""
    variables = environment(redis_url, OTEL_TRACES_EXPORTER="otlp", **{_ENDPOINT: collector.url})
    async with gateway_process(variables) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert b" 401 " in await reader.readline()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        code, _ = await running.end()
    assert code == 0
    [span] = collector.spans
    assert span.name == "POST /v1/messages"
    [resource] = ExportTraceServiceRequest.FromString(collector.bodies[0]).resource_spans
    names = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert names["service.name"] == "wattfare-gateway"
    assert any('"traces_on"' in line and collector.url.removeprefix("http://") in line for line in running.lines)


@pytest.mark.parametrize(
    ("otel", "expected"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({_ENDPOINT: "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", _ENDPOINT: "http://x"}, False),
        ({"OTEL_SDK_DISABLED": "true", _ENDPOINT: "http://x"}, False),
    ],
)
def test_the_usual_variables_ask_for_traces(otel: dict[str, str], *, expected: bool) -> None:
    """An exporter or an endpoint enables traces, unless a variable disables them; an empty variable is ignored."""
    settings = Settings.load({**RINGS, "OTEL_TRACES_EXPORTER": "", **otel})
    assert is_asked(settings.otel) is expected


@pytest.mark.parametrize(
    ("otel", "said"),
    [
        ({}, None),
        ({"OTEL_TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "4318"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, None),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "http/protobuf"),
    ],
)
def test_what_cannot_be_sent_is_said(otel: dict[str, str], said: str | None) -> None:
    """With what to do."""
    why = hindrance(otel)
    assert (why is None) if said is None else (why is not None and said in why)


async def test_without_the_packages_the_gateway_serves_and_says_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the packages a warning is logged; without traces a request has no extra cost."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    reach = OpenRequest.reach
    for otel, expected in (
        ({_ENDPOINT: "http://127.0.0.1:1"}, [f"OpenTelemetry is not installed: {INSTALL}"]),
        ({}, []),
    ):
        with capture_logs() as lines:
            async with traced(Settings.load({**RINGS, **otel})):
                assert (Call.trace, OpenRequest.reach) == (None, reach)
        assert [line["reason"] for line in lines] == expected
