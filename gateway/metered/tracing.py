"""Sends the spans of metered calls to a collector (OTLP over HTTP), if the usual OTEL_ variables configure one.

Rule: without them, none of this is imported or run. With them, a call's spans are made after its answer, and a thread
sends them from a bounded queue, so that no call waits for the collector.
"""

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from gateway.call import Call
from gateway.logs import log
from gateway.metered.inflight import OpenRequest
from gateway.metered.spans import OPERATIONS, CallRecord, steps
from gateway.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

INSTALL: Final = "python -m pip install --require-hashes -r requirements-otel.txt"
# The time for the last spans at shutdown, also if the collector is down.
_LAST_SECONDS = 1.0


@contextlib.asynccontextmanager
async def traced(settings: Settings) -> AsyncIterator[None]:
    """Send this process's traces within the block, if configured; log a warning if that is not possible."""
    if not is_asked(settings.otel):
        yield
        return
    if (why := hindrance(settings.otel)) is not None:
        log.warning("traces_off", reason=why)
        yield
        return
    # OpenTelemetry reads the environment only, and some of its variables may be set in WATTFARE_ENV_FILE.
    os.environ.update(settings.otel)  # noqa: TID251
    traces, unnoted = Traces(settings), OpenRequest.reach

    def noted(self: OpenRequest, point: str) -> None:
        traces.note(self, point)

    Call.trace, OpenRequest.reach = traces.trace, noted  # type: ignore[method-assign]
    log.info("traces_on", collector=traces.collector)
    try:
        yield
    finally:
        Call.trace, OpenRequest.reach = None, unnoted  # type: ignore[method-assign]
        traces.close()


def is_asked(otel: Mapping[str, str]) -> bool:
    """Return whether the OTEL_ variables enable traces: they name an exporter or a collector, and do not disable it."""
    if otel.get("OTEL_SDK_DISABLED", "").lower() == "true" or otel.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    names = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return any(name in otel for name in names)


def hindrance(otel: Mapping[str, str]) -> str | None:
    """Return why enabled traces cannot be sent, and what to do; None if they can."""
    if otel.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return "OTEL_TRACES_EXPORTER must be otlp or none"
    protocols = (otel.get(f"OTEL_EXPORTER_OTLP_{name}PROTOCOL") for name in ("TRACES_", ""))
    if next(filter(None, protocols), "http/protobuf") != "http/protobuf":
        return "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, which collectors take at port 4318"
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: F401
    except ModuleNotFoundError:
        return f"OpenTelemetry is not installed: {INSTALL}"
    return None


class Traces:
    """Makes and sends the spans of one process, as configured by the OTEL_ variables."""

    def __init__(self, settings: Settings) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # OpenTelemetry would log every lost batch and span; `_watched` logs an outage once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        resource = Resource.create()
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "wattfare-gateway"}))
        exporter = OTLPSpanExporter()
        self.collector = urlsplit(exporter._endpoint).netloc.rpartition("@")[2]  # noqa: SLF001 - nothing else tells
        """The collector's host and port."""
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_watched(exporter)))
        self._tracer = self._provider.get_tracer("wattfare")
        self._api = trace
        self._propagator = TraceContextTextMapPropagator()
        self._points: dict[str, dict[str, float]] = {}
        self._scheme = urlsplit(settings.public_url).scheme
        self._upstream = urlsplit(settings.openrouter_base_url).hostname or ""

    def note(self, request: OpenRequest, point: str) -> None:
        """Record when a request first reached a named point of its path."""
        self._points.setdefault(request.request_id, {}).setdefault(point, time.perf_counter())

    def trace(self, call: Call, status: int) -> None:
        """Make the spans of an answered call, if it is metered."""
        points = self._points.pop(call.request_id, {})
        if call.path not in OPERATIONS or call.message.method != "POST":
            return
        ended, ended_ns = time.perf_counter(), time.time_ns()
        record = CallRecord(call.path, status, call.request_id, call.notes, call.started, ended, points)

        def at(moment: float) -> int:
            return ended_ns - round((ended - moment) * 1_000_000_000)

        # A caller's trace is continued, and its sampling decision applies.
        context = self._propagator.extract(call.headers)
        for step in steps(record, scheme=self._scheme, upstream=self._upstream):
            kind = self._api.SpanKind[step.kind]
            span = self._tracer.start_span(step.name, context, kind, step.attributes, start_time=at(step.begun))
            if not span.is_recording():
                return
            for name, moment in step.events.items():
                span.add_event(name, timestamp=at(moment))
            if step.fault:
                span.set_status(self._api.StatusCode.ERROR)
                span.set_attribute("error.type", step.fault)
            span.end(at(step.ended))
            if step.kind == "SERVER":
                context = self._api.set_span_in_context(span)

    def close(self) -> None:
        """Send the remaining spans, for at most a second."""
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(_LAST_SECONDS)


def _watched(exporter: "SpanExporter") -> "SpanExporter":
    """Return an exporter that logs once when spans are lost, and once when they arrive again. It runs in a thread."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    loop = asyncio.get_running_loop()

    class Watched(SpanExporter):
        arrives = True

        def export(self, spans: "Sequence[ReadableSpan]") -> SpanExportResult:
            result = exporter.export(spans)
            if self.arrives != (arrives := result is SpanExportResult.SUCCESS):
                self.arrives = arrives
                with contextlib.suppress(RuntimeError):  # the process ends
                    loop.call_soon_threadsafe(_say, arrives)
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

    return Watched()


def _say(arrives: bool) -> None:
    if arrives:
        log.info("traces_sent_again")
    else:
        log.warning("traces_lost", reason="the collector does not take them; requests go on")
