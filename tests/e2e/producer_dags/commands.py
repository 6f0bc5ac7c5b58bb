"""A project with failing nodes and a hostile variable, run by producers that are commands: in another environment, on another host."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from ledger_watcher_airflow import DbtDag, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig, bash_producer, ssh_producer

HERE = Path(os.environ["E2E_HOME"])
ELSEWHERE = Path(os.environ["E2E_DBT_VENV"]) / "bin"
HOSTILE = os.environ["E2E_HOSTILE"]
WATCHER = [str(ELSEWHERE / "ledger-watcher")]


def dag(dag_id: str, producer: object) -> None:
    folder = HERE / dag_id
    DbtDag(
        dag_id,
        schedule=None,
        start_date=datetime(2026, 1, 1),
        catchup=False,
        project_config=ProjectConfig(
            dbt_project_path=folder, env_vars={"BROKEN_DUCKDB_PATH": str(folder / "broken.duckdb")}, dbt_vars={"given": HOSTILE}
        ),
        profile_config=ProfileConfig(profile_name="broken", profiles_yml_filepath=folder / "profiles.yml"),
        execution_config=ExecutionConfig(ledger_uri=os.environ["E2E_S3_LEDGER"], dbt_executable_path=ELSEWHERE / "dbt", producer=producer),
        render_config=RenderConfig(emit_datasets=False),  # not what is looked at there
        operator_args={"vars": {"conf": "{{ dag_run.conf['word'] }}"}},
    )


dag("by_bash", bash_producer(watcher=WATCHER))
dag("by_ssh", ssh_producer(ssh_conn_id="elsewhere", watcher=WATCHER))
