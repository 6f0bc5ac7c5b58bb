"""A profile made of an Airflow connection: no profiles.yml, no password in the DAG, the ledger or a file.

``JAFFLE_PROJECT_DIR`` is a copy of ``dbt/jaffle`` after ``dbt parse``, ``JAFFLE_LEDGER`` the ledger (a folder or ``s3://bucket/prefix``).
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig
from ledger_watcher_airflow.profiles import DuckDBUserPasswordProfileMapping

project = Path(os.environ.get("JAFFLE_PROJECT_DIR", Path(__file__).parent / "dbt" / "jaffle"))
ledger = os.environ.get("JAFFLE_LEDGER", "/tmp/ledgers")  # noqa: S108 - an example's default

DbtDag(
    "jaffle_connection",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow reads it in its own time zone
    catchup=False,
    project_config=ProjectConfig(dbt_project_path=project),
    profile_config=ProfileConfig(
        profile_name="jaffle",
        target_name="dev",
        profile_mapping=DuckDBUserPasswordProfileMapping(conn_id="jaffle_duckdb", profile_args={"path": "jaffle.duckdb"}),
    ),
    execution_config=ExecutionConfig(ledger_uri=ledger),
)
