"""OpenLineage and OpenTelemetry: what is told of a run, to services that really listen, and that a run does not care if they do not."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from ledger_watcher.cli import main
from ledger_watcher.emit import EMITTERS, Graph, Origin, Relay
from ledger_watcher.emit import relay as relay_module
from ledger_watcher.ledger import Entry, LedgerWriter, RunKey
from ledger_watcher.records import AttemptFinished, AttemptStarted, EndedBy, NodeFinished, Outcome, Record
from ledger_watcher.storage import LocalStore
from tests.core.fakes import PATIENCE, FakeDbt
from tests.core.ledgers import at, began, dbt, ended, ends, log, plan, starts, write_open

RUN = RunKey("shop", "run-1", group="etl")
RELATION = '"db"."main"."{}"'
MANIFEST = {
    "metadata": {"adapter_type": "postgres", "invocation_id": "inv"},
    "nodes": {
        "model.shop.a": {"relation_name": RELATION.format("a"), "depends_on": {"nodes": ["source.shop.raw.x"]}},
        "model.shop.hidden": {"relation_name": None, "depends_on": {"nodes": ["model.shop.a"]}},
        "model.shop.b": {"relation_name": "`db`.`main`.`b`", "depends_on": {"nodes": ["model.shop.hidden", "model.shop.a"]}},
        "test.shop.unique_a.0123456789": {"relation_name": None, "depends_on": {"nodes": ["model.shop.a"]}},
    },
    "sources": {"source.shop.raw.x": {"relation_name": RELATION.format("x")}},
}


class Sink:
    """A service that takes whatever is posted. ``status`` is what it answers, ``hold`` keeps it from answering."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.status = 200
        self.free = threading.Event()
        self.free.set()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.free.wait(PATIENCE)
                sink.bodies.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                sink.paths.append(self.path)
                self.send_response(sink.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def events(self) -> list[dict[str, Any]]:
        """OpenLineage's."""
        return [json.loads(body) for body in self.bodies]

    @property
    def spans(self) -> list[Span]:
        """OpenTelemetry's."""
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            span for request in requests for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]

    def stop(self) -> None:
        self.free.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    server = Sink()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """None of this machine's; and OpenLineage's client adds variables of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("OPENLINEAGE", "OTEL_", "TRACEPARENT", "LEDGER_WATCHER_"))]:
        del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run with one node of each end, whose second attempt goes on from the first."""
    folder = tmp_path / "ledger"
    store = LocalStore(str(folder))
    first = [
        dbt(),
        plan("a", "b"),
        starts("a", 1, relation=RELATION.format("a"), thread="Thread-1"),
        log("a", "OK"),
        ends("a", seconds=2, rows_affected=7, query_id="q-1", relation=RELATION.format("a")),
        checked(Outcome.FAILED, 3),
        starts("b", 3),
        ends("c", Outcome.SKIPPED, 3, skip_cause=("model.shop.b",), execution_time=0.0),
        starts("d", 3.5),
        starts("e", 3.5),
        ends("e", Outcome.SKIPPED, 3.5, skip_cause=("model.shop.b",), execution_time=0.0),
    ]
    attempt(store, began(), first, ended(4, 130, EndedBy.SIGNAL), manifest=False)
    second = [
        dbt(),
        ends("a", seconds=2, source="carried_over"),
        starts("b", 11, relation="`db`.`main`.`b`"),
        ends("b", Outcome.FAILED, 12, message="Boom", relation="`db`.`main`.`b`", started_at=at(11)),
        ends("b", Outcome.FAILED, 12, message="Boom", source="run_results"),
        checked(Outcome.SUCCESS, 13),
    ]
    attempt(store, began(10), second, ended(14, 1, message="1 of 2 failed"))
    return folder


def checked(outcome: Outcome, seconds: float) -> NodeFinished:
    unique_id, name = "test.shop.unique_a.0123456789", "unique_a"
    fields: dict[str, Any] = {"resource_type": "test", "status": "pass", "started_at": at(seconds - 0.5), "finished_at": at(seconds)}
    return NodeFinished(ts=at(seconds), unique_id=unique_id, name=name, outcome=outcome, message="Got 3 results", **fields)


def attempt(store: LocalStore, start: AttemptStarted, records: list[Record], end: AttemptFinished, *, manifest: bool = True) -> None:
    writer = LedgerWriter(store, RUN)
    writer.open(start)
    for record in records:
        writer.append(record)
    if manifest:
        writer.put_file("manifest.json", json.dumps(MANIFEST).encode())
    writer.close(end)


def emit(to: str, root: Path, **env: str) -> Result:
    return CliRunner().invoke(main, ["emit", to, str(root)], env=env)


def by(events: list[dict[str, Any]], job: str) -> list[dict[str, Any]]:
    return [event for event in events if event["job"]["name"] == job]


# OpenLineage ----------------------------------------------------------------------------------------------------------


def test_events_of_a_run(root: Path, sink: Sink) -> None:
    env = {"OPENLINEAGE_NAMESPACE": "prod", "LEDGER_WATCHER_DATASET_NAMESPACE": "postgres://db:5432"}
    result = emit("openlineage", root, OPENLINEAGE_URL=sink.url, **env)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    told = [(event["job"]["name"], event["eventType"], event["eventTime"][14:19]) for event in sink.events]
    assert told == [
        ("shop.etl.dbt", "START", "00:00"),
        ("model.shop.a", "START", "00:01"),
        ("model.shop.a", "COMPLETE", "00:02"),
        ("test.shop.unique_a.0123456789", "START", "00:02"),
        ("test.shop.unique_a.0123456789", "FAIL", "00:03"),
        ("model.shop.b", "START", "00:03"),
        ("model.shop.d", "START", "00:03"),
        ("model.shop.e", "START", "00:03"),
        ("model.shop.e", "ABORT", "00:03"),
        ("model.shop.b", "ABORT", "00:04"),
        ("model.shop.d", "ABORT", "00:04"),
        ("shop.etl.dbt", "ABORT", "00:04"),
        ("shop.etl.dbt", "START", "00:10"),
        ("model.shop.b", "START", "00:11"),
        ("model.shop.b", "FAIL", "00:12"),
        ("test.shop.unique_a.0123456789", "START", "00:12"),
        ("test.shop.unique_a.0123456789", "COMPLETE", "00:13"),
        ("shop.etl.dbt", "FAIL", "00:14"),
    ], "nothing of what was carried over, nor of what was skipped without a start"
    assert {event["job"]["namespace"] for event in sink.events} == {"prod"}
    assert set(sink.paths) == {"/api/v1/lineage"}


def test_datasets_facets_and_the_parent(root: Path, sink: Sink) -> None:
    assert emit("openlineage", root, OPENLINEAGE_URL=sink.url).exit_code == 0
    events = sink.events
    runs = [event["run"]["runId"] for event in by(events, "shop.etl.dbt")]
    assert runs[0] == runs[1] != runs[2] == runs[3]
    start, done = by(events, "model.shop.a")
    assert start["run"]["runId"] == done["run"]["runId"]
    parent = done["run"]["facets"]["parent"]
    assert (parent["run"]["runId"], parent["job"]["name"]) == (runs[0], "shop.etl.dbt")
    assert [(one["namespace"], one["name"]) for one in done["inputs"]] == [("postgres", "db.main.x")]
    (output,) = done["outputs"]
    assert (output["namespace"], output["name"]) == ("postgres", "db.main.a")
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 7
    assert done["run"]["facets"]["externalQuery"]["externalQueryId"] == "q-1"
    assert done["run"]["facets"]["processing_engine"]["version"] == "1.11.16"
    assert done["job"]["facets"]["jobType"]["jobType"] == "MODEL"
    failed = by(events, "model.shop.b")[-1]
    assert failed["run"]["facets"]["errorMessage"]["message"] == "Boom"
    assert failed["run"]["facets"]["parent"]["run"]["runId"] == runs[2]
    assert [one["name"] for one in failed["inputs"]] == ["db.main.a"], "through the ephemeral model, and once"
    tests = [event for event in by(events, "test.shop.unique_a.0123456789") if event["eventType"] != "START"]
    results = [event["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"] for event in tests]
    assert [[(one["assertion"], one["success"]) for one in result] for result in results] == [[("unique_a", False)], [("unique_a", True)]]
    assert all(event["outputs"] == [] for event in tests)
    producers = {event["producer"].rpartition(":")[0] for event in events} | {parent["_producer"].rpartition(":")[0]}
    assert producers == {"urn:ledger-watcher"}


def test_telling_again_tells_the_same(root: Path, tmp_path: Path) -> None:
    """Through another transport: a file."""
    files = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for file in files:
        env = {"TYPE": "file", "LOG_FILE_PATH": str(file), "APPEND": "true"}
        assert emit("openlineage", root, **{f"OPENLINEAGE__TRANSPORT__{name}": value for name, value in env.items()}).exit_code == 0
    first, second = (file.read_text() for file in files)
    assert first == second
    assert len(first.splitlines()) == 18


def test_the_parent_of_dbt_and_its_name(root: Path, sink: Sink) -> None:
    above = "11111111-2222-7333-8444-555555555555"
    env = {"OPENLINEAGE_PARENT_ID": f"airflow/shop.producer/{above}", "OPENLINEAGE_DBT_JOB_NAME": "nightly"}
    assert emit("openlineage", root, OPENLINEAGE_URL=sink.url, **env).exit_code == 0
    parent = by(sink.events, "nightly")[0]["run"]["facets"]["parent"]
    assert (parent["run"]["runId"], parent["job"]["namespace"], parent["job"]["name"]) == (above, "airflow", "shop.producer")


def test_a_takeover_ends_what_was_open(tmp_path: Path, sink: Sink) -> None:
    write_open(tmp_path, RUN, began(), [starts("a")])
    attempt(LocalStore(str(tmp_path)), began(20), [ends("a", seconds=21)], ended(22))
    assert emit("openlineage", tmp_path, OPENLINEAGE_URL=sink.url).exit_code == 0
    told = [(event["job"]["name"], event["eventType"]) for event in sink.events]
    assert told[2:5] == [("model.shop.a", "ABORT"), ("shop.etl.dbt", "ABORT"), ("shop.etl.dbt", "START")]


# OpenTelemetry --------------------------------------------------------------------------------------------------------


def attributes(span: Span) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_spans_of_a_run(root: Path, sink: Sink) -> None:
    result = emit("otel", root, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url)
    assert result.exit_code == 0, result.stderr
    spans = sink.spans
    assert set(sink.paths) == {"/v1/traces"}
    above = [span for span in spans if not span.parent_span_id]
    assert [span.name for span in above] == ["dbt build", "dbt build"]
    assert len({span.trace_id for span in spans}) == 1, "one trace"
    below = [
        (above.index(parent), span.name, attributes(span)["dbt.outcome"])
        for span in spans
        for parent in above
        if span.parent_span_id == parent.span_id
    ]
    assert sorted(below) == [
        (0, "model a", "success"),
        (0, "model b", "unfinished"),
        (0, "model d", "unfinished"),
        (0, "test unique_a", "failed"),
        (1, "model b", "failed"),
        (1, "test unique_a", "success"),
    ]
    a = next(span for span in spans if span.name == "model a")
    assert (a.start_time_unix_nano, a.end_time_unix_nano) == (nano(at(1)), nano(at(2)))
    found = attributes(a)
    assert (found["dbt.rows_affected"], found["dbt.query_id"], found["dbt.relation"]) == (7, "q-1", RELATION.format("a"))
    failed = next(span for span in spans if span.name == "model b" and attributes(span)["dbt.outcome"] == "failed")
    assert (failed.status.code, failed.status.message) == (2, "Boom")
    assert [span.status.code for span in above] == [2, 2]
    assert attributes(above[1])["dbt.exit_code"] == 1
    assert attributes(above[0])["ledger_watcher.run_id"] == "run-1"


def nano(time: datetime) -> int:
    return int(time.timestamp()) * 10**9


def test_the_same_spans_again_and_below_another_trace(root: Path, sink: Sink) -> None:
    for _ in range(2):
        assert emit("otel", root, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url).exit_code == 0
    spans = [span.SerializeToString() for span in sink.spans]
    assert spans[:8] == spans[8:]
    sink.bodies.clear()
    trace, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    assert emit("otel", root, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url, TRACEPARENT=f"00-{trace}-{span_id}-01").exit_code == 0
    assert {span.trace_id.hex() for span in sink.spans} == {trace}
    assert [span.name for span in sink.spans if span.parent_span_id.hex() == span_id] == ["dbt build", "dbt build"]


# While dbt runs -------------------------------------------------------------------------------------------------------

SCRIPT = f"write('manifest.json', **{MANIFEST!r}); build('model.shop.a'); build('model.shop.b', 'error'); sys.exit(1)"


def run(tmp_path: Path, *options: str, script: str = SCRIPT, **env: str) -> Result:
    fake = FakeDbt.make(tmp_path)
    where = ("--ledger", str(tmp_path / "ledger"), "--project-dir", str(fake.project), "--run-id", "run-1")
    return CliRunner().invoke(main, ["run", *where, *options, "--", str(fake.path), "build"], env={"FAKE_DBT": script, **env})


@pytest.mark.parametrize("sampled", [True, False])
def test_the_span_within_which_dbt_is_started_is_above_its_own(tmp_path: Path, sink: Sink, sampled: bool) -> None:
    """As that of the producer's task is in Airflow; one that nobody records would leave the others without a root."""
    tracer = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF, shutdown_on_exit=False).get_tracer("airflow")
    with tracer.start_as_current_span("worker.dbt_producer_watcher") as span:
        assert run(tmp_path, "--emit", "otel", OTEL_EXPORTER_OTLP_ENDPOINT=sink.url).exit_code == 1
    around = span.get_span_context()
    [attempt] = [one for one in sink.spans if one.name.endswith("build")]
    below = {one.name for one in sink.spans if one.parent_span_id == attempt.span_id}
    assert below == {"model a", "model b"}
    assert ({one.trace_id.hex() for one in sink.spans} == {f"{around.trace_id:032x}"}) is sampled
    assert (attempt.parent_span_id.hex() == f"{around.span_id:016x}") is sampled


@pytest.mark.parametrize("asked", [("--emit", "openlineage", "--emit", "otel"), ()])
def test_both_are_told_while_dbt_runs_what_the_ledger_tells_later(tmp_path: Path, sink: Sink, asked: tuple[str, ...]) -> None:
    env = {"OPENLINEAGE_URL": sink.url, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
    env |= {} if asked else {"LEDGER_WATCHER_EMIT": "openlineage otel"}
    result = run(tmp_path, *asked, **env)
    assert result.exit_code == 1, result.stderr
    assert "Note:" not in result.stderr
    live = sorted(zip(sink.paths, sink.bodies, strict=True))
    events = [json.loads(body) for path, body in live if path == "/api/v1/lineage"]
    assert len(events) == 6
    assert {one["name"] for event in by(events, "model.shop.b") for one in event["inputs"]} == {"db.main.a"}, (
        "by the manifest that dbt wrote"
    )
    sink.bodies.clear()
    sink.paths.clear()
    for to in EMITTERS:
        assert emit(to, tmp_path / "ledger", **env).exit_code == 0
    again = sorted(zip(sink.paths, sink.bodies, strict=True))
    assert [body for path, body in again if "lineage" in path] == [body for path, body in live if "lineage" in path]
    assert spans_of(again) == spans_of(live)


def spans_of(posted: list[tuple[str, bytes]]) -> list[bytes]:
    sink = Sink.__new__(Sink)
    sink.bodies = [body for path, body in posted if path == "/v1/traces"]
    return sorted(span.SerializeToString() for span in sink.spans)


NO_RETRIES = {"OPENLINEAGE__TRANSPORT__TYPE": "http", "OPENLINEAGE__TRANSPORT__RETRY": '{"total": 0}'}


def test_a_service_that_refuses_changes_nothing(tmp_path: Path, sink: Sink) -> None:
    sink.status = 400
    env = {**NO_RETRIES, "OPENLINEAGE__TRANSPORT__URL": sink.url, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
    result = run(tmp_path, "--emit", "openlineage", "--emit", "otel", script="build('model.shop.a')", **env)
    assert result.exit_code == 0
    assert "Note: openlineage: 4 records were not told: " in result.stderr
    assert "Note: otel: 2 spans could not be exported" in result.stderr
    assert "Ledger ended with" in result.stderr
    assert emit("openlineage", tmp_path / "ledger", **env).exit_code == 3
    assert emit("otel", tmp_path / "ledger", **env).exit_code == 3


def test_a_service_that_does_not_answer_is_not_waited_for(tmp_path: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """dbt has ended and the ledger has its end while the first request still hangs."""
    monkeypatch.setattr(relay_module, "GRACE", 0.0)
    monkeypatch.setattr(relay_module, "PATIENCE", 0.2)
    sink.free.clear()
    result = run(tmp_path, "--emit", "openlineage", **NO_RETRIES, OPENLINEAGE__TRANSPORT__URL=sink.url)
    assert result.exit_code == 1
    assert "openlineage: not everything was sent within 0.2 s" in result.stderr
    assert "Ledger ended with" in result.stderr


def test_without_a_place_to_send_to_the_run_goes_on_and_says_so(tmp_path: Path) -> None:
    result = run(tmp_path, "--emit", "openlineage", "--emit", "otel")
    assert result.exit_code == 1
    assert "Note: openlineage could not be set up: OpenLineage has no transport: set OPENLINEAGE_URL" in result.stderr
    assert "Note: otel could not be set up: OpenTelemetry has nowhere to send spans to: set OTEL_EXPORTER_OTLP_ENDPOINT" in result.stderr


@pytest.mark.parametrize(
    ("to", "env", "says"),
    [
        (
            "otel",
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "Spans are sent with http/protobuf, not grpc",
        ),
        ("otel", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "TRACEPARENT": "nonsense"}, "TRACEPARENT is not one of W3C Trace Context"),
        ("openlineage", {"OPENLINEAGE_URL": "http://x", "OPENLINEAGE_PARENT_ID": "a/b/c"}, "OPENLINEAGE_PARENT_ID is namespace/job/run id"),
    ],
)
def test_settings_that_are_no_good_are_named(root: Path, to: str, env: dict[str, str], says: str) -> None:
    result = emit(to, root, **env)
    assert result.exit_code == 3
    assert says in result.stderr


def test_what_is_wrong_before_dbt_starts_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = run(tmp_path, "--emit", "datadog")
    assert (unknown.exit_code, unknown.stderr.count("\n")) == (3, 1)
    assert "There is no emitter 'datadog'" in unknown.stderr
    monkeypatch.setitem(EMITTERS, "otel", "opentelemetry.no_such_module")  # type: ignore[arg-type]
    (tmp_path / "again").mkdir()
    missing = run(tmp_path / "again", "--emit", "otel")
    assert missing.exit_code == 3
    assert "pip install 'ledger-watcher[otel]'" in missing.stderr
    assert not list(tmp_path.rglob("seg")), "nothing was begun"


# The relay ------------------------------------------------------------------------------------------------------------


class Odd:
    """An emitter that fails when it is told to."""

    def __init__(self, fails: Callable[[int], bool]) -> None:
        self.fails = fails
        self.taken = 0

    def take(self, entry: Entry) -> None:
        self.taken += 1
        if self.fails(self.taken):
            raise ValueError(f"number {self.taken}")

    def close(self, timeout: float) -> list[str]:
        return []


@pytest.mark.parametrize(
    ("fails", "taken", "problems"),
    [
        (lambda _: False, 20, []),
        (lambda number: number == 3, 20, ["odd: 1 records were not told: ValueError: number 3"]),
        (
            lambda number: number > 4,
            9,
            ["odd gave up after 5 failures one after another", "odd: 5 records were not told: ValueError: number 5"],
        ),
    ],
)
def test_failures_are_counted_and_many_in_a_row_end_it(fails: Callable[[int], bool], taken: int, problems: list[str]) -> None:
    odd = Odd(fails)
    relay = Relay("odd", lambda: odd)
    relay.put(Entry(0, 1, starts("a")) for _ in range(20))
    assert relay.close() == problems
    assert odd.taken == taken


def test_what_does_not_fit_is_counted_and_logs_are_not_told() -> None:
    odd, go = Odd(lambda _: False), threading.Event()

    def make() -> Odd:
        go.wait(PATIENCE)
        return odd

    relay = Relay("odd", make, most_waiting=3)
    relay.put([Entry(0, 1, log("a", "line")), *(Entry(0, 1, starts("a")) for _ in range(5))])
    go.set()
    assert relay.close() == ["odd: 2 records were left out, others waited for too long"]
    assert odd.taken == 3


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"nodes": {"a": 1}, "sources": null, "metadata": 3}'])
def test_an_odd_manifest_has_no_edges(data: bytes) -> None:
    assert Origin(RUN, lambda: data).graph.inputs("a") == []


def test_edges_that_go_round_end() -> None:
    assert Graph({"a": ["b"], "b": ["a", "c"]}, {"c": "db.c"}).inputs("a") == ["db.c"]
