"""A ledger on S3, with the credentials of an Airflow connection: the producer writes it, the triggerer reads it.

``JAFFLE_PROJECT_DIR`` is a copy of ``dbt/jaffle`` after ``dbt parse``.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig

project = Path(os.environ.get("JAFFLE_PROJECT_DIR", Path(__file__).parent / "dbt" / "jaffle"))

DbtDag(
    "jaffle_s3",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow reads it in its own time zone
    catchup=False,
    project_config=ProjectConfig(dbt_project_path=project),
    profile_config=ProfileConfig(profile_name="jaffle", profiles_yml_filepath=project / "profiles.yml"),
    execution_config=ExecutionConfig(
        ledger_uri="s3://company-data-platform/ledgers",  # pip install 'ledger-watcher[s3]'
        ledger_conn_id="aws_default",
        setup_operator_args={"retries": 2},  # of the producer: an attempt goes on where the one before was killed
    ),
)
