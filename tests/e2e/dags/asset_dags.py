"""Projects that tell of what they built, by one task and by each node's own, and DAGs that start by it."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from ledger_watcher_airflow import AssetMode, DbtDag, DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig, dbt_asset

HERE = Path(os.environ["E2E_HOME"])
COMMON = {"start_date": datetime(2026, 1, 1), "catchup": False}


def dbt(name: str, mode: AssetMode) -> dict[str, object]:
    folder = HERE / name
    return {
        "project_config": ProjectConfig(dbt_project_path=folder, env_vars={"BROKEN_DUCKDB_PATH": str(folder / f"{name}.duckdb")}),
        "profile_config": ProfileConfig(profile_name="broken", profiles_yml_filepath=folder / "profiles.yml"),
        "execution_config": ExecutionConfig(ledger_uri=str(HERE / "ledger")),
        "render_config": RenderConfig(asset_mode=mode),
    }


with DAG("told", schedule=None, **COMMON):
    DbtTaskGroup("dbt", **dbt("told", AssetMode.PER_RUN)) >> EmptyOperator(task_id="after")
DbtDag("own", schedule=None, **COMMON, **dbt("own", AssetMode.PER_NODE))

for name in ("good", "bad"):
    with DAG(f"by_{name}", schedule=dbt_asset(f"told.main.{name}"), **COMMON):
        EmptyOperator(task_id="go")
