"""OpenTelemetry spans of a run: one per attempt of dbt, and one below it per node that ran, through the official SDK over OTLP (HTTP).

The environment says where to, as for any program: ``OTEL_EXPORTER_OTLP_ENDPOINT`` and its likes, ``OTEL_SERVICE_NAME`` (default: dbt),
``OTEL_RESOURCE_ATTRIBUTES``. All attempts of a run are one trace. If ``TRACEPARENT`` is set (W3C Trace Context), it is that trace, and the span that it
names is above those of the attempts; else the span within which dbt was started is, if it is sampled: Airflow's of the producer's task,
which lies in the trace of the DAG run (task_runner.py, ``_make_task_span``). Ids are made of the run, the attempt and the node, so telling a run again makes the same spans.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from ledger_watcher import __version__
from ledger_watcher.emit.emitter import Origin
from ledger_watcher.errors import ConfigError
from ledger_watcher.ledger.segments import Entry
from ledger_watcher.records import AttemptFinished, AttemptStarted, DbtStarted, EndedBy, NodeFinished, NodeStarted, Outcome
from ledger_watcher.report.bars import CARRIED
from ledger_watcher.report.view import finished_at, shown_name, type_of

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}.*")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HTTP = "http/protobuf"
_NANO = 10**9

Node = tuple[int, str]


class OpenTelemetry:
    """See the module. Spans are sent in batches, by a thread of the SDK.

    :param exporter: where the spans go; default: over OTLP, as the environment says.
    """

    def __init__(self, origin: Origin, exporter: SpanExporter | None = None) -> None:
        self._run = origin.run
        self._exporter = _Counting(exporter or _otlp())
        self._ids = _Ids()
        resource = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME") or "dbt"})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("ledger_watcher", __version__)
        self._above = _above(os.environ.get("TRACEPARENT")) or _current()
        self._trace_id = self._above.trace_id if self._above else _id(16, self._run.prefix)
        self._attempts: dict[int, Span] = {}
        self._open: dict[Node, NodeStarted] = {}
        self._told: set[Node] = set()

    def take(self, entry: Entry) -> None:
        """Tell of a record."""
        epoch, record = entry.epoch, entry.record
        match record:
            case AttemptStarted():
                for earlier in [number for number in self._attempts if number < epoch]:
                    self._end(earlier, record.ts, Status(StatusCode.ERROR, "another attempt took over"))
                self._begin(epoch, record)
            case DbtStarted() if epoch in self._attempts:
                found = {"dbt.version": record.dbt_version, "dbt.invocation_id": record.invocation_id, "dbt.target": record.target}
                self._attempts[epoch].set_attributes(_known({**found, "dbt.threads": record.threads}))
            case NodeStarted():
                self._open.setdefault((epoch, record.unique_id), record)
            case NodeFinished() if record.source != CARRIED:
                self._node(epoch, record)
            case AttemptFinished():
                fine = record.exit_code == 0 and record.ended_by is EndedBy.EXIT
                why = record.message or f"{record.ended_by.value}, exit code {record.exit_code}"
                if epoch in self._attempts:
                    self._attempts[epoch].set_attributes(_known({"dbt.exit_code": record.exit_code, "dbt.ended_by": record.ended_by.value}))
                self._end(epoch, record.ts, Status(StatusCode.OK) if fine else Status(StatusCode.ERROR, why))
            case _:
                pass

    def close(self, timeout: float) -> list[str]:
        """Send what waits."""
        sent = self._provider.force_flush(int(timeout * 1000))
        self._provider.shutdown()
        problems = [] if sent else [f"not everything was sent within {timeout:g} s"]
        return problems + ([f"{self._exporter.failed} spans could not be exported"] if self._exporter.failed else [])

    def _begin(self, epoch: int, record: AttemptStarted) -> None:
        context = set_span_in_context(NonRecordingSpan(self._above), Context()) if self._above else Context()
        self._ids.use(self._trace_id, _id(8, self._run.prefix, epoch))
        names = {f"ledger_watcher.{name}": getattr(self._run, name) for name in ("deployment", "dag_id", "run_id", "group", "map_index")}
        attributes = _known({**names, "ledger_watcher.attempt": epoch, "host.name": record.host, "dbt.command": record.command})
        self._attempts[epoch] = self._tracer.start_span(
            " ".join(record.command[:2]) or "dbt", context, SpanKind.INTERNAL, attributes, start_time=_nano(record.ts)
        )

    def _node(self, epoch: int, record: NodeFinished) -> None:
        node = (epoch, record.unique_id)
        begun = self._open.pop(node, None)
        if (
            node in self._told or record.outcome is Outcome.SKIPPED
        ):  # said twice (run_results.json); it never ran, though dbt says that it began
            return
        self._told.add(node)
        end = finished_at(record) or record.ts
        start = (begun and (begun.started_at or begun.ts)) or record.started_at or end
        ok = Status(StatusCode.OK) if record.outcome.ok else Status(StatusCode.ERROR, record.message or record.outcome.value)
        attributes = {
            "dbt.outcome": record.outcome.value,
            "dbt.status": record.status,
            "dbt.materialized": record.materialized or (begun and begun.materialized) or None,
            "dbt.relation": record.relation or (begun and begun.relation) or None,
            "dbt.rows_affected": record.rows_affected,
            "dbt.failures": record.failures,
            "dbt.query_id": record.query_id,
            "dbt.thread": record.thread or (begun and begun.thread) or None,
        }
        name = shown_name(record.unique_id, record.name)
        self._span(node, name, record.resource_type or type_of(record.unique_id), (start, end), attributes, ok)

    def _span(
        self, node: Node, name: str, kind: str, times: tuple[datetime, datetime], attributes: Mapping[str, object], status: Status
    ) -> None:
        epoch, unique_id = node
        above = self._attempts.get(epoch)
        self._ids.use(self._trace_id, _id(8, self._run.prefix, epoch, unique_id))
        found = _known({"dbt.unique_id": unique_id, "dbt.resource_type": kind, **attributes})
        context = Context() if above is None else set_span_in_context(above, Context())
        start, end = times
        span = self._tracer.start_span(f"{kind} {name}", context, SpanKind.CLIENT, found, start_time=_nano(start))
        span.set_status(status)
        span.end(_nano(max(start, end)))

    def _end(self, epoch: int, time: datetime, status: Status) -> None:
        for node in [node for node in self._open if node[0] == epoch]:
            begun = self._open.pop(node)
            kind = begun.resource_type or type_of(begun.unique_id)
            unfinished = Status(StatusCode.ERROR, "its attempt is over without its end")
            times = (begun.started_at or begun.ts, time)
            self._span(node, shown_name(begun.unique_id, begun.name), kind, times, {"dbt.outcome": "unfinished"}, unfinished)
        span = self._attempts.pop(epoch, None)
        if span is not None:
            span.set_status(status)
            span.end(_nano(time))


class _Ids(IdGenerator):
    """Gives the ids that it is told."""

    def __init__(self) -> None:
        self._trace_id = self._span_id = 1

    def use(self, trace_id: int, span_id: int) -> None:
        """For the next span."""
        self._trace_id, self._span_id = trace_id, span_id

    def generate_trace_id(self) -> int:
        """See the SDK."""
        return self._trace_id

    def generate_span_id(self) -> int:
        """See the SDK."""
        return self._span_id


class _Counting(SpanExporter):
    """Counts what an exporter could not export: the SDK only logs it."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See the SDK."""
        try:
            result = self._exporter.export(spans)
        except Exception:
            self.failed += len(spans)
            raise
        self.failed += len(spans) if result is not SpanExportResult.SUCCESS else 0
        return result

    def shutdown(self) -> None:
        """See the SDK."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See the SDK."""
        return self._exporter.force_flush(timeout_millis)


def _otlp() -> SpanExporter:
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        raise ConfigError(f"OpenTelemetry has nowhere to send spans to: set {_ENDPOINTS[0]}, such as http://localhost:4318.")
    protocol = next((value for name in _PROTOCOLS if (value := os.environ.get(name))), _HTTP)
    if protocol != _HTTP:
        raise ConfigError(f"Spans are sent with {_HTTP}, not {protocol}: set {_PROTOCOLS[0]}={_HTTP} and the endpoint for it.")
    return OTLPSpanExporter()


def _above(text: str | None) -> SpanContext | None:
    """:raises ConfigError: no W3C traceparent."""
    if not text:
        return None
    found = _TRACEPARENT.fullmatch(text.strip().lower())
    if found is None:
        raise ConfigError(f"TRACEPARENT is not one of W3C Trace Context (00-<trace id>-<span id>-01): {text!r}.")
    return SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _current() -> SpanContext | None:
    """What goes on in this context, if anybody records it: without tracing, Airflow has trace ids all the same, of which nobody knows."""
    found = get_current_span().get_span_context()
    return found if found.is_valid and found.trace_flags.sampled else None


def _id(size: int, *parts: object) -> int:
    """Never 0, which is no id."""
    return int.from_bytes(hashlib.sha256("#".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()[:size], "big") or 1


def _known(attributes: Mapping[str, object]) -> dict[str, str | int | float | tuple[str, ...]]:
    """Without ``None``."""
    return {name: value for name, value in attributes.items() if isinstance(value, (str, int, float, tuple))}


def _nano(time: datetime) -> int:
    return int(time.timestamp()) * _NANO + time.microsecond * 1000
