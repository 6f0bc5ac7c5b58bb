"""The kitchen sink with the real dbt Fusion preview, on DuckDB, beside plain Fusion."""

from __future__ import annotations

import pytest

from ledger_watcher.records import EndedBy, NodeFinished, Outcome
from tests.dbt.lab import VERSIONS, Captured, Lab, Project, kitchen_command

pytestmark = pytest.mark.skipif("fusion" not in VERSIONS, reason="DBT_VERSIONS does not name fusion")
COMMAND = kitchen_command("fusion")


@pytest.fixture(scope="module")
def run(lab: Lab) -> Captured:
    return Captured.of(lab.kitchen("fusion", "duckdb", "captured"), COMMAND)


@pytest.fixture(scope="module")
def beside(lab: Lab) -> tuple[Project, int]:
    project = lab.kitchen("fusion", "duckdb", "plain")
    return project, project.dbt(*COMMAND).returncode


def test_the_exit_code_is_plain_dbts(run: Captured, beside: tuple[Project, int]) -> None:
    assert (run.code, beside[1]) == (1, 1), run.process.stdout + run.process.stderr
    finished = run.attempt.finished
    assert finished is not None
    assert (finished.exit_code, finished.ended_by, finished.incomplete) == (1, EndedBy.EXIT, None)
    assert "Note: " not in run.process.stderr
    assert run.attempt.dbt is not None
    assert (run.attempt.dbt.dbt_version or "").startswith("2.0.0")


def test_dbt_did_what_it_does_without_a_ledger(run: Captured, beside: tuple[Project, int]) -> None:
    assert {k: r["status"] for k, r in run.project.results.items()} == {k: r["status"] for k, r in beside[0].results.items()}


def test_the_records_are_run_results(run: Captured) -> None:
    """Events and run_results.json of Fusion have other words for two things: an ephemeral model and a unit test that fails."""
    words = {"model.kitchen.eph": ("no-op", "skipped"), "unit_test.kitchen.ut_bad.ut_fails": ("fail", "error")}
    for unique_id, result in run.project.results.items():
        record = run.finished[unique_id]
        assert (record.status, result["status"]) == words.get(unique_id, (result["status"],) * 2), unique_id
        if unique_id not in words and record.outcome is not Outcome.FAILED:
            assert record.message == result["message"], unique_id
        if record.resource_type == "test":
            assert record.failures == result.get("failures"), unique_id  # none for one that was skipped
        if record.outcome is Outcome.FAILED and record.resource_type not in ("test", "unit_test"):
            assert record.message, unique_id


def test_every_node_of_the_manifest_is_accounted_for(run: Captured) -> None:
    """Its run_results.json forgets a microbatch model of which a batch failed; the events do not."""
    manifest = run.project.artifact("manifest.json")
    sections = [manifest["nodes"], manifest["unit_tests"], manifest["functions"]]
    expected = {k for s in sections for k, node in s.items() if node["resource_type"] not in ("analysis", "operation", "sql_operation")}
    assert set(run.finished) == expected
    ends = [record.unique_id for record in run.records if isinstance(record, NodeFinished) and record.source == "event"]
    assert set(ends) == expected
    assert run.finished["model.kitchen.mb_partial"].outcome is Outcome.FAILED
    assert run.finished["model.kitchen.after_partial"].skip_cause == ("model.kitchen.mb_partial",)


def test_hooks(run: Captured) -> None:
    assert len(run.hooks) == 3
    assert {hook.outcome for hook in run.hooks.values()} == {Outcome.SUCCESS}


def test_the_ledger_verifies(run: Captured) -> None:
    checked = run.cli("verify")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "2 artifacts" in checked.stdout
