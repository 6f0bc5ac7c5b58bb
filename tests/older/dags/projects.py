"""A project with a failing model and a failing test, whose tasks have a second try."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig

FOLDER = Path(os.environ["E2E_HOME"]) / "broken"

DbtDag(
    "broken",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    project_config=ProjectConfig(dbt_project_path=FOLDER, env_vars={"BROKEN_DUCKDB_PATH": str(FOLDER / "broken.duckdb")}),
    profile_config=ProfileConfig(profile_name="broken", profiles_yml_filepath=FOLDER / "profiles.yml"),
    execution_config=ExecutionConfig(ledger_uri=str(FOLDER.parent / "ledger"), setup_operator_args={"retries": 0}),
    operator_args={"retries": 1, "retry_delay": timedelta(seconds=0)},
)
