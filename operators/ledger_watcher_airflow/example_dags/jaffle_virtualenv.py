"""dbt from a virtual environment that the worker makes once and keeps: Airflow's own has no dbt.

``JAFFLE_PROJECT_DIR`` is a copy of ``dbt/jaffle`` after ``dbt parse``, ``JAFFLE_LEDGER`` the ledger (a folder or ``s3://bucket/prefix``).
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ExecutionMode, ProfileConfig, ProjectConfig

project = Path(os.environ.get("JAFFLE_PROJECT_DIR", Path(__file__).parent / "dbt" / "jaffle"))
ledger = os.environ.get("JAFFLE_LEDGER", "/tmp/ledgers")  # noqa: S108 - an example's default

DbtDag(
    "jaffle_virtualenv",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow reads it in its own time zone
    catchup=False,
    project_config=ProjectConfig(dbt_project_path=project),
    profile_config=ProfileConfig(profile_name="jaffle", profiles_yml_filepath=project / "profiles.yml"),
    execution_config=ExecutionConfig(execution_mode=ExecutionMode.WATCHER_VIRTUALENV, ledger_uri=ledger),
    operator_args={"py_requirements": ["dbt-core>=1.11,<1.12", "dbt-duckdb<1.12"]},
)
