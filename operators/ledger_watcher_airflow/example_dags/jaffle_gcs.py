"""A ledger on Google Cloud Storage, with the identity that worker and triggerer run as, and one place for all DAGs.

``JAFFLE_PROJECT_DIR`` is a copy of ``dbt/jaffle`` after ``dbt parse``.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig

project = Path(os.environ.get("JAFFLE_PROJECT_DIR", Path(__file__).parent / "dbt" / "jaffle"))

# AIRFLOW__LEDGER_WATCHER__URI=gs://company-data-platform/ledgers would be the ledger of every DAG that names none.
DbtDag(
    "jaffle_gcs",
    schedule=None,
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow reads it in its own time zone
    catchup=False,
    project_config=ProjectConfig(dbt_project_path=project),
    profile_config=ProfileConfig(profile_name="jaffle", profiles_yml_filepath=project / "profiles.yml"),
    execution_config=ExecutionConfig(ledger_uri="gs://company-data-platform/ledgers"),  # pip install 'ledger-watcher[gcs]'
)
