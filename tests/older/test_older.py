"""What a user of Airflow 3.1 or 3.2 sees: the same tasks and states, at the price of one start of a worker per node."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import airflow as installed
import pytest

from scripts.airflow_stack import AirflowStack

PRODUCER = "dbt_producer_watcher"
FIRST = {
    PRODUCER: "success",
    "dbt_assets": "success",
    "good.run": "success",
    "good.test": "success",
    "bad_run": "failed",
    "below_bad_run": "upstream_failed",
    "beside_run": "success",
    "tested.run": "success",
    "tested.test": "failed",
    "below_tested_run": "upstream_failed",
}

AGAIN = {"bad_run", "tested.test"}


def states(stack: AirflowStack, dag_id: str, run_id: str) -> dict[str, str]:
    return {ti["task_id"]: ti["state"] for ti in stack.task_instances(dag_id, run_id)}


def tries(stack: AirflowStack, dag_id: str, run_id: str) -> dict[str, int]:
    return {ti["task_id"]: ti["try_number"] for ti in stack.task_instances(dag_id, run_id)}


def starts(stack: AirflowStack, dag_id: str, run_id: str) -> Counter[str]:
    """How many tries of each task were on a worker: only a worker writes attempt=N.log."""
    logs = stack.home.glob(f"logs/dag_id={dag_id}/run_id={run_id}/task_id=*/attempt=*.log")
    return Counter(path.parent.name.removeprefix("task_id=") for path in logs if ".trigger." not in path.name)


def test_this_is_the_airflow_that_is_meant() -> None:
    assert installed.__version__.startswith("{}.{}.".format(*os.environ["LEDGER_WATCHER_OLDER"]))


@pytest.fixture(scope="module")
def failed(airflow: AirflowStack) -> str:
    """A run of the broken project that has ended."""
    airflow.wait_for_dag("broken", 120)
    run_id = airflow.trigger("broken")
    assert airflow.wait_for_run("broken", run_id, 480) == "failed"
    return run_id


def test_every_node_is_a_task_and_each_try_starts_a_worker_once(airflow: AirflowStack, failed: str) -> None:
    """It defers the task to the trigger, which ends it, replays dbt's lines, and leaves no XCom."""
    assert starts(airflow, "broken", failed) == {task: 2 if task in AGAIN else 1 for task in FIRST if FIRST[task] != "upstream_failed"}
    assert airflow.sql("select count(*) from xcom")[0][0] == 0
    assert "model.broken.good: success" in airflow.logs("broken", failed, "good.run")


def test_airflow_is_told_of_what_was_built(airflow: AirflowStack, failed: str) -> None:
    events = airflow.sql("select count(*) from asset_event where source_run_id = :run", {"run": failed})
    assert events[0][0] == sum(
        task.removesuffix(".run").removesuffix("_run") in ("good", "beside", "tested") for task in FIRST if task.endswith("run")
    )


def test_a_failure_is_that_of_its_task_and_tries_count(airflow: AirflowStack, failed: str) -> None:
    """What Airflow 3.1 does with a failure that a trigger reports takes no notice of retries, so that these end on a worker."""
    assert states(airflow, "broken", failed) == FIRST
    assert {task for task, number in tries(airflow, "broken", failed).items() if number == 2} == AGAIN
    assert "no_such_column" in airflow.logs("broken", failed, "bad_run", 2)


def test_what_failed_is_built_when_it_is_mended_and_cleared(airflow: AirflowStack, home: Path, failed: str) -> None:
    (home / "broken" / "models" / "bad.sql").write_text("select 1 as id")
    cleared = airflow.clear("broken", failed, ["bad_run"], downstream=True)
    assert cleared == ["bad_run", "below_bad_run", "dbt_assets"]
    airflow.wait_for_run("broken", failed, 480)
    assert states(airflow, "broken", failed) == FIRST | {"bad_run": "success", "below_bad_run": "success"}
