"""A DAG that is never run, whose ledgers tests/e2e/test_ui.py writes: two here, and one where there is no bucket."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from airflow.sdk import DAG

from ledger_watcher_airflow import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig

HERE = Path(os.environ["E2E_HOME"])

with DAG("shown", schedule=None, start_date=datetime(2026, 1, 1), catchup=False, is_paused_upon_creation=True):
    for group, ledger in (("dbt", str(HERE / "ledger")), ("other", str(HERE / "ledger")), ("far", "s3://no-such-bucket/ledgers")):
        DbtTaskGroup(
            group,
            project_config=ProjectConfig(dbt_project_path=HERE / "broken"),
            profile_config=ProfileConfig(profile_name="broken", profiles_yml_filepath=HERE / "broken" / "profiles.yml"),
            execution_config=ExecutionConfig(ledger_uri=ledger),
        )
