"""A project for each of some regions that a task finds out, as a mapped task group."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task, task_group

from ledger_watcher_airflow import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig

HERE = Path(os.environ["E2E_HOME"])
FOLDER = HERE / "regions"


@task
def regions() -> list[str]:
    return ["north", "south"]


@task_group
def per_region(region: str) -> None:
    DbtTaskGroup(
        "dbt",
        project_config=ProjectConfig(dbt_project_path=FOLDER),
        profile_config=ProfileConfig(profile_name="regions", profiles_yml_filepath=FOLDER / "profiles.yml"),
        execution_config=ExecutionConfig(ledger_uri=str(HERE / "ledger")),
        operator_args={
            "vars": {"region": region},
            "env": {"REGIONS_DUCKDB_PATH": f"{FOLDER}/{{{{ ti.map_index }}}}.duckdb"},  # DuckDB lets one process write at a time
        },
    ) >> EmptyOperator(task_id="after")


with DAG("regions", schedule=None, start_date=datetime(2026, 1, 1), catchup=False):
    per_region.expand(region=regions()) >> EmptyOperator(task_id="after_all")
