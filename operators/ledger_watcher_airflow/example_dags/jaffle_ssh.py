"""dbt on another host, over SSH: the tasks of the nodes follow it through the ledger.

``JAFFLE_PROJECT_DIR`` is a copy of ``dbt/jaffle`` after ``dbt parse``.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig, ssh_producer

project = Path(os.environ.get("JAFFLE_PROJECT_DIR", Path(__file__).parent / "dbt" / "jaffle"))

DbtDag(
    "jaffle_ssh",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow reads it in its own time zone
    catchup=False,
    project_config=ProjectConfig(dbt_project_path=project),
    profile_config=ProfileConfig(profile_name="jaffle", profiles_yml_filepath=project / "profiles.yml"),
    execution_config=ExecutionConfig(
        producer=ssh_producer(ssh_conn_id="dbt_host", watcher=["/opt/dbt-venv/bin/ledger-watcher"]),  # pip install 'ledger-watcher[ssh]'
        ledger_uri="s3://company-data-platform/ledgers",
    ),
)
