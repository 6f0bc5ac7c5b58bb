"""What a user sees of a run: tasks, states, order, logs; and what the run cost Airflow."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts.airflow_stack import AirflowStack, StackError

HERE = Path(__file__).parent
PRODUCER = "dbt_producer_watcher"


def run(airflow: AirflowStack, dag_id: str, timeout: float = 120) -> tuple[str, str]:
    airflow.wait_for_dag(dag_id, 60)
    run_id = airflow.trigger(dag_id)
    return run_id, airflow.wait_for_run(dag_id, run_id, timeout)


def states(airflow: AirflowStack, dag_id: str, run_id: str) -> dict[str, str]:
    return {ti["task_id"]: ti["state"] for ti in airflow.task_instances(dag_id, run_id)}


def worker_logs(airflow: AirflowStack, dag_id: str, run_id: str) -> list[str]:
    """Tasks that ran on a worker: only a worker writes attempt=N.log; the triggerer's files end in .trigger.<job>.log."""
    logs = airflow.home.glob(f"logs/dag_id={dag_id}/run_id={run_id}/task_id=*/attempt=*.log")
    return sorted(path.parent.name.removeprefix("task_id=") for path in logs if ".trigger." not in path.name)


def show(ledger: str, dag_id: str, run_id: str, *options: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """The run as the command line reads it back."""
    command = [
        str(Path(sys.executable).with_name("ledger-watcher")),
        "show",
        ledger,
        "--dag-id",
        dag_id,
        "--run-id",
        run_id,
        "--json",
        *options,
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **(env or {})})
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def runs(airflow: AirflowStack) -> dict[str, str]:
    """A run of each DAG of this module, begun at once, by their ids: each has a project of its own."""
    confs = {"each": {"one": "1"}}
    dag_ids = ("jaffle_local", "jaffle_s3", "jaffle_group", "jaffle_two_groups", "broken", "each", "no_bucket")
    for dag_id in dag_ids:
        airflow.wait_for_dag(dag_id, 60)
    return {dag_id: airflow.trigger(dag_id, conf=confs.get(dag_id)) for dag_id in dag_ids}


def end_of(airflow: AirflowStack, runs: Mapping[str, str], dag_id: str) -> tuple[str, str]:
    """The id and the end of the run of this DAG."""
    return runs[dag_id], airflow.wait_for_run(dag_id, runs[dag_id], 400)


@pytest.mark.parametrize("where", ["local", "s3"])
def test_every_node_is_a_task_and_needs_no_worker(
    airflow: AirflowStack, home: Path, s3: SimpleNamespace, runs: dict[str, str], where: str
) -> None:
    """All nodes have tasks that succeed in the order of dbt's edges; one worker, for the producer, no XCom, no Variable."""
    dag_id = f"jaffle_{where}"
    run_id, state = end_of(airflow, runs, dag_id)
    tasks = states(airflow, dag_id, run_id)
    assert state == "success", tasks
    told = {"s3": "skipped", "local": None}  # by the producer, of all that was built; the other emits no events
    assert tasks.pop("dbt_assets", None) == told[where]
    assert set(tasks.values()) == {"success"}
    events = airflow.sql("select count(*), count(distinct asset_id) from asset_event where source_dag_id = :d", {"d": dag_id})

    manifest = json.loads((home / dag_id / "target" / "manifest.json").read_text())
    built = {uid: node for uid, node in manifest["nodes"].items() if node["resource_type"] in ("model", "seed", "snapshot")}
    suffix = {"model": "run", "seed": "seed", "snapshot": "snapshot"}
    task_of = {}
    for uid, node in built.items():
        kind = suffix[node["resource_type"]]
        task_of[uid] = f"{node['name']}.{kind}" if f"{node['name']}.{kind}" in tasks else f"{node['name']}_{kind}"
    assert set(task_of.values()) <= set(tasks)
    assert len(built) >= 11
    tables = [uid for uid, node in built.items() if node["relation_name"]]
    assert events == [(len(tables), len(tables)) if where == "s3" else (0, 0)]

    assert worker_logs(airflow, dag_id, run_id) == [PRODUCER]
    pids = airflow.sql(
        "select task_id from task_instance where dag_id = :d and run_id = :r and pid is not null", {"d": dag_id, "r": run_id}
    )
    assert [row[0] for row in pids] == [PRODUCER]
    assert airflow.sql("select count(*) from xcom where dag_id = :d", {"d": dag_id})[0][0] == 0
    assert airflow.sql("select count(*) from variable")[0][0] == 0

    ended = dict(airflow.sql("select task_id, end_date from task_instance where dag_id = :d and run_id = :r", {"d": dag_id, "r": run_id}))
    began = dict(airflow.sql("select task_id, start_date from task_instance where dag_id = :d and run_id = :r", {"d": dag_id, "r": run_id}))
    edges = [(parent, uid) for uid, node in built.items() for parent in node["depends_on"].get("nodes", []) if parent in built]
    assert edges
    for parent, child in edges:
        assert ended[task_of[parent]] <= began[task_of[child]], (parent, child)

    model = next(uid for uid in built if uid.startswith("model."))
    text = airflow.logs(dag_id, run_id, task_of[model])
    name = built[model]["name"]
    assert re.search(rf"OK created sql .*{name}", text), text
    assert f"{model}: success" in text

    ledger = s3.ledger if where == "s3" else str(home / "ledger")
    seen = show(ledger, dag_id, run_id, env=s3.env)
    results = json.loads((home / dag_id / "target" / "run_results.json").read_text())["results"]
    nodes = {node["unique_id"]: node for node in seen["nodes"]}
    assert len(results) >= len(built)
    for result in results:
        node = nodes[result["unique_id"]]
        assert node["status"] == result["status"]
        assert node["execution_time"] == pytest.approx(result["execution_time"], abs=1e-6)
        assert node["message"] == result["message"]
        assert node["failures"] == result["failures"]
        assert node["rows_affected"] == result["adapter_response"].get("rows_affected")
    if where == "local":
        openlineage_heard(home / "openlineage.jsonl", dag_id, built)


def openlineage_heard(file: Path, dag_id: str, built: Mapping[str, Any]) -> None:
    """Of each node that dbt built on this worker: that it began and was completed below the run of dbt, and what it read and wrote."""
    events = [json.loads(line) for line in file.read_text().splitlines()]
    of_dbt = [event for event in events if event["job"]["name"] == f"{dag_id}.dbt"]
    assert [event["eventType"] for event in of_dbt] == ["START", "COMPLETE"]
    above = of_dbt[0]["run"]["runId"]
    mine = [event for event in events if event["run"]["facets"].get("parent", {}).get("run", {}).get("runId") == above]
    found = {uid: [event["eventType"] for event in mine if event["job"]["name"] == uid] for uid in built}
    assert [uid for uid, told in found.items() if told != ["START", "COMPLETE"]] == []
    done = {event["job"]["name"]: event for event in mine if event["eventType"] == "COMPLETE"}

    def written(uid: str) -> list[str]:
        return [dataset["name"] for dataset in done[uid]["outputs"]]

    tables = {uid for uid, node in built.items() if node["relation_name"]}
    assert all(len(written(uid)) == 1 for uid in tables)
    for uid, node in built.items():
        read = {dataset["name"] for dataset in done[uid]["inputs"]}
        assert {name for parent in node["depends_on"].get("nodes", []) if parent in tables for name in written(parent)} <= read


def test_a_task_group_stands_between_two_tasks(airflow: AirflowStack, runs: dict[str, str]) -> None:
    """What is before the group ends before it, the producer included; what is after waits for all of it."""
    run_id, state = end_of(airflow, runs, "jaffle_group")
    assert state == "success", states(airflow, "jaffle_group", run_id)
    rows = airflow.sql(
        "select task_id, start_date, end_date from task_instance where dag_id = 'jaffle_group' and run_id = :r", {"r": run_id}
    )
    began = {row[0]: row[1] for row in rows}
    ended = {row[0]: row[2] for row in rows}
    inside = [task for task in ended if task.startswith("dbt.")]
    assert f"dbt.{PRODUCER}" in inside
    assert all(ended["before"] <= began[task] for task in inside)
    assert all(ended[task] <= began["after"] for task in inside if task != "dbt.dbt_assets")
    assert ended["dbt.dbt_assets"] is not None


def test_two_groups_have_a_ledger_each(airflow: AirflowStack, home: Path, runs: dict[str, str]) -> None:
    """Two groups of one DAG run, nested and of the same id, write two ledgers; each is complete, and what is behind them waits for both.

    The first one has task groups by folder and users' own tasks for its seeds, the second one a task for each folder.
    """
    run_id, state = end_of(airflow, runs, "jaffle_two_groups")
    assert state == "success", states(airflow, "jaffle_two_groups", run_id)
    for group in ("first.dbt", "second.inner.dbt"):
        seen = show(str(home / "ledger"), "jaffle_two_groups", run_id, "--group", group)
        assert {node["state"] for node in seen["nodes"]} == {"success"}
    assert worker_logs(airflow, "jaffle_two_groups", run_id) == [PRODUCER, f"first.dbt.{PRODUCER}"]
    tasks = states(airflow, "jaffle_two_groups", run_id)
    assert {"first.dbt.models.staging.stg_guests.run", "first.dbt.seeds.kiosk_guests_seed", "models_staging_build", "seeds_build"} <= set(
        tasks
    )
    text = airflow.logs("jaffle_two_groups", run_id, "models_staging_build")
    assert "model.jaffle.stg_guests: success" in text
    assert "test.jaffle.unique_stg_guests_guest_id" in text
    ended = dict(
        airflow.sql("select task_id, end_date from task_instance where dag_id = 'jaffle_two_groups' and run_id = :r", {"r": run_id})
    )
    assert ended.pop("after") >= max(end for task, end in ended.items() if not task.endswith("dbt_assets"))


def test_a_failing_model_shows_as_itself(airflow: AirflowStack, home: Path, runs: dict[str, str]) -> None:
    """The failing model's task fails with dbt's error, what is below does not run, what is beside does, the run is failed."""
    run_id, state = end_of(airflow, runs, "broken")
    tasks = states(airflow, "broken", run_id)
    assert state == "failed"
    assert tasks == {
        PRODUCER: "success",
        "good.run": "success",
        "good.test": "success",
        "bad_run": "failed",
        "below_bad_run": "upstream_failed",
        "beside_run": "success",
        "tested.run": "success",
        "tested.test": "failed",
        "below_tested_run": "upstream_failed",
        "dbt_assets": "success",
    }
    assert "no_such_column" in airflow.logs("broken", run_id, "bad_run")
    assert "Got 1 result" in airflow.logs("broken", run_id, "tested.test")
    assert "Got 1 result, configured to warn" in airflow.logs("broken", run_id, "good.test")
    nodes = {node["unique_id"]: node for node in show(str(home / "ledger"), "broken", run_id)["nodes"]}
    assert nodes["model.broken.below_bad"]["skip_cause"] == ["model.broken.bad"]
    assert nodes["model.broken.below_tested"]["skip_cause"] == [uid for uid in nodes if uid.startswith("test.broken.not_null_tested")]


def test_each_task_can_run_dbt_itself(airflow: AirflowStack, home: Path, runs: dict[str, str]) -> None:
    """ExecutionMode.LOCAL: the same graph without producer and ledger; each task has dbt's words, templates and artifacts of its own."""
    run_id, state = end_of(airflow, runs, "each")
    assert state == "success", "of its last task"
    expected = {"dbt.good.run": "success", "dbt.good.test": "success", "dbt.bad_run": "failed", "dbt.below_bad_run": "upstream_failed"}
    assert states(airflow, "each", run_id) == {**expected, "ls": "success"}
    assert worker_logs(airflow, "each", run_id) == sorted({*expected, "ls"} - {"dbt.below_bad_run"})
    kept = {path.stem: json.loads(path.read_text())["results"] for path in (home / "each" / "kept").iterdir()}
    assert {task: [(one["unique_id"].split(".")[2], one["status"]) for one in results] for task, results in kept.items()} == {
        "dbt.good.run": [("good", "success")],
        "dbt.good.test": [("is_not_two", "warn")],
        "dbt.bad_run": [("bad", "error")],
    }
    assert "no_such_column" in airflow.logs("each", run_id, "dbt.bad_run")
    assert "`dbt run` failed (exit code 1): model.each.bad" in airflow.logs("each", run_id, "dbt.bad_run")
    assert "Unable to do partial parsing" not in airflow.logs("each", run_id, "dbt.good.test")
    assert "each.below_bad" in airflow.logs("each", run_id, "ls")
    assert (
        airflow.sql(
            "select count(*) from rendered_task_instance_fields where dag_id = 'each' and cast(rendered_fields as varchar) != '{}'"
        )[0][0]
        == 0
    )
    assert airflow.sql("select count(*) from xcom where dag_id = 'each'")[0][0] == 0


def test_a_ledger_that_cannot_be_written_fails_the_run_at_once(airflow: AirflowStack, runs: dict[str, str]) -> None:
    """No task waits for a producer that could not begin; each log says what is wrong."""
    run_id, state = end_of(airflow, runs, "no_bucket")
    tasks = states(airflow, "no_bucket", run_id)
    assert state == "failed"
    assert tasks[PRODUCER] == "failed"
    assert set(tasks.values()) == {"failed", "upstream_failed"}
    for task in (PRODUCER, "good.run"):
        assert "does not exist" in airflow.logs("no_bucket", run_id, task), task


def test_a_mistake_known_at_parse_is_an_import_error(airflow: AirflowStack, home: Path) -> None:
    """An unknown profile is named where Airflow shows errors of DAG files, with what there is instead."""
    file = home / "dags" / "unknown_profile.py"
    file.write_text((HERE / "wrong" / file.name).read_text())
    try:
        with pytest.raises(StackError, match="has no profile 'no_such_profile'; it has jaffle"):
            airflow.wait_for_dag("wrong", 60)
    finally:
        file.unlink()
