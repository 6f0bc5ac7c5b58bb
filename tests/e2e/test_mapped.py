"""A mapped task group: each index is a run of dbt with a ledger of its own, and its tasks see nothing of the others."""

from __future__ import annotations

from pathlib import Path

from ledger_watcher.ledger import RunFollower, RunKey
from ledger_watcher.storage import open_store
from scripts.airflow_stack import AirflowStack
from tests.e2e.test_runs import PRODUCER

DAG, GROUP = "regions", "per_region.dbt"
NORTH, SOUTH = 0, 1


def states(airflow: AirflowStack, run_id: str, index: int) -> dict[str, str]:
    """Of the tasks of one index, without the names of their groups."""
    tasks = airflow.task_instances(DAG, run_id)
    return {ti["task_id"].removeprefix(f"{GROUP}."): ti["state"] for ti in tasks if ti["map_index"] == index}


def attempts(home: Path, run_id: str, index: int) -> list[dict[str, str]]:
    """What each attempt of an index built, and how it went."""
    run = RunKey(dag_id=DAG, run_id=run_id, group=GROUP, map_index=index)
    state = RunFollower(open_store(str(home / "ledger")), run, whole=True).snapshot()
    nodes = {name.split(".")[2]: node for name, node in state.nodes.items()}
    return [{name: node.status for name, node in nodes.items() if node.epoch == epoch} for epoch in sorted(state.attempts)]


def workers(airflow: AirflowStack, run_id: str) -> list[tuple[str, int]]:
    """Task and index of what ran on a worker."""
    logs = airflow.home.glob(f"logs/dag_id={DAG}/run_id={run_id}/task_id={GROUP}.*/map_index=*/attempt=*.log")
    found = ((path.parts[-3], path.parts[-2]) for path in logs if ".trigger." not in path.name)
    return sorted((task.removeprefix(f"task_id={GROUP}."), int(index.removeprefix("map_index="))) for task, index in found)


def test_each_index_of_a_mapped_group_is_a_run_of_its_own(airflow: AirflowStack, home: Path) -> None:
    """The values are found out by a task; one index fails, is mended and cleared alone; nothing of the other one is built again."""
    airflow.wait_for_dag(DAG, 60)
    run_id = airflow.trigger(DAG, run_id="one")
    assert airflow.wait_for_run(DAG, run_id, 240) == "failed"
    good = {PRODUCER: "success", "named_run": "success", "not_south_run": "success", "below_run": "success", "dbt_assets": "success"}
    assert states(airflow, run_id, NORTH) == {**good, "dbt_assets": "skipped", "per_region.after": "success"}
    bad = {**good, "not_south_run": "failed", "below_run": "upstream_failed"}
    assert states(airflow, run_id, SOUTH) == {**bad, "per_region.after": "upstream_failed"}
    assert states(airflow, run_id, -1) == {"regions": "success", "after_all": "upstream_failed"}
    assert attempts(home, run_id, NORTH) == [{"named": "success", "not_south": "success", "below": "success"}]
    assert attempts(home, run_id, SOUTH) == [{"named": "success", "not_south": "failed", "below": "skipped"}]
    on_workers = [(PRODUCER, index) for index in (NORTH, SOUTH)]
    assert workers(airflow, run_id) == on_workers
    told = airflow.sql("select source_map_index, count(*) from asset_event where source_dag_id = :d group by 1 order by 1", {"d": DAG})
    assert told == [(NORTH, 3), (SOUTH, 1)]

    (home / "regions" / "models" / "not_south.sql").write_text("select * from {{ ref('named') }}")
    airflow.clear(DAG, run_id, [(f"{GROUP}.{name}", SOUTH) for name in ("not_south_run", "below_run")])
    airflow.clear(DAG, run_id, [("per_region.after", SOUTH), "after_all"])
    assert airflow.wait_for_run(DAG, run_id, 240) == "success"
    assert attempts(home, run_id, NORTH) == [{"named": "success", "not_south": "success", "below": "success"}]
    assert attempts(home, run_id, SOUTH) == [{"named": "success"}, {"not_south": "success", "below": "success"}]
    assert workers(airflow, run_id) == sorted([*on_workers, ("not_south_run", SOUTH)])
