"""A mistake that can be known when the file is parsed: Airflow shows it as the import error of this file."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig

folder = Path(os.environ["E2E_HOME"]) / "jaffle_local"
DbtDag(
    "wrong",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    project_config=ProjectConfig(dbt_project_path=folder),
    profile_config=ProfileConfig(profile_name="no_such_profile", profiles_yml_filepath=folder / "profiles.yml"),
    execution_config=ExecutionConfig(ledger_uri=str(folder)),
)
