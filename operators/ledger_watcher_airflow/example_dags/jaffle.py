"""The smallest use: a dbt project as a DAG, dbt in Airflow's own environment, the ledger in a folder or a bucket.

Where things are comes from the environment, so that the file can be tried as it is:
``JAFFLE_PROJECT_DIR`` (a copy of ``dbt/jaffle`` beside this file, after ``dbt parse``) and ``JAFFLE_LEDGER`` (``s3://bucket/prefix``, or a folder).
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ExecutionMode, ProfileConfig, ProjectConfig

project = Path(os.environ.get("JAFFLE_PROJECT_DIR", Path(__file__).parent / "dbt" / "jaffle"))

jaffle = DbtDag(
    "jaffle",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow reads it in its own time zone
    catchup=False,
    project_config=ProjectConfig(dbt_project_path=project),
    profile_config=ProfileConfig(profile_name="jaffle", profiles_yml_filepath=project / "profiles.yml"),
    execution_config=ExecutionConfig(
        execution_mode=ExecutionMode.WATCHER,
        ledger_uri=os.environ.get("JAFFLE_LEDGER", "/tmp/ledgers"),  # noqa: S108 - an example's default
    ),
)
