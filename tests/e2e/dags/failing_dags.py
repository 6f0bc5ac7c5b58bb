"""A project with a model that fails on purpose, and ledgers that cannot be written."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig

HERE = Path(os.environ["E2E_HOME"])
COMMON = {"schedule": None, "start_date": datetime(2026, 1, 1), "catchup": False}


def dag(dag_id: str, ledger: str) -> None:
    folder = HERE / dag_id
    DbtDag(
        dag_id,
        **COMMON,
        project_config=ProjectConfig(dbt_project_path=folder, env_vars={"BROKEN_DUCKDB_PATH": str(folder / "broken.duckdb")}),
        profile_config=ProfileConfig(profile_name="broken", profiles_yml_filepath=folder / "profiles.yml"),
        execution_config=ExecutionConfig(ledger_uri=ledger),
    )


dag("broken", str(HERE / "ledger"))
dag("no_bucket", "s3://no-such-bucket/ledgers")
