"""dbt as one part of a bigger DAG: what is before it loads, what is behind it reports.

``JAFFLE_PROJECT_DIR`` is a copy of ``dbt/jaffle`` after ``dbt parse``, ``JAFFLE_LEDGER`` the ledger (a folder or ``s3://bucket/prefix``).
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from ledger_watcher_airflow import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig

project = Path(os.environ.get("JAFFLE_PROJECT_DIR", Path(__file__).parent / "dbt" / "jaffle"))
ledger = os.environ.get("JAFFLE_LEDGER", "/tmp/ledgers")  # noqa: S108 - an example's default

with DAG(
    "jaffle_task_group",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow reads it in its own time zone
    catchup=False,
):
    transform = DbtTaskGroup(
        "transform",
        project_config=ProjectConfig(dbt_project_path=project),
        profile_config=ProfileConfig(profile_name="jaffle", profiles_yml_filepath=project / "profiles.yml"),
        execution_config=ExecutionConfig(ledger_uri=ledger),
        operator_args={"retries": 1},  # of a failed node: one run of dbt builds it and all that waits for it
    )
    EmptyOperator(task_id="load") >> transform >> EmptyOperator(task_id="report")
