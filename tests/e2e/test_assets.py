"""What other DAGs start by: asset events of the nodes that were built, and of no others, each once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ledger_watcher.ledger import RunKey
from scripts.airflow_client import until
from scripts.airflow_stack import AirflowStack
from tests.e2e.test_runs import PRODUCER, states, worker_logs

ASSETS = "dbt.dbt_assets"


def events(airflow: AirflowStack, dag_id: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Name of the relation, task and extra of each event, in its order."""
    rows = airflow.sql(
        "select asset.uri, source_task_id, asset_event.extra from asset_event join asset on asset.id = asset_id "
        "where source_dag_id = :d order by asset_event.id",
        {"d": dag_id},
    )
    return [(uri.rpartition("/")[2], task, extra if isinstance(extra, dict) else json.loads(extra)) for uri, task, extra in rows]


def started(airflow: AirflowStack, dag_id: str) -> list[tuple[str, str]]:
    """The runs of a DAG: what they are scheduled by, and their states."""
    return [(row[0], row[1]) for row in airflow.sql("select run_type, state from dag_run where dag_id = :d", {"d": dag_id})]


def starts(airflow: AirflowStack, dag_id: str) -> bool:
    return until(lambda: started(airflow, dag_id) == [("asset_triggered", "success")], 60)


@pytest.fixture(scope="module")
def runs(airflow: AirflowStack) -> dict[str, str]:
    """A run of each of both, at the same time, once there is somebody to be told."""
    for dag_id in ("by_good", "by_bad", "told", "own"):
        airflow.wait_for_dag(dag_id, 60)
    return {dag_id: airflow.trigger(dag_id) for dag_id in ("told", "own")}


def test_what_was_built_starts_other_dags_though_others_failed(airflow: AirflowStack, home: Path, runs: dict[str, str]) -> None:
    """The run is failed, the events of its good nodes are there; mended and cleared, only what was built since is told."""
    run_id = runs["told"]
    state = airflow.wait_for_run("told", run_id, 120)
    tasks = states(airflow, "told", run_id)
    assert (state, tasks[ASSETS], tasks["dbt.bad_run"], tasks["after"]) == ("failed", "success", "failed", "upstream_failed")
    assert worker_logs(airflow, "told", run_id) == [f"dbt.{PRODUCER}"]
    first = events(airflow, "told")
    assert sorted(name for name, _, _ in first) == ["beside", "good", "tested"]
    extra = next(extra for name, _, extra in first if name == "good")
    assert set(extra) >= {"unique_id", "finished_at", "seconds", "invocation_id"}
    assert extra["ledger"] == f"{home / 'ledger'}/{RunKey(dag_id='told', run_id=run_id, group='dbt').prefix}"
    assert starts(airflow, "by_good")

    (home / "told" / "models" / "bad.sql").write_text("select 1 as id")
    airflow.clear("told", run_id, ["dbt.bad_run"], downstream=True)
    assert airflow.wait_for_run("told", run_id, 120) == "failed"  # a test fails still
    tasks = states(airflow, "told", run_id)
    assert (tasks["dbt.bad_run"], tasks["dbt.below_bad_run"], tasks[ASSETS]) == ("success", "success", "success")
    assert [(name, task) for name, task, _ in events(airflow, "told")[len(first) :]] == [("bad", ASSETS), ("below_bad", ASSETS)]
    assert starts(airflow, "by_bad")

    airflow.clear("told", run_id, [ASSETS])
    assert airflow.wait_for_run("told", run_id, 60) == "failed"
    assert "5 nodes have been built, 0 of them are new to Airflow" in airflow.logs("told", run_id, ASSETS, 3)
    assert len(events(airflow, "told")) == len(first) + 2
    assert started(airflow, "by_good") == started(airflow, "by_bad") == [("asset_triggered", "success")]


def test_each_node_may_tell_of_itself(airflow: AirflowStack, runs: dict[str, str]) -> None:
    """The tasks of what was built end on a worker, with an event of their own; tests and what failed do not."""
    run_id = runs["own"]
    assert airflow.wait_for_run("own", run_id, 120) == "failed"
    assert sorted((name, task) for name, task, _ in events(airflow, "own")) == [
        ("beside", "beside_run"),
        ("good", "good.run"),
        ("tested", "tested.run"),
    ]
    assert all(extra["invocation_id"] for _, _, extra in events(airflow, "own"))
    assert worker_logs(airflow, "own", run_id) == ["beside_run", PRODUCER, "good.run", "tested.run"]
