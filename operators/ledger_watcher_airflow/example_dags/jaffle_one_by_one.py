"""Without a ledger: each task runs dbt for its own node; and single commands in a DAG of one's own.

``JAFFLE_PROJECT_DIR`` is a copy of ``dbt/jaffle`` after ``dbt parse``. Its DuckDB is a file that one dbt at a time can open: hence one task at a time.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from airflow.sdk import DAG

from ledger_watcher_airflow import (
    DbtDag,
    DbtRunLocalOperator,
    DbtSeedLocalOperator,
    DbtTestLocalOperator,
    ExecutionConfig,
    ExecutionMode,
    ProfileConfig,
    ProjectConfig,
)

project = Path(os.environ.get("JAFFLE_PROJECT_DIR", Path(__file__).parent / "dbt" / "jaffle"))

profile = ProfileConfig(profile_name="jaffle", profiles_yml_filepath=project / "profiles.yml")

DbtDag(
    "jaffle_one_by_one",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow reads it in its own time zone
    catchup=False,
    max_active_tasks=1,
    project_config=ProjectConfig(dbt_project_path=project),
    profile_config=profile,
    execution_config=ExecutionConfig(execution_mode=ExecutionMode.LOCAL),
)

with DAG(
    "jaffle_commands",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow reads it in its own time zone
    catchup=False,
    max_active_tasks=1,
):
    seeds = DbtSeedLocalOperator(task_id="seeds", project_dir=project, profile_config=profile)
    build = DbtRunLocalOperator(task_id="staging", project_dir=project, profile_config=profile, select=["staging"])
    seeds >> build >> DbtTestLocalOperator(task_id="check", project_dir=project, profile_config=profile, select=["staging"])
