"""Sources as tasks, what a stale one holds back, and tests that come last, in one DAG."""

from __future__ import annotations

from pathlib import Path

from ledger_watcher.ledger import RunFollower, RunKey
from ledger_watcher.storage import open_store
from scripts.airflow_stack import AirflowStack
from tests.e2e.test_runs import PRODUCER, run, states, worker_logs


def attempted(home: Path, run_id: str) -> set[str]:
    """The models of which the ledger has something."""
    state = RunFollower(open_store(str(home / "ledger")), RunKey(dag_id="sourced", run_id=run_id), whole=True).snapshot()
    return {name.split(".")[2] for name in state.nodes if name.startswith("model.")}


def test_a_stale_source_skips_what_has_no_other_until_it_is_fresh(airflow: AirflowStack, home: Path) -> None:
    """What the selector of its plan leaves out is neither drawn nor built. Skipped tasks skip no other; a failing test stops no model; the source, mended and cleared, is checked by a recovery that builds below it."""
    run_id, state = run(airflow, "sourced")
    first = states(airflow, "sourced", run_id)
    assert first == {
        PRODUCER: "success",
        "raw_fresh_source": "success",
        "raw_old_source": "skipped",
        "raw_plain_source": "success",
        "from_fresh_run": "success",
        "below_fresh_run": "success",
        "from_old_run": "skipped",
        "below_old_run": "skipped",
        "both_run": "success",
        "sourced_test": "failed",
        "dbt_assets": "success",
    }
    assert state == "failed"
    assert worker_logs(airflow, "sourced", run_id) == [PRODUCER]
    assert attempted(home, run_id) == {name.removesuffix("_run") for name in first if name.endswith("_run")}
    assert "the newest data is of 2020-01-01T00:00:00Z" in airflow.logs("sourced", run_id, "raw_old_source")
    assert "error_after 7 days" in airflow.logs("sourced", run_id, "raw_old_source")
    assert "skipped by choice (stale) because of source.sourced.raw.old" in airflow.logs("sourced", run_id, "below_old_run")

    (home / "sourced" / "raw" / "old.csv").write_text("id,loaded_at\n1,2999-01-01 00:00:00\n")
    below = ["raw_old_source", "from_old_run", "below_old_run"]
    airflow.clear("sourced", run_id, below)
    airflow.wait_for_run("sourced", run_id, 120)
    assert states(airflow, "sourced", run_id) == {**first, **dict.fromkeys(below, "success")}
    assert worker_logs(airflow, "sourced", run_id) == [PRODUCER, "raw_old_source"]
