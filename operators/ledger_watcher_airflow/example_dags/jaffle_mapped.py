"""One run of dbt for each of several regions: each has a ledger, and tasks, of its own.

``JAFFLE_PROJECT_DIR`` is a copy of ``dbt/jaffle`` after ``dbt parse``, ``JAFFLE_LEDGER`` the ledger (a folder or ``s3://bucket/prefix``).
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from airflow.sdk import DAG, task_group

from ledger_watcher_airflow import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig

project = Path(os.environ.get("JAFFLE_PROJECT_DIR", Path(__file__).parent / "dbt" / "jaffle"))
ledger = os.environ.get("JAFFLE_LEDGER", "/tmp/ledgers")  # noqa: S108 - an example's default

with DAG(
    "jaffle_mapped",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow reads it in its own time zone
    catchup=False,
):

    @task_group
    def per_region(region: str) -> None:
        """Its argument goes where dbt's own is: into vars, env, select or target."""
        DbtTaskGroup(
            "dbt",
            project_config=ProjectConfig(dbt_project_path=project),
            profile_config=ProfileConfig(profile_name="jaffle", profiles_yml_filepath=project / "profiles.yml"),
            # DuckDB's file is for one dbt at a time
            execution_config=ExecutionConfig(ledger_uri=ledger, setup_operator_args={"max_active_tis_per_dagrun": 1}),
            operator_args={"vars": {"region": region}},
        )

    per_region.expand(region=["north", "south"])
