"""The kitchen sink, for real: every dbt-core, DuckDB and PostgreSQL, dbt as a process and in-process, beside plain dbt."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ledger_watcher.records import EndedBy, Log, NodeFinished, NodeProgress, NodeStarted, Outcome, bounded_message
from tests.dbt.lab import ADAPTERS, CORE, MODES, Captured, Installation, Lab, Project, kitchen_command

SINCE = {version: Installation(version).since for version in CORE}
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
TESTS = ("test", "unit_test")


def plain(project: Project) -> tuple[Project, int]:
    return project, project.dbt(*kitchen_command(project.installation.version)).returncode


def captured(project: Project, mode: str) -> Captured:
    return Captured.of(project, kitchen_command(project.installation.version), mode=mode)


def start(lab: Lab, version: str, adapter: str) -> None:
    """All runs of one version and adapter, side by side."""
    lab.start((version, adapter, "plain"), lambda: plain(lab.kitchen(version, adapter, "plain")))
    for mode in MODES:
        lab.start((version, adapter, mode), lambda mode=mode: captured(lab.kitchen(version, adapter, mode), mode))


@pytest.fixture(scope="module", params=[(v, a, m) for v in CORE for a in ADAPTERS for m in MODES], ids="-".join)
def case(request: pytest.FixtureRequest, lab: Lab) -> tuple[str, str, str]:
    version, adapter, mode = request.param
    start(lab, version, adapter)
    return version, adapter, mode


@pytest.fixture(scope="module")
def run(case: tuple[str, str, str], lab: Lab) -> Captured:
    found: Captured = lab.result(case)
    return found


@pytest.fixture(scope="module")
def beside(case: tuple[str, str, str], lab: Lab) -> tuple[Project, int]:
    found: tuple[Project, int] = lab.result((*case[:2], "plain"))
    return found


def test_the_exit_code_is_plain_dbts(run: Captured, beside: tuple[Project, int]) -> None:
    assert (run.code, beside[1]) == (1, 1), run.process.stderr
    finished = run.attempt.finished
    assert finished is not None
    assert (finished.exit_code, finished.ended_by, finished.message, finished.incomplete) == (1, EndedBy.EXIT, None, None)
    assert "Note: " not in run.process.stderr


def test_dbt_did_what_it_does_without_a_ledger(run: Captured, beside: tuple[Project, int]) -> None:
    """Every status and failure count, and the lines of the console but for their order and their times."""
    project, _ = beside
    assert {k: (r["status"], r["failures"]) for k, r in run.project.results.items()} == {
        k: (r["status"], r["failures"]) for k, r in project.results.items()
    }
    assert run.project.artifact("run_results.json")["args"].get("which") == "build"


def test_the_records_are_run_results(run: Captured) -> None:
    """Node by node, hook by hook; times within a 32-bit float."""
    for unique_id, result in run.project.results.items():
        if unique_id.startswith("operation."):
            continue
        record = run.finished[unique_id]
        assert (record.status, record.outcome) == (result["status"], OUTCOMES[result["status"]]), unique_id
        assert record.message == bounded_message(result["message"]), unique_id
        assert record.execution_time == pytest.approx(result["execution_time"], rel=1e-6, abs=1e-6), unique_id
        assert (record.adapter_response or {}) == result["adapter_response"], unique_id
        rows = result["adapter_response"].get("rows_affected")
        assert record.rows_affected == (None if rows is None or rows < 0 else rows), unique_id
        assert record.failures == (result["failures"] if record.resource_type in TESTS else None), unique_id
        assert record.relation == result["relation_name"] or record.resource_type == "seed", unique_id
        assert record.source == "event", unique_id


def test_hooks_are_run_results(run: Captured, case: tuple[str, str, str]) -> None:
    """The run_results.json of 1.8 has no hooks: the events alone tell of them there, without a message."""
    assert sorted(hook.split("-", 1)[1][:-2] for hook in run.hooks) == ["on-run-end"] + ["on-run-start"] * (len(run.hooks) - 1)
    assert len(run.hooks) == (3 if case[1] == "duckdb" else 4)
    assert {hook.outcome for hook in run.hooks.values()} == {Outcome.SUCCESS}
    assert all(hook.execution_time for hook in run.hooks.values())
    results = {unique_id: result for unique_id, result in run.project.results.items() if unique_id.startswith("operation.")}
    assert set(results) == (set(run.hooks) if SINCE[case[0]] >= (1, 9) else set())
    for unique_id, result in results.items():
        hook = run.hooks[unique_id]
        assert (result["status"], hook.message) == ("success", result["message"])
        assert hook.execution_time == pytest.approx(result["execution_time"], rel=1e-6, abs=1e-6)


def test_every_node_of_the_manifest_is_accounted_for(run: Captured, case: tuple[str, str, str]) -> None:
    """All that a build visits has one result, and nothing else has one. Exposures are visited (as a no-op) from 1.10 on."""
    manifest = run.project.artifact("manifest.json")
    sections: list[dict[str, Any]] = [manifest["nodes"], manifest["unit_tests"], manifest.get("functions", {}), manifest["saved_queries"]]
    if SINCE[case[0]] >= (1, 10):
        sections.append(manifest["exposures"])
    expected = {k for s in sections for k, node in s.items() if node["resource_type"] not in ("analysis", "operation", "sql_operation")}
    assert set(run.finished) == expected
    ends = [record.unique_id for record in run.records if isinstance(record, NodeFinished)]
    assert len(ends) == len(set(ends))
    starts = [record.unique_id for record in run.records if isinstance(record, NodeStarted)]
    assert sorted(starts) == sorted(expected)
    rows = {row["unique_id"]: row["state"] for row in run.show()["nodes"]}
    assert rows == {unique_id: record.outcome.value for unique_id, record in run.finished.items()}


def test_the_ledger_verifies(run: Captured) -> None:
    end = re.search(r"Ledger ended with ([0-9a-f]{64})", run.process.stderr)
    assert end is not None, run.process.stderr
    checked = run.cli("verify", "--anchor", end[1])
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.startswith("ok ")
    assert "2 artifacts" in checked.stdout
    assert "anchored" in checked.stdout


def test_no_password_is_in_the_ledger(run: Captured, lab: Lab) -> None:
    assert lab.postgres.password.encode() not in run.bytes()


def test_skips_name_their_causes(run: Captured, case: tuple[str, str, str]) -> None:
    """A failed model, test, unit test, or microbatch model above. What the causes are is dbt's word from 1.9 on, the graph's in 1.8."""
    finished = run.finished
    causes = {
        "model.kitchen.down1": {"model.kitchen.bad_model"},
        "model.kitchen.down2": {"model.kitchen.bad_model"},
        "model.kitchen.after_ut_bad": {"unit_test.kitchen.ut_bad.ut_fails"},
        "model.kitchen.ut_bad": {"unit_test.kitchen.ut_bad.ut_fails"},
        "model.kitchen.after_partial": {"model.kitchen.mb_partial"},
    }
    for unique_id, record in finished.items():
        if unique_id in causes:
            assert (record.outcome, set(record.skip_cause)) == (Outcome.SKIPPED, causes[unique_id]), unique_id
        elif record.outcome is Outcome.SKIPPED:
            assert record.skip_cause, unique_id
            assert all(finished[cause].outcome is Outcome.FAILED for cause in record.skip_cause), unique_id
        else:
            assert record.skip_cause == (), unique_id
    (cause,) = finished["model.kitchen.after_tested_err"].skip_cause
    assert cause.startswith("test.kitchen.not_null_tested_err_n.")


def test_microbatch_has_its_batches_and_one_end(run: Captured, case: tuple[str, str, str]) -> None:
    """A batch that fails makes a partial success, which is a failure: dbt skips what is below."""
    unique_id = "model.kitchen.mb_partial"
    record = run.finished[unique_id]
    assert record.outcome is Outcome.FAILED
    progress = run.of_kind(NodeProgress, unique_id)
    if SINCE[case[0]] < (1, 9):
        assert (record.status, progress) == ("error", [])
        return
    assert record.status == "partial success"
    assert [(batch.index, batch.total) for batch in progress] == [(1, 3), (2, 3), (3, 3)]
    said = run.project.results[unique_id]["batch_results"]
    assert [batch.status for batch in progress].count("success") == len(said["successful"]) > 0
    assert [batch.status for batch in progress].count("error") == len(said["failed"]) > 0
    assert all(batch.execution_time is not None for batch in progress)
    assert len(run.of_kind(NodeStarted, unique_id)) == 1


def test_special_nodes(run: Captured) -> None:
    finished = run.finished
    assert {"model.kitchen.ver_model.v1", "model.kitchen.ver_model.v2"} <= set(finished)
    assert (finished["model.kitchen.eph"].outcome, finished["model.kitchen.eph"].materialized) == (Outcome.SUCCESS, "ephemeral")
    assert finished["snapshot.kitchen.snap"].outcome is Outcome.SUCCESS
    assert finished["snapshot.kitchen.bad_snap"].outcome is Outcome.FAILED
    assert finished["seed.kitchen.raw_items"].outcome is Outcome.SUCCESS
    assert finished["seed.kitchen.bad_seed"].outcome is Outcome.FAILED
    assert finished["model.kitchen.bad_hook"].outcome is Outcome.FAILED
    assert "no_such_column_in_a_hook" in (finished["model.kitchen.bad_hook"].message or "")
    assert finished["model.kitchen.hooked"].outcome is Outcome.SUCCESS
    words = finished["model.kitchen.bad_words"].message or ""
    assert "Schöne Fehler:" in words
    assert "zwei Zeilen, 100 %, 'quoted' \"twice\"" in words
    (log,) = run.of_kind(Log, "model.kitchen.stored")
    assert any(line.endswith("  a line of stored: äß€") for line in log.lines)


def test_tests_count_their_failures(run: Captured) -> None:
    """Also those that store the failing rows."""
    tests = {record.name: record for record in run.finished.values() if record.resource_type in TESTS}
    assert (tests["not_null_stored_n"].relation or "").endswith('"not_null_stored_n"')
    assert (tests["not_null_stored_n"].outcome, tests["not_null_stored_n"].failures) == (Outcome.FAILED, 3)
    assert (tests["not_null_stored_id"].outcome, tests["not_null_stored_id"].failures) == (Outcome.SUCCESS, 0)
    warned = tests["accepted_values_stored_id__1"]
    assert (warned.outcome, warned.failures) == (Outcome.WARN, 2)
    assert (tests["ut_fails"].outcome, tests["ut_fails"].failures) == (Outcome.FAILED, 1)
    assert (tests["ut_ok"].outcome, tests["ut_ok"].failures) == (Outcome.SUCCESS, 0)
