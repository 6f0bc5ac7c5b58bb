"""A DAG for each folder of projects that tests/e2e/scenes.py prepared: with a warehouse and a folder of switches of its own."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig

HERE = Path(os.environ["E2E_HOME"])
RETRIES = {"flaky": 1, "killed_retried": 1, "killed_recovery": 1, "lost_recovery": 1, "timed_out": 1, "early_flaky": 1}

for folder in sorted((HERE / "recovery").iterdir()):
    backfilled = folder.name == "backfilled"
    deployed = folder / "deployed.json"  # the manifest that the DAG is drawn from, where the project has moved on
    DbtDag(
        folder.name,
        schedule="@daily" if backfilled else None,
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        end_date=datetime(2026, 1, 2, tzinfo=timezone.utc) if backfilled else None,  # nothing is due but a backfill
        catchup=False,
        default_args={
            "retries": RETRIES.get(folder.name, 0),
            "retry_delay": timedelta(seconds=1),
            "depends_on_past": backfilled,
        },
        project_config=ProjectConfig(
            dbt_project_path=folder,
            manifest_path=deployed if deployed.exists() else None,
        ),
        profile_config=ProfileConfig(profile_name="recovery", profiles_yml_filepath=folder / "profiles.yml"),
        execution_config=ExecutionConfig(ledger_uri=str(HERE / "ledger"), start_with_run=folder.name.startswith("early")),
        render_config=RenderConfig(
            emit_datasets=False,  # not what is looked at there
            granularity=(lambda node: "down" if node.name == "below" else "up") if folder.name == "grouped" else "node",
        ),
        # DuckDB lets one process write at a time, so two runs at once need two files.
        operator_args={"env": {"RECOVERY_RUN": "{{ dag_run.conf.get('warehouse', 'one') }}"}},
    )
