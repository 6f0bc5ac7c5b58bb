"""The parser over recorded streams: dbt-core 1.8 to 1.12, Fusion, callbacks, and runs that ended badly."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_watcher import codec
from ledger_watcher.capture import EventParser, reconcile, wanted_line
from ledger_watcher.capture.event import LOG_LINES
from ledger_watcher.capture.events import WANTED
from ledger_watcher.ledger import Entry
from ledger_watcher.records import (
    AttemptStarted,
    DbtStarted,
    HookFinished,
    Log,
    NodeFinished,
    NodeProgress,
    NodeStarted,
    Outcome,
    Record,
    bounded_message,
)
from ledger_watcher.state import RunState
from tests.core.streams import VERSIONS, Parsed, events, graph, lines, parse, parse_build, run_results

OUTCOMES = {
    "success": Outcome.SUCCESS,
    "pass": Outcome.SUCCESS,
    "warn": Outcome.WARN,
    "error": Outcome.FAILED,
    "fail": Outcome.FAILED,
    "partial success": Outcome.FAILED,
    "skipped": Outcome.SKIPPED,
    "no-op": Outcome.NOOP,
}
CAUSES = {
    "model.kitchen.down1": ("model.kitchen.bad_model",),
    "model.kitchen.down2": ("model.kitchen.bad_model",),
    "test.kitchen.not_null_down1_id.23b72f4a0c": ("model.kitchen.bad_model",),
    "model.kitchen.after_tested_err": ("test.kitchen.not_null_tested_err_n.a7c85b4600",),
    "model.kitchen.ut_bad": ("unit_test.kitchen.ut_bad.ut_fails",),
    "model.kitchen.after_ut_bad": ("unit_test.kitchen.ut_bad.ut_fails",),
    "model.kitchen.uses_fn": ("function.kitchen.add_one",),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_records_say_what_run_results_says(version: str) -> None:
    """Status, outcome, message and failures of every node are those of that version's run_results.json."""
    parsed = parse_build(version)
    assert parsed.parser.problems == []
    finished = parsed.finished
    expected = {
        result["unique_id"]: result for result in run_results(version)["results"] if not result["unique_id"].startswith("operation")
    }
    assert set(finished) == {*expected, "model.kitchen.eph"}  # an ephemeral model has events, and no place in run_results.json
    for unique_id, result in expected.items():
        record = finished[unique_id]
        assert record.status == result["status"], unique_id
        assert record.outcome is OUTCOMES[result["status"]], unique_id
        assert record.message == bounded_message(result["message"]), unique_id
        assert record.relation == result["relation_name"] or record.resource_type == "seed", unique_id
        if record.resource_type in ("test", "unit_test"):
            assert record.failures == result["failures"], unique_id
        else:
            assert record.failures is None, unique_id


@pytest.mark.parametrize("version", VERSIONS)
def test_hooks(version: str) -> None:
    hooks = parse_build(version).hooks
    assert len(hooks) == 3
    assert {hook.outcome for hook in hooks.values()} == {Outcome.SUCCESS}
    assert all(hook.execution_time for hook in hooks.values())


@pytest.mark.parametrize("version", [*VERSIONS, "fusion"])
def test_skips_name_the_failures_that_caused_them(version: str) -> None:
    """1.8 does not say MarkSkippedChildren: there every failed node above counts."""
    finished = parse_build(version).finished
    skipped = {unique_id: record.skip_cause for unique_id, record in finished.items() if record.outcome is Outcome.SKIPPED}
    assert skipped == {unique_id: CAUSES[unique_id] for unique_id in skipped}
    assert len(skipped) >= 6


@pytest.mark.parametrize("version", VERSIONS)
def test_times_are_utc_and_in_order(version: str) -> None:
    parsed = parse_build(version)
    for record in parsed.finished.values():
        assert record.started_at is not None
        assert record.started_at.tzinfo is timezone.utc
        if record.outcome is Outcome.SKIPPED:
            assert record.finished_at is None  # core leaves it empty
        else:
            assert record.finished_at is not None
            assert record.started_at <= record.finished_at <= record.ts
    starts = {record.unique_id: record for record in parsed.records if isinstance(record, NodeStarted)}
    assert set(starts) == set(parsed.finished)
    assert all(starts[unique_id].started_at == record.started_at for unique_id, record in parsed.finished.items())


@pytest.mark.parametrize("version", ["1.9", "1.10", "1.11", "1.12"])
def test_a_microbatch_model_has_one_start_its_batches_and_one_end(version: str) -> None:
    """Each batch starts and finishes under the model's own id."""
    parsed = parse_build(version)
    mine = [record for record in parsed.records if getattr(record, "unique_id", None) == "model.kitchen.mb"]
    assert [type(record) for record in mine] == [NodeStarted, NodeProgress, NodeProgress, NodeProgress, Log, NodeFinished]
    batches = [record for record in mine if isinstance(record, NodeProgress)]
    assert [(batch.index, batch.total) for batch in batches] == [(1, 3), (2, 3), (3, 3)]
    assert [batch.status for batch in batches] == (["success", "error", "error"] if version == "1.9" else ["success"] * 3)
    end = parsed.finished["model.kitchen.mb"]
    assert end.execution_time is not None
    assert end.execution_time >= max(batch.execution_time or 0 for batch in batches)
    assert end.outcome is (Outcome.FAILED if version == "1.9" else Outcome.SUCCESS)


def test_callbacks_and_standard_output_make_the_same_records() -> None:
    """Two runs of one project: all but times, threads and colours is equal, although callback dicts leave default values out."""
    stdout, callback = parse_build("1.11"), parse("callback-1.11", parents=lambda: graph("1.11"))

    def timeless(record: NodeFinished) -> tuple[Any, ...]:
        return (
            record.outcome,
            record.status,
            record.message,
            record.failures,
            record.relation,
            record.materialized,
            record.skip_cause,
            record.adapter_response,
        )

    assert {k: timeless(v) for k, v in stdout.finished.items()} == {k: timeless(v) for k, v in callback.finished.items()}
    assert {k: v.outcome for k, v in stdout.hooks.items()} == {k: v.outcome for k, v in callback.hooks.items()}
    assert {k: len(v.lines) for k, v in stdout.logs.items()} == {k: len(v.lines) for k, v in callback.logs.items()}


def test_execution_times_are_those_of_run_results() -> None:
    """run_results-1.11 belongs to callback-1.11; events have 32-bit floats."""
    finished = parse("callback-1.11").finished
    for result in run_results("1.11")["results"]:
        if record := finished.get(result["unique_id"]):
            assert record.execution_time == pytest.approx(result["execution_time"], rel=1e-6)
            assert record.thread == result["thread_id"]


@pytest.mark.parametrize(("version", "threads"), [("1.8", 4), ("1.11", 4), ("fusion", None)])
def test_dbt_says_what_it_is(version: str, threads: int | None) -> None:
    last = parse_build(version).of(DbtStarted)[-1]
    assert isinstance(last, DbtStarted)
    assert last.dbt_version is not None
    assert last.dbt_version.startswith("2.0.0" if version == "fusion" else f"{version}.")
    assert last.invocation_id
    assert (last.threads, last.target) == (threads, "dev" if threads else None)


def test_fusion() -> None:
    """Fusion's results have no message; its errors are Generic events. A message is what its run_results.json will say."""
    parsed = parse_build("fusion")
    assert parsed.parser.problems == []
    finished = parsed.finished
    bad = finished["model.kitchen.bad_compile"]
    assert bad.outcome is Outcome.FAILED
    assert bad.message is not None
    assert bad.message.startswith("Failed to render SQL invalid operation: Compilation Error for model.kitchen.bad_compile")
    assert bad.message.endswith("(in models/bad/bad_compile.sql:1:14)")
    assert finished["model.kitchen.eph"].outcome is Outcome.NOOP
    assert finished["unit_test.kitchen.ut_bad.ut_fails"].failures == 1
    assert finished["model.kitchen.mb"].outcome is Outcome.SUCCESS
    assert parsed.hooks["operation.kitchen.kitchen-on-run-start-0"].outcome is Outcome.SUCCESS


def test_fusion_names_causes_when_its_manifest_comes_at_the_end() -> None:
    """A skip without a cause is recorded once more by close()."""
    manifest: dict[str, Sequence[str]] = {}
    parser = EventParser(parents=lambda: manifest)
    live = [record for event in events("build-fusion") for record in parser.feed(event)]
    skipped = [record for record in live if isinstance(record, NodeFinished) and record.outcome is Outcome.SKIPPED]
    assert {record.skip_cause for record in skipped} == {()}
    manifest.update(graph("fusion"))
    late = [record for record in parser.close() if isinstance(record, NodeFinished)]
    assert {record.unique_id: record.skip_cause for record in late} == {record.unique_id: CAUSES[record.unique_id] for record in skipped}
    assert parser.close() == []


# Logs -----------------------------------------------------------------------------------------------------------------


def test_a_log_comes_just_before_its_result_and_has_no_colours() -> None:
    parsed = parse_build("1.11")
    for place, record in enumerate(parsed.records):
        if isinstance(record, Log):
            after = parsed.records[place + 1]
            assert isinstance(after, NodeFinished)
            assert after.unique_id == record.unique_id
            assert not any("\x1b" in line for line in record.lines)
    lines_of_ok = parsed.logs["model.kitchen.ok_table"].lines
    assert [line[10:].split(" sql table")[0] for line in lines_of_ok] == ["13 of 39 START", "13 of 39 OK created"]
    assert datetime.strptime(lines_of_ok[0][:8], "%H:%M:%S")  # noqa: DTZ007 - the shape is what counts
    assert lines_of_ok[1].endswith("[OK in 0.12s]")


def test_a_log_is_bounded() -> None:
    parser = EventParser()
    info = {"name": "JinjaLogInfo", "level": "info", "msg": "hello", "ts": "2026-01-01T00:00:00Z"}
    for _ in range(LOG_LINES + 7):
        assert parser.feed({"info": info, "data": {"node_info": {"unique_id": "model.a.b"}}}) == []
    (log,) = parser.close()
    assert isinstance(log, Log)
    assert (len(log.lines), log.dropped) == (LOG_LINES, 7)
    assert log.lines[0] == "00:00:00  hello"

    parser = EventParser()
    for _ in range(3):
        parser.feed({"info": {**info, "msg": "x" * 40_000}, "data": {"node_info": {"unique_id": "model.a.b"}}})
    (log,) = parser.close()
    assert isinstance(log, Log)
    assert (len(log.lines), log.dropped) == (1, 2)


# Runs that ended badly ------------------------------------------------------------------------------------------------


def test_fail_fast() -> None:
    """Only what ran has a record; what was never started is for run_results.json to tell."""
    finished = parse("fail-fast-1.11", parents=lambda: graph("1.11")).finished
    assert {unique_id: record.status for unique_id, record in finished.items()} == {
        "function.kitchen.add_one": "error",
        "model.kitchen.bad_compile": "error",
        "model.kitchen.metricflow_time_spine": "success",
        "model.kitchen.ver_model.v1": "success",
        "model.kitchen.ver_model.v2": "success",
        "seed.kitchen.raw_items": "success",
    }


def test_on_run_start_fails() -> None:
    """1.12 starts no node then and says only SkippingDetails: dbt's word that they are skipped, because of the hook."""
    parsed = parse("on-run-start-fails-1.12", parents=lambda: graph("1.12"))
    assert parsed.hooks["operation.kitchen.kitchen-on-run-start-0"].outcome is Outcome.FAILED
    assert parsed.hooks["operation.kitchen.kitchen-on-run-start-1"].outcome is Outcome.SKIPPED
    assert len(parsed.finished) == 19
    for record in parsed.finished.values():
        assert (record.outcome, record.status) == (Outcome.SKIPPED, "skipped")
        assert record.skip_cause == ("operation.kitchen.kitchen-on-run-start-0",)
    assert parsed.parser.error == "'Exposure' object has no attribute 'schema'"


def test_on_run_start_fails_in_1_8() -> None:
    """It runs the nodes all the same, and says the failure in an event that names no hook, its text in another one at the end."""
    parsed = parse("on-run-start-fails-1.8")
    records = [record for record in parsed.records if isinstance(record, HookFinished)]
    assert [(record.unique_id[-1], record.outcome, record.status) for record in records] == [
        ("0", Outcome.SUCCESS, "success"),
        ("1", Outcome.FAILED, "error"),
        ("1", Outcome.FAILED, "error"),
    ]
    assert records[1].message is None
    assert (records[2].message or "").startswith('on-run-start failed, error:\n column "no_such_column_in_a_hook" does not exist')
    assert parsed.records.index(records[1]) < parsed.records.index(next(r for r in parsed.records if isinstance(r, NodeStarted)))
    assert {record.outcome for record in parsed.finished.values()} == {Outcome.SUCCESS, Outcome.WARN}
    assert parsed.parser.problems == []


def test_parse_error() -> None:
    parsed = parse("parse-error-1.11")
    assert parsed.finished == {}
    assert parsed.parser.error is not None
    assert "depends on a node named 'missing_model' which was not found" in parsed.parser.error


@pytest.mark.parametrize(
    ("stream", "outcomes", "error"),
    [
        ("sigint-1.11", {"slow_1": "error"}, None),
        ("sigint-fusion", {"slow_1": "error"}, "Operation cancelled"),
        ("sigterm-1.11", {}, None),
        ("sigterm-fusion", {}, None),
        ("sigkill-1.11", {}, None),
        ("sigkill-fusion", {}, None),
    ],
)
def test_interrupted(stream: str, outcomes: dict[str, str], error: str | None) -> None:
    """SIGINT: the running node gets its error. SIGTERM, SIGKILL: it has a start, its lines so far, and no result."""
    parsed = parse(stream)
    finished = {record.name: record.status for record in parsed.finished.values()}
    assert len([status for status in finished.values() if status == "success"]) == 4
    assert {name: status for name, status in finished.items() if status != "success"} == outcomes
    assert parsed.parser.error == error
    started = {record.name for record in parsed.records if isinstance(record, NodeStarted)}
    assert started == {*finished, "slow_1"}
    assert "model.slow.slow_1" in parsed.logs


def test_source_freshness() -> None:
    record = parse("source-freshness-1.11").finished["source.kitchen.ext.raw_ext"]
    assert (record.outcome, record.status, record.resource_type, record.failures) == (Outcome.SUCCESS, "pass", "source", None)


# Odd and hostile input --------------------------------------------------------------------------------------------------


def finished_event(**result: object) -> dict[str, Any]:
    node = {"unique_id": "model.a.b", "resource_type": "model", "node_started_at": "2026-01-01T00:00:00"}
    return {"info": {"name": "NodeFinished", "ts": "2026-01-01T00:00:01Z"}, "data": {"node_info": node, "run_result": result}}


@pytest.mark.parametrize(("status", "outcome", "ok"), [("reused", Outcome.REUSED, True), ("cancelled", Outcome.CANCELLED, False)])
def test_words_that_no_recorded_run_has(status: str, outcome: Outcome, ok: bool) -> None:
    """An event of Fusion's with the words that its state-aware builds (and dbt 1.12's) have; the message comes from run_results.json."""
    event = next(
        e for e in events("build-fusion") if e["info"]["name"] == "NodeFinished" and e["data"]["run_result"]["status"] == "success"
    )
    event["data"]["run_result"]["status"] = event["data"]["node_info"]["node_status"] = status
    parser = EventParser()
    records = parser.feed(event)
    record = records[-1]
    assert isinstance(record, NodeFinished)
    assert (record.outcome, record.status, record.outcome.ok, record.message) == (outcome, status, ok, None)
    assert parser.problems == []
    (filled,) = reconcile(
        state_of(Parsed(parser, records)), {"results": [{"unique_id": record.unique_id, "status": status, "message": "No changes"}]}
    )
    assert isinstance(filled, NodeFinished)
    assert (filled.outcome, filled.message, filled.skip_cause) == (outcome, "No changes", ())
    (alone,) = reconcile(state_of(Parsed(parser, [])), {"results": [{"unique_id": record.unique_id, "status": status}]})
    assert isinstance(alone, NodeFinished)
    assert alone.outcome is outcome


def test_an_unknown_status_counts_as_failed_and_is_reported() -> None:
    parser = EventParser()
    (record,) = parser.feed(finished_event(status="postponed"))
    assert isinstance(record, NodeFinished)
    assert (record.outcome, record.status) == (Outcome.FAILED, "postponed")
    assert parser.problems == ["model.a.b has the unknown status 'postponed' and counts as failed; a newer ledger-watcher may know it"]


@pytest.mark.parametrize(
    ("response", "rows", "query"),
    [
        ({"_message": "SUCCESS 3", "code": "SUCCESS", "rows_affected": 3, "query_id": "01b2"}, 3, "01b2"),
        ({"_message": "INSERT 0 3", "rows_affected": 3.0}, 3, None),
        ({"_message": "CREATE VIEW", "rows_affected": -1}, None, None),
        ({"rows_inserted": 2, "rows_updated": 3, "rows_deleted": 0}, 5, None),
        ({"job_id": "job-1", "bytes_billed": 10}, None, "job-1"),
        ({"rows_affected": "12"}, 12, None),
        ({"rows_affected": True, "query_id": ""}, None, None),
        ({}, None, None),
        ("odd", None, None),
    ],
)
def test_adapter_responses(response: object, rows: int | None, query: str | None) -> None:
    (record,) = EventParser().feed(finished_event(status="success", adapter_response=response))
    assert isinstance(record, NodeFinished)
    assert (record.rows_affected, record.query_id) == (rows, query)


def test_sql_in_an_adapter_response_is_not_kept() -> None:
    (record,) = EventParser().feed(finished_event(status="success", adapter_response={"query": "select 'x'", "query_id": "q"}))
    assert isinstance(record, NodeFinished)
    assert record.adapter_response == {"query_id": "q"}


def test_a_second_result_of_a_node_is_ignored() -> None:
    parser = EventParser()
    assert len(parser.feed(finished_event(status="success"))) == 1
    assert parser.feed(finished_event(status="error")) == []


def test_a_manifest_that_cannot_be_read_costs_only_the_cause() -> None:
    def broken() -> dict[str, list[str]]:
        raise OSError("disk")

    parser = EventParser(parents=broken)
    records = [record for event in events("build-1.11") for record in parser.feed(event)]
    skipped = [record for record in records if isinstance(record, NodeFinished) and record.outcome is Outcome.SKIPPED]
    assert len(skipped) == 7
    assert parser.problems == ["the causes of skips could not be found: OSError: disk"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["unique_id", "node_started_at", "node_status", "node_relation", "resource_type"])
DATA = st.sampled_from(["node_info", "run_result", "status", "batch_index", "total_batches", "num_threads", "exc", "version", "unique_id"])


@given(
    name=st.sampled_from(sorted(WANTED)) | st.text(max_size=5),
    info=st.dictionaries(st.sampled_from(["ts", "level", "msg", "invocation_id"]), JSON),
    data=JSON | st.dictionaries(DATA, JSON | st.dictionaries(FIELDS, JSON)),
)
def test_nothing_makes_it_raise(name: str, info: dict[str, Any], data: object) -> None:
    parser = EventParser(parents=dict)
    for event in ({"info": {**info, "name": name}, "data": data}, {"info": info}, {"info": name}, {name: data}, data):
        for record in parser.feed(event):  # type: ignore[arg-type]
            codec.decode(codec.encode(record))
    assert all(isinstance(problem, str) for problem in parser.problems)


@given(st.data())
def test_damaged_events_make_it_neither_raise_nor_lie(data: st.DataObject) -> None:
    """Any field of a real event replaced by anything: at worst the event is a problem."""
    wanted = [event for event in events("build-1.12") if event["info"]["name"] in WANTED]
    event = codec.loads(codec.dumps(data.draw(st.sampled_from(wanted))))
    place = data.draw(st.sampled_from(["info", "data"]))
    inner = event[place]
    while isinstance(inner, dict) and inner:
        key = data.draw(st.sampled_from(sorted(inner)))
        if not isinstance(inner[key], dict) or data.draw(st.booleans()):
            inner[key] = data.draw(JSON)
            break
        inner = inner[key]
    parser = EventParser()
    for record in parser.feed(event):
        codec.decode(codec.encode(record))


def test_secrets_never_get_in() -> None:
    """Events that hold SQL, arguments and stacks are not on the list, and what is kept goes through the mask."""
    assert not WANTED & {"MainReportArgs", "SQLQuery", "MainStackTrace", "CompiledNode", "ShowNode"}
    parser = EventParser(mask=lambda text: text.replace("boom", "*****"))
    records = [record for event in events("build-1.11") for record in parser.feed(event)]
    raw = b"\n".join(codec.encode(record) for record in records)
    assert b"boom" not in raw
    assert b"*****" in raw
    assert b"create or replace" not in raw.lower()


def test_the_prefilter_lets_every_wanted_event_through_and_little_else() -> None:
    for name in ("build-1.8", "build-1.12", "build-fusion"):
        for line in lines(name):
            if line.startswith(b"{"):
                assert wanted_line(line) == (codec.loads(line)["info"]["name"] in WANTED)


# run_results.json fills gaps ------------------------------------------------------------------------------------------


def state_of(parsed: Parsed) -> RunState:
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    started = AttemptStarted(ts=now, attempt=1, command=("dbt", "build"), invocation="subprocess", producer_started_at=now)
    state = RunState()
    everything: list[Record] = [started, *parsed.records]
    state.apply(Entry(0, 1, record) for record in everything)
    return state


@pytest.mark.parametrize("version", ["1.9", "1.10", "1.11", "1.12"])
def test_core_needs_only_the_messages_of_hooks(version: str) -> None:
    records = reconcile(state_of(parse_build(version)), run_results(version))
    assert {type(record).__name__ for record in records} == {"HookFinished"}
    assert len(records) == 3


def test_nothing_is_left_to_fill_the_second_time() -> None:
    state = state_of(parse_build("1.11"))
    state.apply(Entry(0, 1, record) for record in reconcile(state, run_results("1.11")))
    assert reconcile(state, run_results("1.11")) == []
    hook = state.attempts[1].hooks["operation.kitchen.kitchen-on-run-end-0"]
    assert (hook.message, hook.source) == ("kitchen.on-run-end.0 passed", "run_results")


def test_unstarted_nodes_come_from_run_results_and_results_stay() -> None:
    """Under --fail-fast core lists nodes that succeeded as skipped: the event stands."""
    state = state_of(parse("fail-fast-1.11"))
    results = [{**result, "status": "skipped", "message": "Skipping due to fail_fast"} for result in run_results("1.11")["results"]]
    state.apply(Entry(0, 1, record) for record in reconcile(state, {"results": results}))
    assert state.nodes["model.kitchen.ver_model.v1"].status == "success"
    assert state.nodes["model.kitchen.bad_compile"].status == "failed"
    unstarted = state.nodes["model.kitchen.ok_table"].finished
    assert unstarted is not None
    assert (unstarted.outcome, unstarted.message, unstarted.source) == (Outcome.SKIPPED, "Skipping due to fail_fast", "run_results")


def test_missing_fields_are_added_to_a_result_of_the_same_status() -> None:
    state = state_of(parse_build("fusion"))
    seed = {
        "unique_id": "seed.kitchen.raw_items",
        "status": "success",
        "message": "Succeeded",
        "execution_time": 99.0,
        "adapter_response": {"rows_affected": 3},
    }
    (record,) = reconcile(state, {"results": [seed]})
    assert isinstance(record, NodeFinished)
    assert (record.message, record.rows_affected, record.source) == ("Succeeded", 3, "run_results")
    assert record.execution_time != 99.0
    assert reconcile(state, {"results": [{**seed, "status": "error"}]}) == []


@given(JSON | st.fixed_dictionaries({"results": st.lists(st.dictionaries(st.sampled_from(["unique_id", "status", "timing"]), JSON))}))
def test_odd_run_results_do_no_harm(found: object) -> None:
    if isinstance(found, dict):
        reconcile(state_of(parse("parse-error-1.11")), found)
