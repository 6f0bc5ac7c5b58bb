"""The example DAGs run as a user tries them: each file as it is, beside the project that it finds there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import ledger_watcher_airflow
from scripts.airflow_client import until
from scripts.airflow_stack import AirflowStack
from tests.e2e.scenes import PRODUCER, parse
from tests.e2e.test_runs import show, states, worker_logs

SOURCE = Path(ledger_watcher_airflow.__file__).parent / "example_dags"
PROJECT = Path(__file__).parent / "projects" / "smallest"
TASKS = {
    "jaffle": {"kiosk_guests_seed", "stg_guests.run", "stg_guests.test", "guest_value.run", "guest_value.test"},
    "jaffle_task_group": {"load", f"transform.{PRODUCER}", "transform.stg_guests.test", "report"},
    "jaffle_remote_command": {PRODUCER, "guest_value.test"},
    "jaffle_sources": {"desk_tickets_source", "guest_value.run"},
    "jaffle_tests": {"guest_value_run", "jaffle_test"},
    "jaffle_callbacks": {"stg_guests.run", "guest_value.test"},
    "jaffle_assets": {"guest_value.run", "dbt_assets"},
    "jaffle_converters": {"guest_value.run", "guests_exposure"},
    "jaffle_coarse": {"seeds_build", "models_staging_build", "models_marts_build"},
    "jaffle_folders": {"seeds.kiosk_guests_seed", "models.staging.stg_guests.run", "models.marts.guest_value.test"},
    "jaffle_connection": {"guest_value.run"},
}
"""Some tasks of each. Left out: jaffle_s3, jaffle_gcs, jaffle_ssh (a provider, a cloud, a host), jaffle_virtualenv (an index of packages), jaffle_mapped and
jaffle_one_by_one (several dbt at once, which one DuckDB file does not take); other tests do what these show."""


@pytest.fixture(scope="module")
def runs(airflow: AirflowStack, home: Path) -> Iterator[dict[str, str]]:
    """All of them, begun at once, by their ids."""
    folder = home / "dags" / "examples"
    first, *others = [folder / name / "dbt" / "jaffle" for name in TASKS]
    shutil.copytree(PROJECT, first)
    parse({first: {}})
    for place in others:
        shutil.copytree(first, place)
    for name in TASKS:
        shutil.copy(SOURCE / f"{name}.py", folder / name)
    for name in TASKS:
        airflow.wait_for_dag(name, 180)
    yield {name: airflow.trigger(name) for name in TASKS}
    shutil.rmtree(folder)  # the stack's other tests need no DAGs of it


@pytest.mark.parametrize("name", TASKS)
def test_an_example_runs(airflow: AirflowStack, home: Path, runs: dict[str, str], name: str) -> None:
    state = airflow.wait_for_run(name, runs[name], 240)
    tasks = states(airflow, name, runs[name])
    assert state == "success", tasks
    assert tasks.keys() >= TASKS[name]
    assert {state for task, state in tasks.items() if not task.endswith("dbt_assets")} == {"success"}
    assert {state for task, state in tasks.items() if task.endswith("dbt_assets")} <= {"success", "skipped"}, (
        "it may have nothing left to tell"
    )
    (producer,) = (task for task in tasks if task.endswith(PRODUCER))
    group = producer.removesuffix(PRODUCER).rstrip(".")
    nodes = show(str(home / "ledger"), name, runs[name], *(["--group", group] if group else []))["nodes"]
    assert {"seed.jaffle.kiosk_guests", "model.jaffle.stg_guests", "model.jaffle.guest_value"} <= {node["unique_id"] for node in nodes}
    assert producer in worker_logs(airflow, name, runs[name])


def test_the_callbacks_are_called(airflow: AirflowStack, runs: dict[str, str]) -> None:
    airflow.wait_for_run("jaffle_callbacks", runs["jaffle_callbacks"], 240)
    told = airflow.logs("jaffle_callbacks", runs["jaffle_callbacks"], "guest_value.test")
    assert "guest_value.test [(" in told
    assert "Got 1 result" in told
    assert "would go to dbt-artifacts" in airflow.logs("jaffle_callbacks", runs["jaffle_callbacks"], PRODUCER)


def test_another_dag_starts_when_the_relation_was_built(airflow: AirflowStack, runs: dict[str, str]) -> None:
    airflow.wait_for_run("jaffle_assets", runs["jaffle_assets"], 240)
    query = "select count(*) from dag_run where dag_id = 'jaffle_report' and state = 'success'"
    assert until(lambda: airflow.sql(query)[0][0] > 0, 120)
