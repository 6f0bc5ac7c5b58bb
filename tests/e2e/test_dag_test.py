"""`airflow dags test`: the whole DAG in one process, without a scheduler and a triggerer."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import HERE, PROJECTS
from tests.e2e.scenes import parse


def test_a_dag_runs_in_one_process(tmp_path: Path) -> None:
    """The tasks of nodes take their turn after the producer and end as they would anywhere; what was built is told."""
    (tmp_path / "dags").mkdir()
    shutil.copy(HERE / "dags" / "failing_dags.py", tmp_path / "dags")
    shutil.copytree(PROJECTS / "broken", tmp_path / "broken")
    parse({tmp_path / "broken": {"BROKEN_DUCKDB_PATH": ":memory:"}})
    shutil.copytree(tmp_path / "broken", tmp_path / "no_bucket")
    database = tmp_path / "airflow" / "airflow.db"
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}",
        "E2E_HOME": str(tmp_path),
        "LEDGER_WATCHER_CACHE_DIR": str(tmp_path / "cache"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], env=env, capture_output=True, timeout=120, check=True)
    done = subprocess.run([airflow, "dags", "test", "broken"], env=env, capture_output=True, text=True, timeout=240, check=False)
    with sqlite3.connect(database) as connection:
        states = dict(connection.execute("select task_id, state from task_instance").fetchall())
    assert states == {
        "dbt_producer_watcher": "success",
        "good.run": "success",
        "good.test": "success",
        "tested.run": "success",
        "tested.test": "failed",
        "beside_run": "success",
        "bad_run": "failed",
        "below_tested_run": "upstream_failed",
        "below_bad_run": "upstream_failed",
        "dbt_assets": "success",
    }, done.stdout
    assert "no_such_column" in done.stdout
