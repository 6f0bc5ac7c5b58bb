"""Nodes' tasks on workers: where there is no triggerer, and where a user's function is to be called."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from scripts.airflow_client import until
from scripts.airflow_stack import AirflowStack

HERE = Path(__file__).parent
PRODUCER = "dbt_producer_watcher"
BROKEN = {
    PRODUCER: "success",
    "good.run": "success",
    "good.test": "success",
    "bad_run": "failed",
    "below_bad_run": "upstream_failed",
    "beside_run": "success",
    "tested.run": "success",
    "tested.test": "failed",
    "below_tested_run": "upstream_failed",
}
"""What becomes of projects/broken, whoever waits where."""
RAN = sorted(task for task, state in BROKEN.items() if state != "upstream_failed")
SUCCEEDED = sorted(task for task, state in BROKEN.items() if state == "success")


@pytest.fixture(scope="module")
def stack(airflow: AirflowStack, home: Path) -> AirflowStack:
    """The Airflow of the session with the DAGs of this module."""
    for name in ("without_triggerer", "waits_in_place", "called_back"):
        shutil.copytree(home / "no_bucket", home / name)
    shutil.copy(HERE / "worker_dags" / "worker_dags.py", home / "dags")
    return airflow


@pytest.fixture(scope="module")
def runs(stack: AirflowStack) -> dict[str, str]:
    """A run of each of the DAGs, begun at once, by their ids."""
    dag_ids = ("without_triggerer", "waits_in_place", "called_back")
    for dag_id in dag_ids:
        stack.wait_for_dag(dag_id, 120)
    return {dag_id: stack.trigger(dag_id) for dag_id in dag_ids}


def end_of(stack: AirflowStack, runs: Mapping[str, str], dag_id: str) -> tuple[str, dict[str, str]]:
    """The id of the run of a DAG and the states in which its tasks ended."""
    run_id = runs[dag_id]
    stack.wait_for_run(dag_id, run_id, 400)
    return run_id, {ti["task_id"]: ti["state"] for ti in stack.task_instances(dag_id, run_id)}


def logs(stack: AirflowStack, dag_id: str, run_id: str) -> Mapping[str, list[str]]:
    """The tasks that wrote a log on a worker, and those that did in the triggerer: every trigger of ours writes one when it begins."""
    found: dict[str, list[str]] = {"worker": [], "triggerer": []}
    for path in stack.home.glob(f"logs/dag_id={dag_id}/run_id={run_id}/task_id=*/attempt=*.log"):
        found["triggerer" if ".trigger." in path.name else "worker"].append(path.parent.name.removeprefix("task_id="))
    return {where: sorted(tasks) for where, tasks in found.items()}


def test_no_trigger_is_made_where_there_is_no_triggerer(stack: AirflowStack, runs: dict[str, str]) -> None:
    """Each task looks, gives its worker back and looks again; the run ends as it does with a triggerer, with dbt's words in the logs."""
    run_id, states = end_of(stack, runs, "without_triggerer")
    assert states == BROKEN
    assert logs(stack, "without_triggerer", run_id) == {"worker": RAN, "triggerer": []}
    stepped_back = "select count(*) from task_reschedule join task_instance ti on ti_id = ti.id where dag_id = 'without_triggerer'"
    assert stack.sql(stepped_back)[0][0] > 0
    tries = stack.sql("select distinct try_number from task_instance where dag_id = 'without_triggerer' and pid is not null")
    assert tries == [(1,)]
    assert "no_such_column" in stack.logs("without_triggerer", run_id, "bad_run")
    assert "Got 1 result, configured to warn" in stack.logs("without_triggerer", run_id, "good.test")


def test_a_worker_may_be_kept_while_waiting(stack: AirflowStack, runs: dict[str, str]) -> None:
    run_id, states = end_of(stack, runs, "waits_in_place")
    assert states == BROKEN
    assert logs(stack, "waits_in_place", run_id) == {"worker": RAN, "triggerer": []}
    counted = "select count(*) from task_reschedule join task_instance ti on ti_id = ti.id where dag_id = 'waits_in_place'"
    assert stack.sql(counted)[0][0] == 0


def test_a_function_of_the_user_is_called_on_a_worker(stack: AirflowStack, home: Path, runs: dict[str, str]) -> None:
    """Successes end on a worker for it; failures do not, Airflow's dag-processor calls theirs."""
    run_id, states = end_of(stack, runs, "called_back")
    assert states == BROKEN
    called = home / "called"
    expected = {
        *(f"success-{task}" for task in SUCCEEDED),
        *(f"failure-{task}" for task, state in BROKEN.items() if state == "failed"),
        "warning-good.test",
        f"artifacts-{PRODUCER}",
    }
    assert until(lambda: {path.stem for path in called.glob("*.json")} >= expected, 60)
    assert {path.stem for path in called.glob("*.json")} == expected
    (test, message), *more = json.loads((called / "warning-good.test.json").read_text()).items()
    assert (test, more) == ("accepted_values_good_id__7", [])
    assert "Got 1 result, configured to warn" in message
    assert "model.broken.bad" in json.loads((called / f"artifacts-{PRODUCER}.json").read_text())
    assert logs(stack, "called_back", run_id)["worker"] == SUCCEEDED
