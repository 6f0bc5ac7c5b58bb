"""A project whose tasks run dbt each for itself, and a single command behind them."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from airflow.sdk import DAG

from ledger_watcher_airflow import DbtLSLocalOperator, DbtTaskGroup, ExecutionConfig, ExecutionMode, ProfileConfig, ProjectConfig

FOLDER = Path(os.environ["E2E_HOME"]) / "each"
ENV = {"EACH_DUCKDB_PATH": str(FOLDER / "each.duckdb")}
PROFILE = ProfileConfig(profile_name="each", profiles_yml_filepath=FOLDER / "profiles.yml")


def keep(project_dir: str, context: dict[str, object]) -> None:
    """A callback: puts the run_results.json of each task aside."""
    kept = FOLDER / "kept" / f"{context['ti'].task_id}.json"  # type: ignore[attr-defined]
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes((Path(project_dir) / "target" / "run_results.json").read_bytes())


with DAG("each", schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=1):  # DuckDB lets one process write at a time
    DbtTaskGroup(
        "dbt",
        project_config=ProjectConfig(dbt_project_path=FOLDER, env_vars=ENV),
        profile_config=PROFILE,
        execution_config=ExecutionConfig(execution_mode=ExecutionMode.LOCAL),
        operator_args={"callback": keep, "vars": {"one": "{{ dag_run.conf['one'] }}"}},
    ) >> DbtLSLocalOperator(
        task_id="ls", project_dir=FOLDER, profile_config=PROFILE, env=ENV, invocation_mode="subprocess", trigger_rule="all_done"
    )
