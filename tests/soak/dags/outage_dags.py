"""A DAG for each outage of tests/soak/outage.py, whose ledgers are in a bucket of its name."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig

for folder in sorted(Path(os.environ["OUTAGE_HOME"]).iterdir()):
    DbtDag(
        folder.name,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        catchup=False,
        project_config=ProjectConfig(dbt_project_path=folder),
        profile_config=ProfileConfig(profile_name="recovery", profiles_yml_filepath=folder / "profiles.yml"),
        execution_config=ExecutionConfig(ledger_uri=f"s3://{folder.name}/ledgers"),
        render_config=RenderConfig(emit_datasets=False),
        operator_args={"env": {"RECOVERY_RUN": "one"}},
    )
