"""One project twice: a task for each of its models, and one task for all of them."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig

HERE = Path(os.environ["E2E_HOME"])

for dag_id, render in (
    ("counted", RenderConfig(emit_datasets=False)),
    ("counted_at_once", RenderConfig(emit_datasets=False, granularity="folder")),
):
    DbtDag(
        dag_id,
        schedule=None,
        start_date=datetime(2026, 1, 1),
        catchup=False,
        project_config=ProjectConfig(dbt_project_path=HERE / "counted"),
        profile_config=ProfileConfig(profile_name="counted", profiles_yml_filepath=HERE / "counted" / "profiles.yml"),
        execution_config=ExecutionConfig(ledger_uri=str(HERE / "ledger")),
        render_config=render,
    )
